"""Writes the measured tables of README.md and docs/results/README.md from the JSON files in docs/results.

Usage: python tools/make_results.py [--check]

The JSON files come from the scripts in benchmarks/ (``--json``) and from ``netpress demo --json``.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
START, END = "<!-- RESULTS: written by tools/make_results.py -->", "<!-- END OF RESULTS -->"
FIRST_SCREEN = {
    "resnet56": "ResNet-56, CIFAR-10",
    "mobilenet_v1_075_224": "MobileNetV1 0.75, ImageNet",
    "vit_c10": "ViT, CIFAR-10",
    "dncnn_gray25": "DnCNN, denoising",
    "ds_cnn_l": "DS-CNN, keyword spotting",
    "shakespeare": "LSTM, characters",
    "siren_kodim15": "SIREN, one image",
}
FIRST_SCREEN_QPS = (-30, -20)


def load(name: str) -> Any:
    """Return the content of one results file."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def kilobytes(count: float) -> str:
    """Return a size as people read it."""
    return f"{count / 1000:,.0f} kB" if count >= 100_000 else f"{count / 1000:.1f} kB"


def sizes_table(rows: list[dict[str, Any]]) -> str:
    """The models of the first screen, at two qps."""
    at = {(row["model"], row["qp"]): row for row in rows}
    heads = "".join(f" NNCodec, qp {qp} | netpress | |" for qp in FIRST_SCREEN_QPS)
    lines = [f"| model | float32 |{heads}", "|---|---:|" + "---:|---:|---:|" * len(FIRST_SCREEN_QPS)]
    for model, title in FIRST_SCREEN.items():
        cells = ""
        for qp in FIRST_SCREEN_QPS:
            row = at[model, qp]
            gain = 100 * (row["netpress"] / row["nncodec"] - 1)
            cells += f" {kilobytes(row['nncodec'])} | **{kilobytes(row['netpress'])}** | {gain:+.1f} % |"
        lines.append(f"| {title} | {kilobytes(at[model, FIRST_SCREEN_QPS[0]]['float_bytes'])} |{cells}")
    return "\n".join(lines)


def first_screen() -> str:
    """What README shows first."""
    sizes = load("sizes")["rows"]
    demo = {row["setting"]: row for row in load("demo")}
    floats, small = demo["float32 file"], demo["qp -32"]
    smaller = sum(row["netpress"] < row["nncodec"] for row in sizes)
    same = all(row["nncodec_decodes_same_floats"] for row in sizes)
    if not same:
        raise SystemExit("NNCodec does not decode a stream of sizes.json to the same floats")
    models = len({row["model"] for row in sizes})
    return "\n".join(
        [
            START,
            sizes_table(sizes),
            "",
            f"Bytes at the same settings in one run; smaller in {smaller} of {len(sizes)} runs on {models} models.",
            "At coarse steps a part of that is a slightly larger weight error: the",
            "[results](docs/results/README.md) show it beside each size. NNCodec decodes every one of these streams to",
            f"the same floats. The digits network of the demo goes from {kilobytes(floats['bytes'])} to "
            f"{kilobytes(small['bytes'])} at qp -32, its accuracy",
            f"from {100 * floats['accuracy']:.2f} % to {100 * small['accuracy']:.2f} %.",
            "",
            *calibrated_lines(),
            END,
        ]
    )


def calibrated_lines() -> list[str]:
    """What calibration brings, in a sentence."""
    tables, tasks = from_benchmark("quality_tables"), load("quality")["tasks"]
    first, *_, last = tables.TARGETS
    means = [tables.mean_change(tables.saving(task, at) for task in tasks.values()) for at in (first, last)]
    return [
        "With some hundred unlabelled inputs (`netpress.compress`, `netpress.calibrate`) far more goes: at equal",
        f"divergence of the outputs {-100 * means[0]:.0f} to {-100 * means[1]:.0f} % fewer bytes than NNCodec's best "
        f"settings, as geometric mean over {len(tasks)}",
        "networks ([by network](docs/results/quality.md)). With retraining, even smaller: "
        "[low rank and clusters](docs/results/chain.md).",
    ]


def results_page() -> str:
    """docs/results/README.md."""
    sizes, memory = load("sizes"), load("memory")
    lines = [
        "# Measured results",
        "",
        "Written by `tools/make_results.py` from the JSON files in this folder. NNCodec 2.1.3 runs in an environment",
        "of its own (`benchmarks/peer.py`); the models are public ones that this repository does not contain.",
        "",
        "## Size at equal settings",
        "",
        f"`python benchmarks/size.py --json docs/results/sizes.json`, effort {sizes['effort']}. The weight error is",
        "the mean squared error of all weights over their mean square: netpress's quantiser trades a little of it for",
        "rate.",
        "",
        "| model | float32 bytes | qp | NNCodec | netpress | difference | weight error NNCodec / netpress |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {r['model']} | {r['float_bytes']:,} | {r['qp']} | {r['nncodec']:,} | {r['netpress']:,} "
        f"| {100 * (r['netpress'] / r['nncodec'] - 1):+.2f} % "
        f"| {r['nncodec_weight_error_db']:.2f} / {r['netpress_weight_error_db']:.2f} dB |"
        for r in sizes["rows"]
    ]
    lines += [
        "",
        "Without any loss, zstd at level 19 on the files as they are, and on their values split into planes of first,",
        "second ... bytes (the same script):",
        "",
        *from_benchmark("size").lossless_table(sizes).split("\n"),
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


def table_lines(head: str, align: str, rows: list[list[str]]) -> list[str]:
    """A table in Markdown after an empty line; ``align`` has a letter for each column: l or r."""
    rule = "|".join("---" if letter == "l" else "---:" for letter in align)
    return ["", head, f"|{rule}|", *(f"| {' | '.join(cells)} |" for cells in rows)]


def chain_page() -> str:
    """docs/results/chain.md: the core experiments redone."""
    chain = load("chain")
    lines = [
        "# The chain of the core experiments",
        "",
        "Written by `tools/make_results.py` from chain.json.",
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


def quality_page() -> str:
    """docs/results/quality.md: bytes at equal quality, task by task."""
    tables = from_benchmark("quality_tables")
    tasks = load("quality")["tasks"]
    if not all(row.get("decoded_alike", True) for result in tasks.values() for row in result["rows"]):
        raise SystemExit("NNCodec and netpress decode a stream of quality.json to different floats")
    checked = sum("decoded_alike" in row for result in tasks.values() for row in result["rows"])
    lines = [
        "# Bytes at equal quality",
        "",
        "Written by `tools/make_results.py` from quality.json, which `python benchmarks/quality.py --threads 1` makes.",
        "",
        "*Divergence*: mean Kullback-Leibler divergence, in nats, of the outputs from those of the float network, on",
        "evaluation samples that calibration has not seen; no labels are used. Bytes at a divergence are interpolated",
        "between the points of a row, on logarithms. *Transparent*: bytes at which the metric has become worse by 0.5",
        "points (percent), or by 0.5 % of the float metric where it has another unit. *By row*: where the metric of",
        "each row first does, which on so few samples is uncertain by a tenth of the bytes and more. *By divergence*:",
        "at the divergence where the loss of all points together, made to grow by isotonic regression, passes the",
        "limit.",
        "",
        "NNCodec 2.1.3 with dependent quantisation; its best is the least of all its rows, netpress's the least of its",
        "rows. *Folded*: batch norms folded where the network has any, and vectors coded 14 qps finer than weights, as",
        "`netpress.compress` does it; this holds for the row without data too, while the other rows of netpress have",
        "vectors at qp -75. *Steps*: layers get steps by their sensitivity. *Rate*: the rate joins the trellis search.",
        "*Everything*: also rows quantised jointly and corrections in biases and batch norms, as",
        "`netpress.encode(calibration=...)` does it. Negative numbers are bytes saved.",
        "Rows that a table lacks were not measured.",
        "",
        f"NNCodec decoded {checked} of these streams, of both codecs, to the same floats as netpress.",
        "",
        "## All tasks",
        "",
        "netpress's best against NNCodec's best; and the trellis with its rate against uniform quantisation, all else",
        "being equal (feedback, steps, folded). Means are geometric, over 21 divergences as far as both were measured.",
        "",
        *tables.summary_table(tasks),
    ]
    for name, result in tasks.items():
        unit = f" {result['unit']}" if result["unit"] else ""
        errors = [p["standard_error"] / p["divergence"] for row in result["rows"] for p in row["points"]]
        lines += [
            "",
            f"## {name}",
            "",
            f"{result['metric']}, float: {result['baseline']:.4g}{unit}; {result['float_bytes']:,} bytes of floats; "
            f"{result['evaluation_samples']} evaluation",
            f"samples, {result['calibration_samples']} for calibration, "
            f"which took {result['calibration_seconds']:.1f} s. "
            f"Standard error of a divergence: {100 * sorted(errors)[len(errors) // 2]:.0f} % of it",
            "in the middle of all points. Seconds are those of quantising and encoding one stream, on a shared",
            "machine.",
            "",
            *tables.task_table(result),
            "",
            f"![divergence against bytes](quality-{name}.svg)",
        ]
    return "\n".join([*lines, *ablation_lines()]) + "\n"


def ablation_lines() -> list[str]:
    """What each ingredient of calibrated quantisation brings, if that was measured."""
    if not (RESULTS / "ablation.json").exists():
        return []
    return [
        "",
        "## What each ingredient brings",
        "",
        "`python benchmarks/ablation.py --threads 1`: bytes at equal divergence of everything",
        "(`netpress.encode(calibration=...)`, effort 8), and how many more are needed if one ingredient is left out.",
        "Differences of two per cent and less are within the scatter of the points.",
        "",
        *from_benchmark("quality_tables").ablation_table(load("ablation")["tasks"]),
    ]


def rate_distortion_page() -> str:
    """docs/results/rate-distortion.md: what is saved without data."""
    rows = load("rate-distortion")["rows"]
    lines = [
        "# Bits at equal weight error",
        "",
        "Written by `tools/make_results.py` from rate-distortion.json, which",
        "`python benchmarks/rate_distortion.py --json docs/results/rate-distortion.json` makes. Against NNCodec's",
        "dependent quantisation at the same mean squared error, at the bits per weight of netpress that stand in the",
        "head. Negative numbers are bits saved. *0 passes*: NNCodec's own search with a rate. *Best of them*: at each",
        "rate the best weight of the rate, with the step that fits it.",
        "",
        *from_benchmark("result_tables").rate_distortion_table(rows),
    ]
    if (RESULTS / "allocation.json").exists():
        lines += [
            "",
            "# Bytes at equal divergence, without data",
            "",
            "From allocation.json, which `python benchmarks/allocation.py --json docs/results/allocation.json` makes.",
            "Against NNCodec's best row of the [quality table](quality.md) at divergences from 0.01 to 0.1, geometric",
            "mean, from lines fitted through the points of each row. Effort 8, batch norms folded.",
            "",
            *from_benchmark("result_tables").allocation_table(load("allocation")["tasks"]),
        ]
    return "\n".join(lines) + "\n"


def default_quality_page() -> str:
    """docs/results/default-quality.md: what the default settings keep."""
    lines = [
        "# Quality of the default settings",
        "",
        "Written by `tools/make_results.py` from default-quality.json, which",
        "`python benchmarks/default_quality.py --json docs/results/default-quality.json` makes: the metric of a",
        "network before `netpress.encode(module)` without any options, and after decoding, on the same evaluation",
        "samples. The difference has the standard error of resampling these in pairs.",
        "",
        *from_benchmark("result_tables").default_quality_table(load("default-quality")["tasks"]),
    ]
    return "\n".join(lines) + "\n"


def language_models_page() -> str:
    """docs/results/language-models.md: transformers, whole and block by block."""
    tables, results = from_benchmark("result_tables"), load("language-models")
    lines = [
        "# Transformers",
        "",
        "Written by `tools/make_results.py` from language-models.json, which",
        "`python benchmarks/language_models.py` makes. Bytes are interpolated between the points of a row, on",
        "logarithms; against the least of NNCodec's rows.",
        "",
        *tables.language_models_table(results["models"]),
    ]
    if "memory" in results:
        memory = results["memory"]
        lines += [
            "",
            f"Peak memory that is added while a decoder of {memory['model_bytes'] / 2**20:,.0f} MiB in one file, with",
            f"random weights and blocks of {memory['block_bytes'] / 2**20:,.0f} MiB, is calibrated, quantised and",
            "written:",
            "",
            *tables.memory_table(memory),
        ]
    return "\n".join(lines) + "\n"


def evaluation_page() -> str:
    """docs/results/evaluation.md: all use cases of the verification report."""
    content = load("evaluation")
    tasks = [task for task in content["tasks"] if "error" not in task]
    around = content["environment"]
    compared = [task for task in tasks if task["equal_divergence"]]
    equal = [task["equal_divergence"]["ratio"] for task in compared]
    goals = [0.7 if "netpress, calibrated" in task["equal_divergence_by_tool"] else 0.85 for task in compared]
    kept = sum(ratio <= goal for ratio, goal in zip(equal, goals, strict=True))
    reported = [task for task in tasks if task["reported_range"] and task["netpress"]]
    reached = [task for task in reported if task["reaches_reported"]]
    lines = [
        "# Every use case of the verification report",
        "",
        "Written by `tools/make_results.py` from evaluation.json, which `python tools/take_evaluation.py STORE`",
        "takes out of the store of one full run:",
        "",
        "```sh",
        "NETPRESS_PEER=PYTHON_WITH_NNCODEC netpress evaluate --all --data CORPUS --jobs 2 --store STORE",
        "netpress report --store STORE -o report",
        "```",
        "",
        f"{around['date']}, netpress {around['netpress']} beside NNCodec {around['NNCodec']}, PyTorch "
        f"{around['PyTorch']}, Python {around['Python']},",
        f"{around['cores']} cores ({around['processor']}).",
        *textwrap.wrap(content["note"], 116),
        "",
        "*Transparent* is the smallest stream that loses no more than 0.5 points, 0.1 dB or 0.5 % of the metric while",
        "no larger one that was tried loses more; *loss* has the 95 % interval of the same samples in pairs. *Report*",
        "is the rate of the verification report for its own, larger network. *Equal divergence*: bytes of netpress for",
        "one of NNCodec's best (dependent quantisation with and without opt_qp, batch norms folded or as factors,",
        "vectors at qp -50), geometric mean over all divergences that both reach.",
        "",
        "![transparent points of all tasks](evaluation/all.svg)",
        *table_lines(
            "| use case | task | parameters | float metric | netpress, transparent | loss | NNCodec | report | equal "
            "divergence | of that without data |",
            "llrrrrrrrr",
            [_evaluation_row(task) for task in sorted(tasks, key=_place)],
        ),
        "",
        f"At equal divergence netpress takes {min(equal):.2f} to {max(equal):.2f} of NNCodec's bytes, geometric mean "
        f"{_geometric_mean(equal):.2f}; {kept}",
        f"of {len(equal)} tasks keep to the goal (0.70 with calibration data, 0.85 without). {len(reached)} of "
        f"{len(reported)} tasks with a figure in the report",
        "are transparent at that rate or below.",
        "",
        "## Where the report's rate is not reached",
        "",
        "The networks here are small, and a small network that is trained to its limit has less to give. NNCodec,",
        "which has the tools of the report, needs so much on the same network and samples:",
        *table_lines(
            "| task | report, of a network | netpress | NNCodec | bits per weight, netpress | parameters |",
            "lrrrrr",
            [_missed_row(task) for task in sorted(reported, key=_place) if task not in reached],
        ),
        "",
        *[f"![size and quality of {path.stem}](evaluation/{path.name})" for path in _plots()],
    ]
    return "\n".join(lines) + "\n"


def _plots() -> list[Path]:
    return [path for path in sorted((RESULTS / "evaluation").glob("*.svg")) if path.stem != "all"]


def _geometric_mean(values: list[float]) -> float:
    return math.exp(sum(map(math.log, values)) / len(values))


def _place(task: dict[str, Any]) -> tuple[int, str]:
    from netpress.evaluate.use_cases import USE_CASES

    names = [name for case in USE_CASES for name in case.tasks]
    return names.index(task["task"]) if task["task"] in names else len(names), task["task"]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def _evaluation_row(task: dict[str, Any]) -> list[str]:
    ours, theirs, equal = task["netpress"], task["nncodec"], task["equal_divergence"]
    unit = f" {task['unit']}" if task["unit"] else ""
    loss = "–"
    if ours:
        low, high = ours["loss_interval"] or (ours["loss"], ours["loss"])
        loss = f"{ours['loss']:.3g}{unit} ({low:.2g} to {high:.2g})"
    free = task["equal_divergence_by_tool"].get("netpress")
    return [
        task["use_case"],
        task["task"],
        f"{task['parameters']:,}",
        f"{task['float_metric']:.4g}{unit} ({task['metric']})",
        _percent(ours["share"] if ours else None),
        loss,
        _percent(theirs["share"] if theirs else None),
        task["reported_rate"] or "–",
        f"{equal['ratio']:.2f}" if equal else "–",
        f"{free:.2f}" if free else "–",
    ]


def _missed_row(task: dict[str, Any]) -> list[str]:
    ours, theirs = task["netpress"], task["nncodec"]
    return [
        task["task"],
        task["reported_rate"],
        _percent(ours["share"]),
        _percent(theirs["share"] if theirs else None),
        f"{8 * ours['size'] / task['parameters']:.2f}",
        f"{task['parameters']:,}",
    ]


def federated_page() -> str:
    """docs/results/federated.md: traffic and quality of federated learning."""
    problems = load("federated")["problems"]
    titles = {
        "cifar10": "ResNet-20, CIFAR-10",
        "recsys": "recommender, MovieLens 1M",
        "digits": "small network, digits",
    }
    carriers = {
        "loop": "a loop in one process",
        "simulation": "Flower's simulation",
        "processes": "SuperLink and SuperNodes, gRPC",
    }
    rows, pictures = [], []
    for key in sorted(problems, key=lambda key: (list(titles).index(key.partition("-")[0]), key)):
        problem, name = problems[key], key.partition("-")[0]
        pairs = [(row["float32"]["metric"], row["netpress"]["metric"]) for row in problem["rows"]]
        coding = problem.get("coding_share_of_training_percent")
        rows.append(
            [
                titles[name],
                carriers[problem["engine"]],
                str(problem["steps"]),
                f"{problem['config']['memory']:g}",
                ", ".join(f"{plain:.2f} / {coded:.2f}" for plain, coded in pairs),
                f"{problem['metric_change']:+.2f}",
                f"{problem['traffic_share_percent']:.2f} %",
                "" if coding is None else f"{coding:.1f} %",
            ]
        )
        pictures.append(f"![bytes of each round, {titles[name]}, {carriers[problem['engine']]}](federated-{key}.svg)")
    settings = next(iter(problems.values()))
    lines = [
        "# Federated learning",
        "",
        "Written by `tools/make_results.py` from federated.json, which",
        "`python benchmarks/federated.py --data CORPUS --json docs/results/federated.json` makes, with `--engine` for",
        "what carries the messages, and `--steps` and `--config` for rows with other local steps and memory:",
        f"{settings['clients']} clients with shares that are not alike, {settings['rounds']} rounds, both directions",
        "and the first model counted, against FedAvg with float32. The metric in per cent is that of what the server",
        "has averaged after the last round: float32 / netpress for each seed. Coding is that of clients and server",
        "together, in shares of the clients' training, where the loop carries the messages.",
        *table_lines(
            "| problem | carried by | local steps | memory | metric | mean change | traffic | coding |",
            "llrrrrrr",
            rows,
        ),
        "",
        *pictures,
    ]
    return "\n".join(lines) + "\n"


def updates_page() -> str:
    """docs/results/updates.md: one update beside NNCodec, and chains of checkpoints."""
    tuned, runs = load("fine_tuning"), load("updates")["runs"]
    ways = {
        "netpress": "`encode(new, base=old)`",
        "netpress calibrated": "the same with `quantize_model(new, calibration, base=old)`",
        "nncodec": "NNCodec, difference coding with TCA",
        "nncodec coarse": "the same with coarser steps for biases and norms",
    }
    best = [(text, tuned["best"][way]) for way, text in ways.items()]
    qps = [row["qp"] for row in tuned["rows"]]
    lines = [
        "# Updates",
        "",
        "Written by `tools/make_results.py`.",
        "",
        "## One update of ResNet-20",
        "",
        "`python benchmarks/fine_tuning.py --data CORPUS --qps -34 -32 -30 -28 -26 -24 -22 -20 -18 --json",
        "docs/results/fine_tuning.json`: fine-tuned for an epoch on 5000 images of CIFAR-10,",
        f"{tuned['before']:.2f} % before and {tuned['after']:.2f} % after. Compared are the smallest updates that lose",
        f"less than half a point, of steps from qp {min(qps)} to {max(qps)}. TCA needs an update before, so that it",
        "does nothing for a single one. Each test image is 0.05 %.",
        *table_lines(
            "| | steps | bytes | of float32 | accuracy |",
            "lrrrr",
            [
                [
                    text,
                    f"qp {row['qp']}",
                    f"{row['bytes'][-1]:,}",
                    f"{100 * row['bytes'][-1] / tuned['float_bytes']:.2f} %",
                    f"{row['accuracy']:.2f} %",
                ]
                for text, row in best
                if row is not None
            ],
        ),
        "",
        "![bytes and accuracy of an update](fine_tuning.svg)",
        "",
        "## Fifty checkpoints",
        "",
        "`python benchmarks/updates.py --rate RATE --seed SEED --steps STEPS --json docs/results/updates.json`: a",
        "small convolutional network learns scikit-learn's digits; its checkpoints as streams of their own and as a",
        "chain of updates, with default settings. The learning rate falls to 0 over the run, so that late checkpoints",
        "differ little. The plot is of the first row.",
        *table_lines(
            "| learning rate | seed | steps between checkpoints | fifty streams | chain | keyframe every 10 versions "
            "| accuracy of the last, float / chain |",
            "rrrrrrr",
            [
                [
                    f"{run['rate']:g}",
                    str(run["seed"]),
                    str(run["steps"]),
                    f"{run['rows'][0]['apart']['bytes']:,}",
                    f"{100 * run['rows'][0]['chain']['share_of_apart']:.1f} %",
                    f"{100 * run['rows'][0]['chain_keyframe_every_10']['share_of_apart']:.1f} %",
                    f"{run['accuracy_float']:.1f} / {run['rows'][0]['chain']['accuracy_last']:.1f} %",
                ]
                for run in runs
            ],
        ),
        "",
        "![bytes of each checkpoint](updates.svg)",
    ]
    return "\n".join(lines) + "\n"


def speed_lines() -> list[str]:
    """The table of benchmarks/speed.py."""
    table = from_benchmark("speed").table(load("speed"))
    return ["`python benchmarks/speed.py --json docs/results/speed.json`.", "", table]


def from_benchmark(name: str) -> Any:
    """The module of a benchmark, which knows its own tables."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    return importlib.import_module(name)


def main() -> None:
    """Write the pages, or check that they are fresh."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    filled = re.sub(r"<!-- RESULTS.*?<!-- END OF RESULTS -->", lambda _: first_screen(), text, flags=re.DOTALL)
    pages = {readme: filled, RESULTS / "README.md": results_page()}
    if (RESULTS / "chain.json").exists():
        pages[RESULTS / "chain.md"] = chain_page()
    if (RESULTS / "quality.json").exists():
        pages[RESULTS / "quality.md"] = quality_page()
    for name, page in (
        ("rate-distortion", rate_distortion_page),
        ("default-quality", default_quality_page),
        ("language-models", language_models_page),
        ("evaluation", evaluation_page),
        ("federated", federated_page),
        ("updates", updates_page),
    ):
        if (RESULTS / f"{name}.json").exists():
            pages[RESULTS / f"{name}.md"] = page()
    for path, content in pages.items():
        if "--check" in sys.argv[1:]:
            if path.read_text(encoding="utf-8") != content:
                raise SystemExit(f"{path.name} is not fresh: run tools/make_results.py")
        else:
            path.write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
