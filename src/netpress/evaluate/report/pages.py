"""Pages of the reports: one for each task, and one that leads to them."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netpress
from netpress import InvalidConfig
from netpress.evaluate.report import bars, curves
from netpress.evaluate.report.canvas import Drawing
from netpress.evaluate.report.files import template_entries
from netpress.evaluate.report.findings import Findings
from netpress.evaluate.report.palette import css_variables
from netpress.evaluate.report.tables import measurement_table, overview_table, tensor_table, transparent_table
from netpress.evaluate.report.text import NOTHING, bytes_text, count_text, printable, range_text, rate_text, ratio_text

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["HISTOGRAMS", "Book", "Page"]

HISTOGRAMS = 12
"""Tensors with a histogram on the page of a task: the largest ones."""

_TEMPLATES = Path(__file__).parent / "templates"


@dataclasses.dataclass(frozen=True)
class Page:
    """A task in the book.

    Attributes:
        found: what is known of the task.
        stem: name of its files, without ending.
        drawings: its plots.
        histograms: weights of the largest tensors.
    """

    found: Findings
    stem: str
    drawings: list[Drawing]
    histograms: list[Drawing]

    @classmethod
    def of(cls, found: Findings, stem: str) -> Page:
        """Draw the plots of a task; those of parts that were not measured are left out."""
        details = found.results.details
        made = [
            curves.rate_quality(found),
            curves.rate_divergence(found),
            bars.tensor_sizes(details),
            bars.ablation(found),
            bars.coders(found),
        ]
        largest = sorted((d for d in details if d.edges), key=lambda d: -d.size)[:HISTOGRAMS]
        histograms = [bars.histogram(detail, f"weights-{place}") for place, detail in enumerate(largest)]
        return cls(found, stem, [d for d in made if d is not None], [d for d in histograms if d is not None])


@dataclasses.dataclass(frozen=True)
class _Card:
    """A figure that stands out: heading, value, words below, tone."""

    title: str
    value: str
    words: str = ""
    tone: str = ""


class Book:
    """Renders the pages of all tasks."""

    def __init__(self, pages: Sequence[Page]) -> None:
        self.pages = list(pages)
        self._environment = _environment()

    def index(self) -> str:
        """Return the page with the table of all tasks."""
        tasks = [page.found for page in self.pages]
        drawing = curves.overview(tasks)
        return self._environment.get_template("index.html").render(
            title="Compression of neural networks, measured",
            table=overview_table(tasks, [f"{page.stem}.html" for page in self.pages]),
            sentences=_summary(tasks),
            drawings=[] if drawing is None else [drawing],
        )

    def task(self, place: int) -> str:
        """Return the page of a task."""
        page = self.pages[place]
        found = page.found
        return self._environment.get_template("task.html").render(
            title=found.summary.name,
            use_case=found.use_case,
            error=found.results.error,
            stem=page.stem,
            cards=_cards(found) if found.is_measured else [],
            curves=[d for d in page.drawings if d.key in ("quality", "divergence")],
            bars=[d for d in page.drawings if d.key not in ("quality", "divergence")],
            histograms=page.histograms,
            tensors=len(found.results.details),
            tables=_tables(found),
            template=template_entries(found),
            back=self.pages[place - 1] if place > 0 else None,
            forth=self.pages[place + 1] if place + 1 < len(self.pages) else None,
            is_book=len(self.pages) > 1,
        )


def _environment() -> Environment:
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise InvalidConfig(f"reports need the package {error.name!r}; pip install 'netpress[evaluate]'") from error
    import markupsafe

    def shown(value: Any) -> Any:
        """What a template puts out: names may hold any character."""
        return printable(value) if isinstance(value, str) and not isinstance(value, markupsafe.Markup) else value

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=shown,
    )
    environment.globals.update(
        version=netpress.__version__,
        nothing=NOTHING,
        light=markupsafe.Markup(css_variables(dark=False)),
        dark=markupsafe.Markup(css_variables(dark=True)),
        inline=lambda drawing, prefix: markupsafe.Markup(drawing.inline(prefix)),
    )
    return environment


def _cards(findings: Findings) -> list[_Card]:
    summary, metric = findings.summary, findings.metric
    cards = []
    if findings.ours is not None:
        loss = f", loss {metric.loss_text(findings.ours.loss)}" if findings.ours.loss is not None else ""
        note = f"transparent: {bytes_text(findings.ours.size)}{loss}"
        cards.append(_Card("netpress", rate_text(findings.rate(findings.ours)), note, "good"))
    elif findings.measured:
        note = f"no stream within {metric.loss_text(summary.tolerance)} of the float network"
        cards.append(_Card("netpress", NOTHING, note))
    if findings.theirs is not None:
        note = f"transparent: {bytes_text(findings.theirs.size)}"
        if findings.transparent_ratio is not None:
            note += f"; netpress takes {ratio_text(findings.transparent_ratio)} of that"
        cards.append(_Card("NNCodec", rate_text(findings.rate(findings.theirs)), note))
    equal = findings.equal_divergence
    if equal is not None:
        note = "bytes of netpress for one of NNCodec, each with its best setting"
        cards.append(_Card("At equal divergence", ratio_text(equal.ratio), note, "good" if equal.ratio < 1 else "bad"))
    if summary.reported_rate:
        verdicts = {True: "; reached", False: "; not reached", None: ""}
        note = (summary.reported_model or "its own network") + verdicts[findings.reaches_reported]
        cards.append(_Card("Verification report", range_text(summary.reported_rate), note))
    value = metric.text(summary.float_metric)
    note = (
        f"{summary.metric}; 95 %: {metric.interval_text(summary.float_interval)}, {count_text(summary.samples)} samples"
    )
    cards.append(_Card("Float network", value, note))
    note = f"{count_text(summary.parameters)} parameters"
    cards.append(_Card("Original size", bytes_text(summary.original_bytes), note))
    return cards


def _tables(found: Findings) -> list[tuple[str, Any, bool]]:
    """Tables of a page: id, table, and whether it is open at once."""

    def rows_of(*groups: str) -> list[Any]:
        return [m for m in found.results.measurements if m.group in groups]

    tables = [
        ("transparent", transparent_table(found), True),
        ("sweep", measurement_table(found, rows_of("sweep"), "All settings"), False),
        ("ablation-rows", measurement_table(found, rows_of("ablation"), "Tools off, one at a time"), False),
        ("coder-rows", measurement_table(found, rows_of("coder"), "General coders"), False),
        ("tensor-rows", tensor_table(found.results.details), False),
    ]
    return [entry for entry in tables if entry[1].rows]


def _summary(tasks: Sequence[Findings]) -> list[str]:
    """Say what all tasks have in common."""
    done = [found for found in tasks if found.results.error is None]
    sentences = [f"{len(done)} of {len(tasks)} tasks measured."]
    rates = [rate for found in done if (rate := found.rate(found.ours)) is not None]
    if rates:
        sentences.append(
            f"netpress keeps the quality of {len(rates)} at {rate_text(min(rates))} to {rate_text(max(rates))} "
            f"of the float size, half of them at {rate_text(statistics.median(rates))} or less."
        )
    ratios = [found.equal_divergence.ratio for found in done if found.equal_divergence is not None]
    if ratios:
        mean = statistics.geometric_mean(ratios)
        sentences.append(f"At equal divergence it takes {ratio_text(mean)} the bytes of NNCodec (geometric mean).")
    reached = [found.reaches_reported for found in done if found.reaches_reported is not None]
    if reached:
        sentences.append(f"The verification report's rate is reached on {sum(reached)} of {len(reached)}.")
    return sentences
