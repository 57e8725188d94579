"""Results for other programs and other documents: JSON, CSV, Markdown."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import netpress
from netpress.evaluate.report.findings import OURS, THEIRS, Findings
from netpress.evaluate.report.tables import Table, overview_table, transparent_table
from netpress.evaluate.report.text import NOTHING, bytes_text, number_text, printable, rate_text, ratio_text

__all__ = [
    "FORMAT",
    "TEMPLATE",
    "json_text",
    "markdown_table",
    "measurements_csv",
    "overview_csv",
    "overview_markdown",
    "task_markdown",
    "template_entries",
]

FORMAT = "netpress evaluation"
"""Value of "format" in the JSON file, by which a folder with a report is known."""

TEMPLATE = ("use case", "network", "layers", "data", "environment")
"""Headings of the verification report's template for a task, before the results."""


def json_text(tasks: Sequence[Findings]) -> str:
    """Return everything that is known of the tasks as JSON; numbers that are not finite become null."""
    entries = [{**dataclasses.asdict(found.results), "findings": _derived(found)} for found in tasks]
    content = {"format": FORMAT, "version": netpress.__version__, "tasks": entries}
    return json.dumps(_plain(content), indent=1, allow_nan=False) + "\n"


def _derived(found: Findings) -> dict[str, Any]:
    equal = found.equal_divergence
    return {
        "netpress_transparent_bytes": None if found.ours is None else found.ours.size,
        "netpress_transparent_rate": found.rate(found.ours),
        "nncodec_transparent_bytes": None if found.theirs is None else found.theirs.size,
        "nncodec_transparent_rate": found.rate(found.theirs),
        "transparent_ratio": found.transparent_ratio,
        "equal_divergence": None if equal is None else dataclasses.asdict(equal),
        "reaches_reported_rate": found.reaches_reported,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def overview_csv(tasks: Sequence[Findings]) -> str:
    """Return a line for each task, with numbers in full."""
    rows = []
    for findings in tasks:
        s = findings.summary
        rows.append(
            {
                "task": s.name,
                "use_case": findings.use_case,
                "metric": s.metric,
                "unit": s.unit,
                "direction": s.direction,
                "samples": s.samples,
                "float_metric": s.float_metric,
                "float_low": s.float_interval[0],
                "float_high": s.float_interval[1],
                "parameters": s.parameters,
                "original_bytes": s.original_bytes,
                "tolerance": s.tolerance,
                "reported_rate": s.reported_rate,
                "reported_model": s.reported_model,
                **_csv_findings(findings),
                "error": findings.results.error,
            }
        )
    return _csv(rows)


def _csv_findings(found: Findings) -> dict[str, Any]:
    derived = _derived(found)
    equal = derived.pop("equal_divergence") or {}
    return {**derived, "equal_divergence_ratio": equal.get("ratio")}


def measurements_csv(tasks: Sequence[Findings]) -> str:
    """Return a line for each measurement of each task."""
    rows = []
    for found in tasks:
        for m in found.results.measurements:
            row = {"task": found.summary.name, **dataclasses.asdict(m), "rate": found.rate(m)}
            row["options"] = json.dumps(_plain(m.options))
            for name in ("metric", "loss"):
                bounds = row.pop(f"{name}_interval") or (None, None)
                row[f"{name}_low"], row[f"{name}_high"] = bounds
            rows.append(row)
    return _csv(rows)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    content = io.StringIO(newline="")
    if rows:
        writer = csv.DictWriter(content, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return content.getvalue()


def markdown_table(table: Table) -> list[str]:
    """Return the lines of a table."""
    lines = ["| " + " | ".join(_escaped(column.title) for column in table.columns) + " |"]
    lines.append("|" + "|".join("---:" if column.is_number else "---" for column in table.columns) + "|")
    for row in table.rows:
        cells = [f"[{_escaped(cell.text)}]({cell.link})" if cell.link else _escaped(cell.text) for cell in row.cells]
        if row.error:
            cells.append(_escaped(f"error: {row.error}"))
        lines.append("| " + " | ".join(cells + [""] * (len(table.columns) - len(cells))) + " |")
    return lines


def overview_markdown(tasks: Sequence[Findings], links: Sequence[str] = ()) -> str:
    """Return the table of all tasks as a document."""
    table = overview_table(tasks, links)
    meanings = [f"- {column.title}: {column.meaning}" for column in table.columns if column.meaning]
    return "\n".join(["# Results", "", *markdown_table(table), "", *meanings]) + "\n"


def template_entries(found: Findings) -> list[tuple[str, str]]:
    """Return the verification report's template for a task, filled in: headings and text."""
    description = dict(found.summary.description)
    if found.results.environment:
        own = description.get("environment")
        parts = [own] if own else []
        parts += [f"{key}: {value}" for key, value in found.results.environment.items() if value not in parts]
        description["environment"] = "; ".join(parts)
    first = [(heading, description.pop(heading, "not described")) for heading in TEMPLATE]
    return [*first, *description.items(), ("results", _results_text(found))]


def _results_text(findings: Findings) -> str:
    """Describe the findings in sentences."""
    summary, metric = findings.summary, findings.metric
    failure = [f"The task failed: {findings.results.error}"] if findings.results.error is not None else []
    if not findings.is_measured:
        return failure[0]
    value = f"{metric.text(summary.float_metric)} (95 %: {metric.interval_text(summary.float_interval)})"
    sentences = [*failure, f"Float network: {summary.metric} {value} on {summary.samples} samples."]
    for name, m in ((OURS, findings.ours), (THEIRS, findings.theirs)):
        if m is not None:
            loss = f"loss {metric.loss_text(m.loss)}"
            if m.loss_interval is not None:
                loss += f" (95 %: {metric.interval_text(m.loss_interval)})"
            sentences.append(f"{name}, transparent: {bytes_text(m.size)}, {rate_text(findings.rate(m))}; {loss}.")
        elif any(tool.startswith(name) for tool in findings.tools):
            sentences.append(f"{name} has no transparent point within {metric.loss_text(summary.tolerance)}.")
    if summary.reported_rate:
        model = f" ({summary.reported_model})" if summary.reported_model else ""
        sentences.append(f"Verification report: {summary.reported_rate}{model}.")
    equal = findings.equal_divergence
    if equal is not None:
        span = f"{number_text(equal.lowest, 2)} to {number_text(equal.highest, 2)}"
        sentences.append(f"Bytes at equal divergence ({span}): {ratio_text(equal.ratio)} those of NNCodec.")
    if findings.failed:
        sentences.append(f"{len(findings.failed)} of {len(findings.results.measurements)} measurements failed.")
    return " ".join(sentences)


def task_markdown(found: Findings) -> str:
    """Return the filled-in template of a task and its transparent points as a document."""
    lines = [f"# {_escaped(found.summary.name)}", ""]
    for heading, text in template_entries(found):
        lines += [f"**{_escaped(heading).capitalize()}.** {_escaped(text)}", ""]
    table = transparent_table(found)
    if table.rows:
        lines += markdown_table(table)
    return "\n".join(lines).rstrip() + "\n"


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return re.sub(r"[\\`*_\[\]|$~]", r"\\\g<0>", html.escape(printable(text) or NOTHING, quote=False))
