"""Plots of size against quality: of one task, and of the transparent points of all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from netpress.evaluate.report.canvas import WIDTH, Drawing, canvas
from netpress.evaluate.report.findings import OURS, THEIRS, Findings
from netpress.evaluate.report.palette import colour_of, styles
from netpress.evaluate.report.text import range_text, rate_text, shortened
from netpress.evaluate.results import Measurement

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["overview", "rate_divergence", "rate_quality"]

_PLOT_HEIGHT, _LEGEND_ROW = 265, 16.5
_LONGEST_LABEL = 44  # longest label of a tool
_LONGEST_LABEL_IN_COLUMNS = 25  # labels up to here stand in two columns
_TOLERANCES_SHOWN = 6  # losses are shown up to this many tolerances
_REPORT = "verification report"
_RATE_LABEL = "size, % of the float network"

Curves = Mapping[str, Sequence[Measurement]]
Value = Callable[[Measurement], "float | None"]


def rate_quality(findings: Findings) -> Drawing | None:
    """Plot the metric against the size, with the interval of the loss; None if nothing was measured."""
    curves = _curves(findings, lambda m: m.metric is not None and math.isfinite(m.metric))
    points = [m for curve in curves.values() for m in curve]
    summary, baseline = findings.summary, findings.summary.float_metric
    if not points or not math.isfinite(baseline):
        return None
    metric, sign = findings.metric, 1 if summary.direction == "max" else -1
    window = _loss_window(findings, points)
    with canvas(_height(findings, 3)) as (figure, axes):
        axes.axhline(baseline, color=colour_of("muted"), linewidth=1.2, label="float network")
        if summary.tolerance > 0:
            label = f"tolerance: {metric.loss_text(summary.tolerance)}"
            edge = baseline - sign * summary.tolerance
            axes.axhline(edge, color=colour_of("muted"), linewidth=1, dashes=(3, 3), label=label)
        _lines(axes, findings, curves, lambda m: m.metric)
        _error_bars(axes, findings, curves)
        _ring(axes, findings, lambda m: m.metric)
        _report_band(axes, findings)
        _rate_axis(axes, [findings.rate(m) for m in points])
        best = max(sign * (m.metric or 0) for m in points)
        top = max(best, sign * baseline) + 0.12 * window
        low = sign * baseline - window
        axes.set_ylim(*sorted((sign * low, sign * top)))
        axes.ticklabel_format(axis="y", useOffset=False)
        unit = f", {summary.unit}" if summary.unit else ""
        axes.set_ylabel(shortened(summary.metric, 40) + unit + ("" if sign > 0 else "; less is better"))
        _legend(figure, axes, _columns(findings.tools))
    hidden = sum(sign * (baseline - (m.metric or 0)) > window for m in points)
    words = [f"{tool} from {rate_text(findings.rate(m))} of the size" for tool, m in findings.transparent.items()]
    described = "; ".join(words) if words else "no tool has a transparent point"
    note = "Bars are 95 % intervals of the loss, on the same samples as the float network."
    if hidden:
        note += f" {hidden} of {len(points)} points lie outside."
    return Drawing("quality", "Size and quality", f"Transparent: {described}.", figure, note)


def rate_divergence(findings: Findings) -> Drawing | None:
    """Plot how far the outputs are off against the size; None if that was not measured."""
    curves = _curves(findings, lambda m: m.divergence is not None and m.divergence > 0)
    points = [m for curve in curves.values() for m in curve]
    if not points:
        return None
    with canvas(_height(findings, 1)) as (figure, axes):
        _lines(axes, findings, curves, lambda m: m.divergence)
        _ring(axes, findings, lambda m: m.divergence)
        _report_band(axes, findings)
        _rate_axis(axes, [findings.rate(m) for m in points])
        _divergence_axis(axes, [m.divergence or 0.0 for m in points])
        axes.set_ylabel("divergence of the outputs")
        _legend(figure, axes, _columns(findings.tools))
    comparison = findings.equal_divergence
    description = f"{len(points)} points of {len(curves)} tools; further down and left is better."
    if comparison is not None:
        description += f" At equal divergence, netpress takes {comparison.ratio:.2f} of the bytes of NNCodec."
    return Drawing("divergence", "Size and divergence", description, figure, "Down and to the left is better.")


def overview(tasks: Sequence[Findings]) -> Drawing | None:
    """Plot the transparent rates of all tasks; None if there is none."""
    rows = [f for f in tasks if f.ours is not None or f.theirs is not None]
    if not rows:
        return None
    with canvas(72 + 20 * len(rows), 1.2 * WIDTH) as (figure, axes):
        for place, row in enumerate(rows):
            _overview_row(axes, row, place)
        axes.set_yticks(range(len(rows)), [shortened(row.summary.name, 26) for row in rows])
        axes.tick_params(axis="y", labelcolor=colour_of("ink"), length=0)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.spines["left"].set_visible(False)
        _rate_axis(
            axes, [rate for row in rows for rate in (*map(row.rate, (row.ours, row.theirs)), *(row.reported or ()))]
        )
        _legend(figure, axes, columns=3)
    words = [f"{row.summary.name} {rate_text(row.rate(row.ours))}" for row in rows if row.ours is not None]
    return Drawing("overview", "Size at transparent quality", "netpress: " + ", ".join(words) + ".", figure)


def _overview_row(axes: Axes, row: Findings, place: int) -> None:
    """Draw the report's rates as a bar, and the two tools as points with a line between them."""
    if row.reported is not None:
        low, high = row.reported
        ends = [low * 0.985, high * 1.015]
        axes.plot(
            ends, [place] * 2, color=colour_of("report"), linewidth=7, solid_capstyle="round", label=_REPORT, zorder=2
        )
    points = [(row.theirs, "theirs-1", "s", THEIRS), (row.ours, "ours-1", "o", OURS)]
    rates = [rate for m, *_ in points if (rate := row.rate(m)) is not None]
    axes.plot(rates, [place] * len(rates), color=colour_of("muted"), linewidth=1, zorder=3)
    for m, role, marker, label in points:
        rate = row.rate(m)
        if rate is not None:
            look = {"color": colour_of(role), "marker": marker, "markersize": 7, "linestyle": "none"}
            axes.plot(rate, place, label=label, zorder=4, **look)


def _height(findings: Findings, lines: int) -> float:
    """Return the height of a plot with its legend: the tools, the report and some more lines."""
    lines += len(findings.tools) + (findings.reported is not None)
    return _PLOT_HEIGHT + _LEGEND_ROW * -(-lines // _columns(findings.tools))


def _columns(labels: Iterable[str]) -> int:
    """Return the number of columns of the legend."""
    return 2 if all(len(label) <= _LONGEST_LABEL_IN_COLUMNS for label in labels) else 1


def _loss_window(findings: Findings, points: Iterable[Measurement]) -> float:
    """Return the largest loss to show: some tolerances, what the transparent points need, no more than there is."""
    needed = [m.loss_interval[1] for m in findings.transparent.values() if m.loss_interval is not None]
    losses = [m.loss for m in points if m.loss is not None and math.isfinite(m.loss)]
    largest = max(losses, default=0.0)
    tolerance = findings.summary.tolerance
    window = max([_TOLERANCES_SHOWN * tolerance, *(1.2 * bound for bound in needed)])
    return max(min(window, 1.1 * largest) if window > 0 else 1.1 * largest, 1.5 * tolerance, 1e-9)


def _curves(findings: Findings, is_shown: Callable[[Measurement], bool]) -> dict[str, list[Measurement]]:
    """Points of each tool that has any; none at all if the size of the float network is not known."""
    if findings.summary.original_bytes <= 0:
        return {}
    found = {tool: [m for m in findings.curve(tool) if is_shown(m)] for tool in findings.tools}
    return {tool: points for tool, points in found.items() if points}


def _lines(axes: Axes, findings: Findings, curves: Curves, value: Value) -> None:
    """Draw a line with markers for each tool."""
    looks = styles(findings.tools)
    for tool, points in curves.items():
        colour, marker = looks[tool]
        rates, values = [findings.rate(m) for m in points], [value(m) for m in points]
        axes.plot(rates, values, color=colour, marker=marker, label=shortened(tool, _LONGEST_LABEL), zorder=3)


def _error_bars(axes: Axes, findings: Findings, curves: Curves) -> None:
    """Draw the interval of the loss about each point, or that of the metric where the loss has none."""
    baseline, sign = findings.summary.float_metric, 1 if findings.summary.direction == "max" else -1
    looks = styles(findings.tools)
    for tool, points in curves.items():
        for m in points:
            if m.loss_interval is not None:
                bounds = [baseline - sign * loss for loss in m.loss_interval]
            elif m.metric_interval is not None:
                bounds = list(m.metric_interval)
            else:
                continue
            style = {"color": looks[tool][0], "linewidth": 1.2, "alpha": 0.45, "zorder": 2.5}
            axes.plot([findings.rate(m)] * 2, bounds, solid_capstyle="butt", **style)


def _ring(axes: Axes, findings: Findings, value: Value) -> None:
    """Put a ring around each transparent point."""
    pairs = [(findings.rate(m), value(m)) for m in findings.transparent.values() if value(m) is not None]
    if pairs:
        rates, values = zip(*pairs, strict=True)
        axes.plot(
            rates, values, linestyle="none", marker="o", markersize=12, markerfacecolor="none",
            markeredgecolor=colour_of("ink"), markeredgewidth=1.3, label="transparent", zorder=4,
        )  # fmt: skip


def _report_band(axes: Axes, findings: Findings) -> None:
    if findings.reported is not None:
        low, high = findings.reported
        text = f"{_REPORT}: {shortened(range_text(findings.summary.reported_rate), 14)}"
        axes.axvspan(low * 0.98, high * 1.02, color=colour_of("report"), alpha=0.3, linewidth=0, label=text, zorder=1)


def _rate_axis(axes: Axes, rates: Iterable[float | None]) -> None:
    """Make the axis of sizes logarithmic, with ticks in per cent."""
    from matplotlib.ticker import FixedLocator, NullLocator

    known = [rate for rate in rates if rate is not None and rate > 0]
    axes.set_xscale("log")
    low, high = axes.get_xlim() if not known else (min(known) / 1.12, max(known) * 1.12)
    axes.set_xlim(low, high)
    for steps in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(1 + i / 10 for i in range(90))):
        ticks = [step * 10.0**power for power in range(-6, 2) for step in steps]
        shown = [tick for tick in ticks if low <= tick <= high]
        if len(shown) >= 3:
            break
    axes.xaxis.set_major_locator(FixedLocator(shown[:: max(1, len(shown) // 8)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    axes.set_xlabel(_RATE_LABEL)


def _divergence_axis(axes: Axes, values: Sequence[float]) -> None:
    """Make the axis of divergences logarithmic, with more ticks where it is short."""
    from matplotlib.ticker import LogLocator, NullLocator

    decades = math.log10(max(values) / min(values))
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    """Put a legend below the plot, each label once."""
    handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    order = sorted(handles, key=lambda label: label.startswith((_REPORT, "float", "tolerance", "transparent")))
    figure.legend(
        [handles[label] for label in order], order, loc="outside lower left", ncols=columns, columnspacing=1.2,
        handlelength=1.8, borderaxespad=0.2,
    )  # fmt: skip
