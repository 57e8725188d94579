"""How thoroughly a task is measured: samples, points of a curve, tools."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import Any

from netpress.evaluate.task_sets import facts_of, known_facts
from netpress.evaluate.tools import Tool

__all__ = ["FULL", "QUICK", "Plan", "starting_order"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        tools: patterns with ``*`` of the names of tools; also ``"ablation"`` and ``"coder"`` for these groups.
        keeps_topology: leave out tools whose result the original network cannot load.
        points: of the curve of a tool, at divergences in equal ratios.
        approaches: most measurements for each of them.
        tries: most measurements to find the transparent point of a tool, apart from those of its curve.
        transparent: patterns of the tools that get them; the others have the best of their curve.
        effort: of netpress, for networks of up to a million values, and for larger ones.
        calibration_batches: most batches to calibrate with; None for all.
        resamples: for the intervals.
        is_quick: take the few samples of a quick run.
    """

    tools: tuple[str, ...] = ("*",)
    keeps_topology: bool = False
    points: int = 5
    approaches: int = 2
    tries: int = 4
    transparent: tuple[str, ...] = ("*",)
    effort: tuple[int, int] = (8, 7)
    calibration_batches: int | None = None
    resamples: int = 1000
    is_quick: bool = False

    def wants(self, tool: Tool) -> bool:
        """Whether a tool is to be measured."""
        return self.wants_group(tool.name, tool.group) and (tool.keeps_topology or not self.keeps_topology)

    def wants_group(self, *names: str) -> bool:
        """Whether one of some names is asked for."""
        return any(fnmatch.fnmatch(name, pattern) for name in names for pattern in self.tools)

    def searches_transparent(self, tool: Tool) -> bool:
        """Whether measurements are made to find the transparent point of a tool."""
        return any(fnmatch.fnmatch(tool.name, pattern) for pattern in self.transparent)

    def for_size(self, parameters: int) -> Plan:
        """Return the plan for a network of this many values: large ones get fewer points, and fewer tools if quick."""
        if parameters <= _LARGE_NETWORK:
            return self
        fewer = dataclasses.replace(self, points=max(2, self.points - 2), tries=min(self.tries, 2))
        if self.is_quick:
            tools = _QUICK_TOOLS_OF_LARGE_NETWORKS if self.tools == QUICK.tools else self.tools
            fewer = dataclasses.replace(fewer, tools=tools, tries=0)
        return fewer

    def samples(self, task: str) -> int | None:
        """Return how many samples of a task to evaluate, None for all, as its package says."""
        facts = facts_of(task)
        return facts.quick_samples if self.is_quick else facts.samples


_LARGE_NETWORK = 2_000_000
_QUICK_TOOLS_OF_LARGE_NETWORKS = ("netpress*", "NNCodec DQ + opt_qp", "int8", "int4")

FULL = Plan()
QUICK = Plan(
    tools=("netpress*", "NNCodec DQ + opt_qp*", "int*", "safetensors*", "coder"),
    points=3,
    approaches=1,
    tries=2,
    transparent=("netpress*", "NNCodec DQ + opt_qp"),
    effort=(6, 5),
    calibration_batches=2,
    resamples=200,
    is_quick=True,
)


def __getattr__(name: str) -> Any:
    """For one release: ``SAMPLES``, samples of a task in a quick run and in a full one."""
    if name == "SAMPLES":
        return {task: (facts.quick_samples, facts.samples) for task, facts in known_facts().items()}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def starting_order(names: list[str]) -> list[str]:
    """Return names of tasks with the longest ones first, so that none is left alone at the end."""
    known = known_facts()
    return sorted(names, key=lambda name: -known[name].cost if name in known else 0.0)
