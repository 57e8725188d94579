"""docs/results/quality.md: bytes at equal divergence and transparent points of what benchmarks/quality.py measured.

Works on the content of quality.json alone. NNCodec's best is the least bytes of all its settings, netpress's best the
least of its rows; between points, bytes are interpolated on logarithms of bytes and divergence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from netpress.evaluate import curves, transparency
from pages.common import load
from places import RESULTS

TARGETS = (0.02, 0.05)
RANGE = np.geomspace(0.01, 0.1, 21)
"""Divergences of the means: points of two rows scatter, which the mean evens out."""
CODECS = ("NNCodec", "netpress")
UNIFORM, TRELLIS = "uniform + feedback, steps, folded", "trellis + feedback, steps, rate, folded"
EVERYTHING = "everything"

Row = dict[str, Any]


def bytes_at(row: Row, divergence: float) -> float:
    """Return the bytes of a row at a divergence; NaN outside of its points.

    Points that another one of the row beats in bytes and divergence are left out.
    """
    return curves.bytes_at([(p["divergence"], p["bytes"]) for p in row["points"]], divergence)


def transparent_bytes(row: Row, result: dict[str, Any]) -> tuple[float, bool]:
    """Return the bytes at the transparent point of a row, and whether that is only a bound."""
    sign = 1 if result["direction"] == "max" else -1
    losses = ((p["bytes"], sign * (result["baseline"] - p["metric"])) for p in row["points"])
    return transparency.transparent_bytes(losses, result["tolerance"])


def transparent_divergence(result: dict[str, Any]) -> float:
    """Return the divergence at which the metric falls below the tolerance, from the points of all rows together.

    Over all points in the order of their divergence, the loss is made to grow (isotonic regression). NaN if it never
    passes the tolerance.
    """
    sign = 1 if result["direction"] == "max" else -1
    points = sorted((p["divergence"], p["metric"]) for row in result["rows"] for p in row["points"])
    losses = isotonic([sign * (result["baseline"] - metric) for _, metric in points])
    over = np.flatnonzero(losses > result["tolerance"])
    if not len(over) or over[0] == 0:
        return math.nan
    i = int(over[0])
    low, high = (math.log(points[k][0]) for k in (i - 1, i))
    share = (result["tolerance"] - losses[i - 1]) / (losses[i] - losses[i - 1])
    return math.exp(low + share * (high - low))


def isotonic(values: Iterable[float]) -> Any:
    """Return the growing sequence that is nearest in squares: neighbours that fall are averaged."""
    runs: list[list[float]] = []
    for value in values:
        runs.append([value, 1])
        while len(runs) > 1 and runs[-2][0] > runs[-1][0]:
            (first, count), (second, more) = runs[-2:]
            runs[-2:] = [[(first * count + second * more) / (count + more), count + more]]
    return np.concatenate([np.full(int(count), value) for value, count in runs])


def rows_of(result: dict[str, Any], codec: str) -> list[Row]:
    """Return the rows of one codec."""
    return [row for row in result["rows"] if row["codec"] == codec]


def best(rows: Iterable[Row], measure: Callable[[Row], float]) -> float:
    """Return the least bytes of some rows; NaN if none has any."""
    return min((size for size in map(measure, rows) if size > 0), default=math.nan)


def best_at(result: dict[str, Any], codec: str, divergence: float) -> float:
    """Return the least bytes of one codec at a divergence."""
    return best(rows_of(result, codec), lambda row: bytes_at(row, divergence))


def saving(result: dict[str, Any], divergence: float) -> float:
    """Return by how much netpress's best changes the bytes of NNCodec's best at a divergence."""
    return best_at(result, "netpress", divergence) / best_at(result, "NNCodec", divergence) - 1


def best_transparent(result: dict[str, Any], codec: str) -> tuple[float, bool]:
    """Return the least bytes of one codec within the tolerance, and whether that is only a bound."""
    found = [transparent_bytes(row, result) for row in rows_of(result, codec)]
    return min((pair for pair in found if pair[0] > 0), default=(math.nan, True))


def trellis_saving(result: dict[str, Any], divergence: float) -> float:
    """Return by how much the trellis with its rate changes the bytes of uniform quantisation, all else equal."""
    rows = {row["label"]: row for row in rows_of(result, "netpress")}
    if not {TRELLIS, UNIFORM} <= rows.keys():
        return math.nan
    return bytes_at(rows[TRELLIS], divergence) / bytes_at(rows[UNIFORM], divergence) - 1


def mean_change(changes: Iterable[float]) -> float:
    """Return the geometric mean of relative changes, without those that are NaN."""
    logarithms = [math.log1p(change) for change in changes if not math.isnan(change)]
    return math.expm1(sum(logarithms) / len(logarithms)) if logarithms else math.nan


def _percent(change: float) -> str:
    return "-" if math.isnan(change) else f"{100 * change:+.1f} %"


def _count(size: float) -> str:
    return "-" if math.isnan(size) else f"{size:,.0f}"


def summary_table(tasks: dict[str, Any]) -> list[str]:
    """Lines of the table over all tasks: netpress's best against NNCodec's best."""
    span = f"mean {RANGE[0]:g} to {RANGE[-1]:g}"
    heads = [f"at {t}" for t in TARGETS] + ["transparent, by divergence", "transparent, by row", span]
    heads += [f"trellis / uniform at {t}" for t in TARGETS] + [f"trellis / uniform, {span}"]
    lines = ["| task | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    columns: list[list[float]] = [[] for _ in heads]
    for name, result in tasks.items():
        changes = [saving(result, t) for t in TARGETS]
        point = transparent_divergence(result)
        changes.append(saving(result, point))
        (ours, ours_bound), (theirs, theirs_bound) = (best_transparent(result, c) for c in ("netpress", "NNCodec"))
        changes.append(ours / theirs - 1)
        changes.append(mean_change(saving(result, t) for t in RANGE))
        changes += [trellis_saving(result, t) for t in TARGETS]
        changes.append(mean_change(trellis_saving(result, t) for t in RANGE))
        cells = [_percent(change) for change in changes]
        if not math.isnan(point):
            cells[len(TARGETS)] += f" (at {point:.3f})"
        if ours_bound or theirs_bound:
            cells[len(TARGETS) + 1] += " (bound)"
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        for column, change in zip(columns, changes, strict=True):
            column.append(change)
    lines.append("| geometric mean | " + " | ".join(_percent(mean_change(column)) for column in columns) + " |")
    return lines


def task_table(result: dict[str, Any]) -> list[str]:
    """Lines of the table of one task: bytes, also as a share of NNCodec's best."""
    heads = [f"bytes at {t} | against NNCodec" for t in TARGETS]
    lines = ["| encoder | " + " | ".join(heads) + " | transparent | qps | divergences | seconds |"]
    lines.append("|---|" + "---:|---:|" * len(TARGETS) + "---:|---:|---:|---:|")
    for row in result["rows"]:
        cells = []
        for target in TARGETS:
            size = bytes_at(row, target)
            cells += [_count(size), _percent(size / best_at(result, "NNCodec", target) - 1)]
        size, is_bound = transparent_bytes(row, result)
        cells.append(("at most " if is_bound and not math.isnan(size) else "") + _count(size))
        qps, found = ([p[key] for p in row["points"]] for key in ("qp", "divergence"))
        cells += [f"{min(qps)} to {max(qps)}", f"{min(found):.3f} to {max(found):.3f}"]
        cells.append(f"{np.mean([p['seconds'] for p in row['points']]):.1f}")
        lines.append(f"| {row['codec']}: {row['label']} | " + " | ".join(cells) + " |")
    return lines


def ablation_table(tasks: dict[str, Any]) -> list[str]:
    """Lines of the table of ablation.json: what each row needs more than the one with everything."""
    span = f"mean {RANGE[0]:g} to {RANGE[-1]:g}"
    heads = [f"{name}, {what}" for name in tasks for what in (*(f"at {t}" for t in TARGETS), span)]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    labels = dict.fromkeys(row["label"] for result in tasks.values() for row in result["rows"])
    for label in labels:
        cells = []
        for result in tasks.values():
            rows = {row["label"]: row for row in result["rows"]}
            if label not in rows or EVERYTHING not in rows:
                cells += ["-"] * (len(TARGETS) + 1)
                continue
            row, everything = rows[label], rows[EVERYTHING]
            if label == EVERYTHING:
                cells += [f"{_count(bytes_at(row, t))} bytes" for t in TARGETS] + [""]
                continue
            changes = {t: bytes_at(row, t) / bytes_at(everything, t) - 1 for t in (*TARGETS, *RANGE)}
            cells += [_percent(changes[t]) for t in TARGETS] + [_percent(mean_change(changes[t] for t in RANGE))]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines


def quality_page() -> str:
    """docs/results/quality.md: bytes at equal quality, task by task."""
    tasks = load("quality")["tasks"]
    if not all(row.get("decoded_alike", True) for result in tasks.values() for row in result["rows"]):
        raise SystemExit("NNCodec and netpress decode a stream of quality.json to different floats")
    checked = sum("decoded_alike" in row for result in tasks.values() for row in result["rows"])
    lines = [
        "# Bytes at equal quality",
        "",
        "Written by `benchmarks/write_pages.py` from quality.json, which",
        "`python benchmarks/quality.py --threads 1` makes.",
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
        *summary_table(tasks),
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
            *task_table(result),
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
        *ablation_table(load("ablation")["tasks"]),
    ]
