"""Bar charts and histograms: tools off, general coders, bytes of tensors, weights before and after."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from netpress.evaluate.report.canvas import WIDTH, Drawing, canvas
from netpress.evaluate.report.findings import OURS, Findings, family
from netpress.evaluate.report.palette import colour_of
from netpress.evaluate.report.text import bytes_text, number_text, rate_text, shape_text, shortened
from netpress.evaluate.results import Measurement, TensorDetail

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SHOWN_TENSORS", "ablation", "bits_per_value", "coders", "histogram", "tensor_sizes"]

SHOWN_TENSORS = 16
"""Tensors in the bar chart; the rest share a bar."""

_BAR_HEIGHT = 30  # height of a bar with its label
_LONGEST_LABEL = 42


def ablation(findings: Findings) -> Drawing | None:
    """Plot the size with one tool off each; None if that was not measured."""
    rows = findings.group("ablation")
    if not rows:
        return None
    tools = [m.tool for m in rows]
    if len(set(tools)) == len(tools):
        labels = tools
    else:
        labels = [m.setting if len(set(tools)) == 1 else f"{m.tool}, {m.setting}" for m in rows]
    whole = next((m for m, label in zip(rows, labels, strict=True) if label.lower().startswith("all")), None)
    sizes, note = _comparable(findings, rows, whole)
    texts = []
    for m, size in zip(rows, sizes, strict=True):
        text = rate_text(size / findings.summary.original_bytes)
        if whole is not None and whole.size and m is not whole:
            text += f" ({100 * (size / whole.size - 1):+.1f} %)".replace("-", "−")
        texts.append(text)
    colours = ["ours-1" if m is whole or whole is None else "ours-4" for m in rows]
    return _drawing("ablation", "Tools off, one at a time", _bars(labels, sizes, texts, colours), labels, texts, note)


def _comparable(findings: Findings, rows: Sequence[Measurement], whole: Measurement | None) -> tuple[list[float], str]:
    """Return bytes that can be compared, and a description of them.

    Without a tool a stream is larger, its outputs are further off, or both. The bytes that are returned are those at
    the divergence of the stream with all tools, on the assumption that they change along with it as netpress's do.
    """
    factors = [findings.at_equal_divergence(m) for m in rows]
    own = None if whole is None else findings.at_equal_divergence(whole)
    if whole is not None and whole.size and own and all(factors):
        return [(factor or 1) / own * whole.size for factor in factors], "Bytes at the divergence of all tools."
    spread = [m.divergence for m in rows if m.divergence is not None]
    note = ""
    if spread and max(spread) > 1.02 * min(spread):
        note = f"Divergence of the outputs: {number_text(min(spread), 2)} to {number_text(max(spread), 2)}."
    return [float(m.size or 0) for m in rows], note


def coders(findings: Findings) -> Drawing | None:
    """Plot the size of the same integers in general coders, beside netpress; None if that was not measured."""
    rows = sorted(findings.group("coder"), key=lambda m: m.size or 0)
    if not rows:
        return None
    ours = next((m for m in rows if family(m.tool) == OURS), None)
    labels = [m.tool for m in rows]
    texts = [rate_text(findings.rate(m)) + _times(m, ours) for m in rows]
    colours = ["ours-1" if m is ours else "other-1" for m in rows]
    note = "All hold the same integers: those of the weights."
    return _drawing("coders", "General coders", _bars(labels, [m.size or 0 for m in rows], texts, colours),
                    labels, texts, note)  # fmt: skip


def _times(measurement: Measurement, ours: Measurement | None) -> str:
    if ours is None or measurement is ours or not ours.size or not measurement.size:
        return ""
    return f" ({measurement.size / ours.size:.2f} ×)"


def bits_per_value(detail: TensorDetail) -> float:
    """Return the bits that each value of a tensor takes; NaN if it has none."""
    count = math.prod(detail.shape)
    return 8 * detail.size / count if count else math.nan


def tensor_sizes(details: Sequence[TensorDetail]) -> Drawing | None:
    """Plot the bytes of the largest tensors; None if there is none."""
    if not details:
        return None
    ordered = sorted(details, key=lambda d: -d.size)
    shown, rest = ordered[:SHOWN_TENSORS], ordered[SHOWN_TENSORS:]
    labels = [d.name for d in shown]
    texts = [f"{bytes_text(d.size)}, {number_text(bits_per_value(d), 2)} bit" for d in shown]
    sizes, colours = [d.size for d in shown], ["ours-1"] * len(shown)
    if rest:
        labels.append(f"{len(rest)} more")
        texts.append(bytes_text(sum(d.size for d in rest)))
        sizes.append(sum(d.size for d in rest))
        colours.append("other-1")
    return _drawing("tensors", "Bytes of each tensor", _bars(labels, sizes, texts, colours), labels, texts,
                    "Bits are those of each value of the tensor.")  # fmt: skip


def histogram(detail: TensorDetail, key: str) -> Drawing | None:
    """Plot the weights of a tensor before and after; None if there is no histogram."""
    bins = len(detail.before)
    if not bins or len(detail.edges) != bins + 1 or len(detail.after) != bins:
        return None
    from matplotlib.ticker import MaxNLocator

    with canvas(150, 0.7 * WIDTH, (0.02, 0.16, 0.96, 0.82)) as (figure, axes):
        axes.stairs(detail.before, detail.edges, fill=True, color=colour_of("other-1"), alpha=0.45, linewidth=0)
        axes.stairs(detail.after, detail.edges, color=colour_of("ours-1"), linewidth=1.3)
        axes.set_xlim(detail.edges[0], detail.edges[-1])
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylim(0, None)
        axes.xaxis.set_major_locator(MaxNLocator(4, prune="both"))
        axes.tick_params(axis="x", labelsize=13)
        axes.grid(visible=False)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
    title = shortened(detail.name, 44)
    words = (
        f"{shape_text(detail.shape)}: weights from {number_text(detail.edges[0])} to {number_text(detail.edges[-1])}"
    )
    return Drawing(key, title, words, figure)


def _bars(labels: Sequence[str], sizes: Sequence[float], texts: Sequence[str], colours: Sequence[str]) -> Figure:
    """Draw a bar for each size from zero on, its label and its value above it."""
    height = _BAR_HEIGHT * len(labels)
    with canvas(height, box=(0, 0, 1, 1)) as (figure, axes):
        largest = max(sizes, default=0) or 1
        for place, (label, size, text, role) in enumerate(zip(labels, sizes, texts, colours, strict=True)):
            axes.text(0, place, shortened(label, _LONGEST_LABEL), va="baseline", fontsize=10, color=colour_of("ink"))
            axes.text(largest, place, text, va="baseline", ha="right", fontsize=10, color=colour_of("muted"))
            axes.barh(place + 0.32, largest, height=0.3, color=colour_of("panel"))
            axes.barh(place + 0.32, size, height=0.3, color=colour_of(role))
        axes.set_xlim(0, largest)
        axes.set_ylim(len(labels) - 0.35, -0.6)
        axes.set_axis_off()
    return figure


def _drawing(key: str, title: str, figure: Figure, labels: Sequence[str], texts: Sequence[str], note: str) -> Drawing:
    words = "; ".join(f"{label}: {text}" for label, text in zip(labels, texts, strict=True))
    return Drawing(key, title, words + ".", figure, note)
