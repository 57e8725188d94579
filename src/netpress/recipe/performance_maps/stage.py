"""Performance maps of the parameter set, filled from measurements."""

from __future__ import annotations

import dataclasses
from typing import Any

from netpress.parallel import Progress
from netpress.recipe.candidate import Candidate
from netpress.recipe.performance_maps.measure import (
    measure_decomposition,
    measure_pruning,
    measure_sparsification,
    measure_unification,
)
from netpress.recipe.stage import Stage

__all__ = ["PerformanceMaps"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PerformanceMaps(Stage):
    """Measures what the network, as it is now, loses by further compression, and writes that into the parameter set.

    A receiver that has to make the network smaller reads there what each strength costs. Nothing else changes. Each
    strength takes one evaluation.

    Source: performance maps of the standard's model parameter set.
    """

    sparsification: tuple[float, ...] = ()
    """Magnitudes below which weights become zero."""
    pruning: tuple[float, ...] = ()
    """Shares of the channels to remove, 0..1."""
    unification: tuple[float, ...] = ()
    """Shares of the blocks of 4 by 4 weights to unify, 0..1."""
    decomposition: tuple[float, ...] = ()
    """Mean squared errors of decomposed weights."""

    def __post_init__(self) -> None:
        for field in ("sparsification", "pruning", "unification", "decomposition"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
            if len(getattr(self, field)) > 254:
                raise self.invalid(f"{field} has more than 254 strengths")
        if not (self.sparsification or self.pruning or self.unification or self.decomposition):
            raise self.invalid("at least one list of strengths is needed")

    def needs(self) -> tuple[str, ...]:
        """See :meth:`Stage.needs`."""
        return ("evaluate",)

    def run(self, candidate: Candidate, progress: Progress | None) -> dict[str, Any]:
        """See :meth:`Stage.run`."""
        module, task = candidate.module, candidate.task
        measures: dict[str, Any] = {
            "sparsification": measure_sparsification,
            "pruning": measure_pruning,
            "unification": measure_unification,
            "decomposition": measure_decomposition,
        }
        strengths_of = {name: getattr(self, name) for name in measures if getattr(self, name)}
        total = sum(map(len, strengths_of.values()))
        maps: dict[str, Any] = {}
        done = 0
        for name, strengths in strengths_of.items():
            maps[f"{name}_performance_map"] = measures[name](module, task, strengths)
            done += len(strengths)
            if progress is not None:
                progress(done, total, name)
        candidate.parameter_set = {
            **maps,
            "performance_metric_type": task.metric,
            "metric_type_performance_map_valid_flag": 1,
            "validation_set_performance": task.scores(module).value,
        }
        return {name: dataclasses.asdict(found) for name, found in maps.items()}
