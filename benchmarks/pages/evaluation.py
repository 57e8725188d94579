"""docs/results/evaluation.md: all use cases of the verification report."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path
from typing import Any

from netpress.evaluate.use_cases import USE_CASES
from pages.common import load, table_lines
from places import RESULTS


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
        "Written by `benchmarks/write_pages.py` from evaluation.json, which `python benchmarks/evaluation.py STORE`",
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
