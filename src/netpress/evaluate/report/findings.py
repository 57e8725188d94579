"""What the measurements of a task say together: curves, transparent points, bytes at equal divergence."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping

from netpress.evaluate.curves import Comparison, Curve, bytes_at, compare, curves_of
from netpress.evaluate.report.text import Metric
from netpress.evaluate.results import Measurement, TaskResults, TaskSummary

__all__ = ["OURS", "THEIRS", "Findings", "family"]

OURS, THEIRS = "netpress", "NNCodec"
"""First words of the names of tools that make standard streams: the two that are compared."""


def family(tool: str) -> str:
    """Return the first word of the name of a tool.

    Example:
        >>> family("netpress, calibrated"), family("NNCodec DQ + opt_qp")
        ('netpress', 'NNCodec')
    """
    return re.split(r"[\s,(+]", tool, maxsplit=1)[0]


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

    @property
    def is_measured(self) -> bool:
        """Whether there is more than an error."""
        return self.results.error is None or bool(self.measured)

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
    def equal_divergence(self) -> Comparison | None:
        """The comparison with NNCodec at equal divergence; None where the two have no divergences in common."""
        return compare(self._curves(OURS).values(), self._curves(THEIRS).values())

    def compared(self, tool: str) -> Comparison | None:
        """Return the comparison of a tool with NNCodec's best at equal divergence."""
        return compare([self._curves(tool).get(tool, ())], self._curves(THEIRS).values())

    def _curves(self, first_words: str) -> Mapping[str, Curve]:
        return curves_of(self.measured, first_words)

    def at_equal_divergence(self, measurement: Measurement) -> float | None:
        """Return the bytes of a measurement for one of netpress's sweep at the same divergence.

        The sweep is that of the last of netpress's tools, its best; None if it does not reach the divergence.
        """
        curves = list(self._curves(OURS).values())
        if not curves or not measurement.size or not measurement.divergence:
            return None
        size = bytes_at(curves[-1], measurement.divergence)
        return None if math.isnan(size) else measurement.size / size

    @property
    def reaches_reported(self) -> bool | None:
        """Whether netpress's transparent rate is at or under the report's largest; None where either is missing."""
        rate = self.rate(self.ours)
        return None if rate is None or self.reported is None else rate <= self.reported[1] + 5e-4
