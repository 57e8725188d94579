"""Tables of results, apart from how they are written: pages, Markdown and CSV show the same rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

from netpress.evaluate.report.bars import bits_per_value
from netpress.evaluate.report.findings import OURS, THEIRS, Findings
from netpress.evaluate.report.text import (
    NOTHING,
    bytes_text,
    count_text,
    number_text,
    range_text,
    rate_text,
    ratio_text,
    seconds_text,
    shape_text,
)
from netpress.evaluate.results import Measurement, TensorDetail

__all__ = ["Cell", "Column", "Row", "Table", "measurement_table", "overview_table", "tensor_table", "transparent_table"]


_FIXED_COLUMNS = 4  # columns that a table of measurements always has


@dataclasses.dataclass(frozen=True)
class Column:
    """A column: its heading, whether it holds numbers, and what the heading means, where it is short."""

    title: str
    is_number: bool = True
    meaning: str = ""


@dataclasses.dataclass(frozen=True)
class Cell:
    """An entry: text, what to sort it by (None: last), the address of a link, and a tone: good, bad or none."""

    text: str
    value: float | str | None = None
    link: str = ""
    tone: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """Entries for the columns from the first one; an error stands in place of those that are missing."""

    cells: list[Cell]
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns and rows with a caption."""

    caption: str
    columns: list[Column]
    rows: list[Row]


def overview_table(tasks: Sequence[Findings], links: Sequence[str] = ()) -> Table:
    """Return the table of all tasks.

    Args:
        tasks: the tasks, in their order.
        links: addresses of their pages; empty for none.
    """
    columns = [
        Column("task", False),
        Column("use case", False),
        Column(OURS, meaning="smallest transparent stream of netpress, as a share of the size"),
        Column(THEIRS, meaning="smallest transparent stream of NNCodec, as a share of the size"),
        Column("report", meaning="rate at transparent quality in MPEG's verification report, of its own network"),
        Column("ratio, transparent", meaning="bytes of netpress for one of NNCodec, both transparent"),
        Column("ratio, divergence", meaning="bytes of netpress for one of NNCodec at equal divergence of the outputs"),
        Column("metric", False),
        Column("float", meaning="metric of the float network"),
        Column("95 %", meaning="interval of the metric of the float network, from the choice of its samples"),
        Column("parameters"),
        Column("size", meaning="bytes of the float tensors"),
    ]
    rows = [_overview_row(found, links[place] if links else "") for place, found in enumerate(tasks)]
    return Table("All tasks", columns, rows)


def _overview_row(findings: Findings, link: str) -> Row:
    summary, metric = findings.summary, findings.metric
    cells = [Cell(summary.name, summary.name, link)]
    if findings.results.error is not None:
        return Row(cells, findings.results.error)
    use_case = findings.use_case or NOTHING
    cells.append(Cell(use_case, use_case))
    for measurement in (findings.ours, findings.theirs):
        rate = findings.rate(measurement)
        tone = ""
        if measurement is findings.ours and findings.reaches_reported is not None:
            tone = "good" if findings.reaches_reported else "bad"
        cells.append(Cell(rate_text(rate), rate, tone=tone))
    reported = findings.reported[1] if findings.reported else None
    cells.append(Cell(range_text(summary.reported_rate) or NOTHING, reported))
    equal = findings.equal_divergence
    for ratio in (findings.transparent_ratio, None if equal is None else equal.ratio):
        cells.append(Cell(ratio_text(ratio), ratio, tone=_ratio_tone(ratio)))
    cells += [
        Cell(summary.metric, summary.metric),
        Cell(metric.text(summary.float_metric), summary.float_metric),
        Cell(metric.interval_text(summary.float_interval)),
        Cell(count_text(summary.parameters), summary.parameters),
        Cell(bytes_text(summary.original_bytes), summary.original_bytes),
    ]
    return Row(cells)


def _ratio_tone(ratio: float | None) -> str:
    return "" if ratio is None else "good" if ratio < 1 else "bad"


def transparent_table(found: Findings) -> Table:
    """Return the table of the transparent points, those that were not found with the reason."""
    points = list(found.transparent.values())
    points += [m for m in found.failed if m.group == "transparent"]
    table = measurement_table(found, points, "Transparent points")
    ratios = {tool: None if (equal := found.compared(tool)) is None else equal.ratio for tool in found.transparent}
    if not any(ratios.values()):
        return table
    meaning = "bytes for one of NNCodec's best, at equal divergence of the outputs"
    rows = []
    for row, m in zip(table.rows, points, strict=True):
        cell = Cell(ratio_text(ratios.get(m.tool)), ratios.get(m.tool))
        rows.append(row if row.error else Row([*row.cells[:_FIXED_COLUMNS], cell, *row.cells[_FIXED_COLUMNS:]]))
    column = Column(f"to {THEIRS}", meaning=meaning)
    return Table(table.caption, [*table.columns[:_FIXED_COLUMNS], column, *table.columns[_FIXED_COLUMNS:]], rows)


def measurement_table(found: Findings, measurements: Iterable[Measurement], caption: str) -> Table:
    """Return a table of measurements; columns in which nothing was measured are left out."""
    measurements = list(measurements)
    metric, tolerance = found.metric, found.summary.tolerance

    def loss_tone(m: Measurement) -> str:
        return "" if m.loss is None else "good" if m.loss <= tolerance else "bad"

    unit = f", {metric.unit}" if metric.unit else ""
    loss_unit = f", {metric.loss_unit}" if metric.loss_unit else ""
    optional: list[tuple[Column, Callable[[Measurement], Cell]]] = [
        (Column("metric" + unit), lambda m: Cell(metric.text(m.metric, unit=False), m.metric)),
        (Column("95 % interval"), lambda m: Cell(metric.interval_text(m.metric_interval), None)),
        (Column("loss" + loss_unit), lambda m: Cell(metric.text(m.loss, unit=False), m.loss, tone=loss_tone(m))),
        (
            Column("95 % of loss", meaning="interval of the loss, on the same samples as the float network"),
            lambda m: Cell(metric.interval_text(m.loss_interval), None),
        ),
        (Column("divergence"), lambda m: Cell(number_text(m.divergence), m.divergence)),
        (Column("encoding"), lambda m: Cell(seconds_text(m.encode_seconds), m.encode_seconds)),
        (Column("decoding"), lambda m: Cell(seconds_text(m.decode_seconds), m.decode_seconds)),
        (
            Column("memory", meaning="bytes of the tensors of the decoded network"),
            lambda m: Cell(bytes_text(m.memory), m.memory),
        ),
    ]
    good = [m for m in measurements if m.error is None]
    shown = [(column, cell) for column, cell in optional if any(cell(m).text != NOTHING for m in good)]
    columns = [Column("tool", False), Column("setting", False), Column("bytes"), Column("rate")]
    assert len(columns) == _FIXED_COLUMNS
    rows = []
    for m in measurements:
        setting = m.setting if m.keeps_topology else f"{m.setting} (changes the topology)"
        cells = [Cell(m.tool, m.tool), Cell(setting, setting)]
        if m.error is not None:
            rows.append(Row(cells, m.error))
            continue
        cells += [Cell(count_text(m.size), m.size), Cell(rate_text(found.rate(m)), found.rate(m))]
        rows.append(Row(cells + [cell(m) for _, cell in shown]))
    return Table(caption, columns + [column for column, _ in shown], rows)


def tensor_table(details: Iterable[TensorDetail]) -> Table:
    """Return the table of the tensors of a stream."""
    details = list(details)
    total = sum(d.size for d in details)
    columns = [Column("tensor", False), Column("shape", False), Column("values"), Column("bytes"), Column("share")]
    columns.append(Column("bits per value"))
    rows = []
    for d in details:
        count, bits = math.prod(d.shape), bits_per_value(d)
        share = d.size / total if total else None
        cells = [
            Cell(d.name, d.name),
            Cell(shape_text(d.shape), count),
            Cell(count_text(count), count),
            Cell(count_text(d.size), d.size),
            Cell(rate_text(share), share),
            Cell(number_text(bits), None if math.isnan(bits) else bits),
        ]
        rows.append(Row(cells))
    return Table("Tensors", columns, rows)
