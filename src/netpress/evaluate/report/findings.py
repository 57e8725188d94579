"""What the measurements of a task say together: curves, transparent points, bytes at equal divergence."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterable, Sequence

import numpy as np

from netpress.evaluate.report.text import Metric
from netpress.evaluate.results import Measurement, TaskResults, TaskSummary

__all__ = ["OURS", "THEIRS", "EqualDivergence", "Findings", "bytes_at", "family"]

OURS, THEIRS = "netpress", "NNCodec"
"""First words of the names of tools that make standard streams: the two that are compared."""

_STEPS = 21  # divergences at which two tools are compared


def family(tool: str) -> str:
    """Return the first word of the name of a tool.

    Example:
        >>> family("netpress, calibrated"), family("NNCodec DQ + opt_qp")
        ('netpress', 'NNCodec')
    """
    return re.split(r"[\s,(+]", tool, maxsplit=1)[0]


def bytes_at(points: Iterable[Measurement], divergence: float) -> float:
    """Return the bytes of a tool at a divergence, interpolated on logarithms of both; NaN outside of its points.

    Points that another one of the tool beats in bytes and divergence are left out.
    """
    pairs = sorted((p.divergence, p.size) for p in points if p.size and p.divergence and p.divergence > 0)
    ordered: list[tuple[float, int]] = []
    for pair in pairs:
        if not ordered or pair[1] < ordered[-1][1]:
            ordered.append(pair)
    if len(ordered) < 2 or not ordered[0][0] <= divergence <= ordered[-1][0]:
        return math.nan
    x, y = np.log(ordered).T
    return float(np.exp(np.interp(math.log(divergence), x, y)))


@dataclasses.dataclass(frozen=True)
class EqualDivergence:
    """Bytes of netpress for one of NNCodec, each with its best setting, where both outputs are equally far off.

    Attributes:
        ratio: geometric mean over the divergences that both reach; under 1 if netpress is smaller.
        lowest, highest: the divergences.
    """

    ratio: float
    lowest: float
    highest: float


class Findings:
    """A task with what follows from its measurements; parts that were not measured are empty or None."""

    def __init__(self, results: TaskResults) -> None:
        self.results = results
        self.summary: TaskSummary = results.summary
        self.metric = Metric(results.summary)
        self.measured = [m for m in results.measurements if m.error is None and m.size]
        self.failed = [m for m in results.measurements if m.error is not None]
        self.reported = results.summary.reported_range
        self.use_case = results.summary.use_case or results.summary.description.get("use case", "")

    def group(self, *names: str) -> list[Measurement]:
        """Return the measurements of some groups that have a result."""
        return [m for m in self.measured if m.group in names]

    def rate(self, measurement: Measurement | None) -> float | None:
        """Return the size as a share of that of the float tensors."""
        if measurement is None or not measurement.size or self.summary.original_bytes <= 0:
            return None
        return measurement.size / self.summary.original_bytes

    @functools.cached_property
    def tools(self) -> list[str]:
        """Tools of the sweep: netpress's, NNCodec's, then others, each in the order of their measurements."""
        found = dict.fromkeys(m.tool for m in self.group("sweep", "transparent"))
        order = {OURS: 0, THEIRS: 1}
        return sorted(found, key=lambda tool: order.get(family(tool), 2))

    def curve(self, tool: str) -> list[Measurement]:
        """Return the points of a tool, the largest first; a setting that was measured twice counts once."""
        points = {(m.size, m.setting): m for m in self.group("sweep", "transparent") if m.tool == tool}
        return sorted(points.values(), key=lambda m: -(m.size or 0))

    @functools.cached_property
    def transparent(self) -> dict[str, Measurement]:
        """The transparent point of each tool that has one."""
        found: dict[str, Measurement] = {}
        for tool in self.tools:
            points = [m for m in self.group("transparent") if m.tool == tool]
            if points:
                found[tool] = min(points, key=lambda m: m.size or 0)
        return found

    def smallest_transparent(self, first_word: str) -> Measurement | None:
        """Return the smallest transparent point of the tools of a family."""
        points = [m for tool, m in self.transparent.items() if family(tool) == first_word]
        return min(points, key=lambda m: m.size or 0, default=None)

    @property
    def ours(self) -> Measurement | None:
        """The smallest transparent point of netpress."""
        return self.smallest_transparent(OURS)

    @property
    def theirs(self) -> Measurement | None:
        """The smallest transparent point of NNCodec."""
        return self.smallest_transparent(THEIRS)

    @property
    def transparent_ratio(self) -> float | None:
        """Bytes of netpress for one of NNCodec at their transparent points."""
        if self.ours is None or self.theirs is None or not self.ours.size or not self.theirs.size:
            return None
        return self.ours.size / self.theirs.size

    @functools.cached_property
    def equal_divergence(self) -> EqualDivergence | None:
        """The comparison with NNCodec at equal divergence; None where the two have no divergences in common."""
        return self.compared([tool for tool in self.tools if family(tool) == OURS])

    def compared(self, tools: Sequence[str]) -> EqualDivergence | None:
        """Return the comparison of some tools with NNCodec, each with its best setting, at equal divergence."""
        ours = [self.curve(tool) for tool in tools]
        theirs = [self.curve(tool) for tool in self.tools if family(tool) == THEIRS]
        spans = [_span(curves) for curves in (ours, theirs)]
        if None in spans:
            return None
        lowest, highest = max(s[0] for s in spans if s), min(s[1] for s in spans if s)
        if not lowest < highest:
            return None
        logarithms = []
        for divergence in np.geomspace(lowest, highest, _STEPS)[1:-1]:
            sizes = [_least_bytes(curves, float(divergence)) for curves in (ours, theirs)]
            if not any(map(math.isnan, sizes)):
                logarithms.append(math.log(sizes[0] / sizes[1]))
        if not logarithms:
            return None
        return EqualDivergence(math.exp(sum(logarithms) / len(logarithms)), lowest, highest)

    @property
    def reaches_reported(self) -> bool | None:
        """Whether netpress's transparent rate is at or under the report's largest; None where either is missing."""
        rate = self.rate(self.ours)
        return None if rate is None or self.reported is None else rate <= self.reported[1] + 5e-4


def _span(curves: Sequence[Sequence[Measurement]]) -> tuple[float, float] | None:
    """Least and largest divergence of all points."""
    found = [m.divergence for points in curves for m in points if m.divergence is not None and m.divergence > 0]
    return (min(found), max(found)) if found else None


def _least_bytes(curves: Sequence[Sequence[Measurement]], divergence: float) -> float:
    sizes = [size for points in curves if not math.isnan(size := bytes_at(points, divergence))]
    return min(sizes, default=math.nan)
