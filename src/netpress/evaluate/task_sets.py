"""What is known of a task before it is loaded, from the package that offers it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from netpress import InvalidConfig

__all__ = ["GROUP", "TaskFacts", "facts_of", "known_facts"]

GROUP = "netpress.task_sets"
"""Group of the entry points. Each names a mapping from names of tasks to :class:`TaskFacts`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskFacts:
    """What the evaluation wants to know of a task before it loads it. Every field may be left out.

    Attributes:
        samples: how many to evaluate; None for all.
        quick_samples: the same in a quick run.
        use_case: name of a row of :data:`netpress.evaluate.use_cases.USE_CASES`; empty for none. Without it the text
            "use case" of the task's description is looked for in that table.
        cost: time of a sweep beside that of other tasks, in any unit; the most expensive tasks start first.
        transparent_metric: a metric that counts as transparent whatever the float network has; for tasks whose metric
            is the fidelity to the float network, so that its own says nothing.
    """

    samples: int | None = None
    quick_samples: int | None = None
    use_case: str = ""
    cost: float = 0.0
    transparent_metric: float | None = None


def known_facts() -> dict[str, TaskFacts]:
    """Return the facts of all installed packages, by name of the task, in the order in which the packages have them.

    Raises:
        InvalidConfig: what an entry point of the group names is no such mapping.
    """
    known: dict[str, TaskFacts] = {}
    for entry in entry_points(group=GROUP):
        found: Any = entry.load()
        if not isinstance(found, Mapping) or not all(isinstance(facts, TaskFacts) for facts in found.values()):
            raise InvalidConfig(f"{entry.value}, an entry point of {GROUP}, does not map names of tasks to TaskFacts")
        known.update(found)
    return known


def facts_of(name: str) -> TaskFacts:
    """Return what is known of a task; the defaults if no package says anything.

    Args:
        name: of the task.
    """
    return known_facts().get(name, TaskFacts())
