"""docs/results/README.md: sizes at equal settings, memory and speed."""

from __future__ import annotations

from pages import size, speed
from pages.common import load
from places import RESULTS


def results_page() -> str:
    """docs/results/README.md."""
    sizes, memory = load("sizes"), load("memory")
    lines = [
        "# Measured results",
        "",
        "Written by `benchmarks/write_pages.py` from the JSON files in this folder. NNCodec 2.1.3 runs in an",
        "environment of its own (`benchmarks/rivals/nncodec.py`); the models are public ones that this repository does",
        "not contain.",
        "",
        "## Size at equal settings",
        "",
        f"`python benchmarks/size.py --json docs/results/sizes.json`, effort {sizes['effort']}. The weight error is",
        "the mean squared error of all weights over their mean square: netpress's quantiser trades a little of it for",
        "rate.",
        "",
        *size.table(sizes["rows"]),
        "",
        "Without any loss, zstd at level 19 on the files as they are, and on their values split into planes of first,",
        "second ... bytes (the same script):",
        "",
        *size.lossless_table(sizes),
        "",
        "## Memory",
        "",
        "`python benchmarks/memory.py --json docs/results/memory.json`: peak resident memory beyond the model and the",
        "result, ResNet-50-shaped model.",
        "",
        "| | model | added |",
        "|---|---:|---:|",
    ]
    lines += [
        f"| {r['verb']} | {r['model_bytes'] / 2**20:.0f} MiB | {r['added_bytes'] / 2**20:.0f} MiB |"
        for r in memory["rows"]
    ]
    if (RESULTS / "streaming.json").exists():
        streaming = load("streaming")
        lines += [
            "",
            "`python benchmarks/streaming.py --json docs/results/streaming.json`: a bfloat16 model of "
            f"{streaming['model_bytes'] / 2**30:.2f} GiB in shards,",
            "peak resident memory of each process.",
            "",
            "| step | seconds | peak resident |",
            "|---|---:|---:|",
        ]
        lines += [
            f"| {r['step']} | {r['seconds']:.0f} | {r['peak_bytes'] / 2**20:.0f} MiB |" for r in streaming["rows"]
        ]
    lines += ["", "## Speed", "", *speed_lines()]
    return "\n".join(lines) + "\n"


def speed_lines() -> list[str]:
    """The table of benchmarks/speed.py."""
    table = speed.table(load("speed"))
    return ["`python benchmarks/speed.py --json docs/results/speed.json`.", "", table]
