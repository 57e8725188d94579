"""docs/results/chain.md: the core experiments redone."""

from __future__ import annotations

from typing import Any

from pages.common import load, table_lines


def chain_page() -> str:
    """docs/results/chain.md: the core experiments redone."""
    chain = load("chain")
    lines = [
        "# The chain of the core experiments",
        "",
        "Written by `benchmarks/write_pages.py` from chain.json.",
        "",
        "`python benchmarks/chain.py --data CORPUS --threads 1`, one run, one seed. Percentages are of the float32",
        "network. *Counted*: as core experiment 2 did, indexes of equal length, 4 bytes for each entry of a codebook",
        "and for each other value. *Static*: an arithmetic coder with transmitted probabilities (core experiment 3).",
        "NNCodec's codebook mode has one step for all tensors, so its values differ a little; it takes long and was",
        "run for few bits. At the end of each section: the smallest of all streams of netpress with at least the",
        "metric of a clustered network, against its counted size.",
    ]
    for name, model in chain["models"].items():
        lines += chain_section(model)
        lines += ["", f"![metric against size](chain-{name}.svg)"]
    return "\n".join(lines) + "\n"


def chain_section(model: dict[str, Any]) -> list[str]:
    """What was measured with one model."""
    whole = model["float_bytes"]
    unit = f" {model['unit']}" if model["unit"] else ""

    def share(size: int | None) -> str:
        return "" if size is None else f"{size / whole:.2%}"

    lines = [
        "",
        f"## {model['task']}",
        "",
        f"{model['metric']}, float: {model['baseline']:.2f}{unit}; {whole:,} bytes.",
    ]
    ranks = [
        [f"{r['kept']:.1%}", f"{r['before']:.2f}", f"{r['after']:.2f}", str(r["epochs"])] for r in model["low_rank"]
    ]
    if ranks:
        lines += table_lines("| parameters kept | before retraining | after | epochs |", "rrrr", ranks)
    else:
        lines += ["", "Low rank was not run on this network."]
    if model.get("limit"):
        lines += ["", f"Metrics on {model['limit']} samples."]
    clusters = [
        [source, str(r["bits"]), f"{r['metric']:.2f}"]
        + [share(r[f"{kind}_bytes"]) for kind in ("fixed_length", "static", "nncodec", "coded")]
        for source, rows in model["clusters"].items()
        for r in rows
    ]
    lines += table_lines("| clusters of | bits | metric | counted | static | NNCodec | netpress |", "lrrrrrr", clusters)
    points = [
        [source, "; ".join(f"{share(r['bytes'])}: {r['metric']:.2f}" for r in rows)]
        for source, rows in model["netpress"].items()
    ]
    lines += table_lines("| all tools of netpress on | share of float32: metric |", "ll", points)
    savings = []
    for source, rows in model["clusters"].items():
        for r in rows:
            best = smallest_stream(model, r["metric"])
            if best is not None:
                counted = r["fixed_length_bytes"]
                sizes = [f"{counted:,}", f"{best:,}", f"{1 - best / counted:.1%}"]
                savings.append([source, str(r["bits"]), f"{r['metric']:.2f}", *sizes])
    return lines + table_lines("| clusters of | bits | metric | counted | smallest | saved |", "lrrrrr", savings)


def smallest_stream(model: dict[str, Any], metric: float) -> int | None:
    """The bytes of the smallest of netpress's streams of a model with at least this metric."""
    sign = 1 if model["direction"] == "max" else -1
    streams = [(r["metric"], r["bytes"]) for rows in model["netpress"].values() for r in rows]
    streams += [(r["metric"], r["coded_bytes"]) for rows in model["clusters"].values() for r in rows]
    return min((size for found, size in streams if sign * found >= sign * metric), default=None)
