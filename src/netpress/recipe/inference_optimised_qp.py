"""Steps per tensor chosen by inference."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from netpress.api import encode
from netpress.bitstream.reader import NetpressWarning
from netpress.parallel import Progress
from netpress.recipe.candidate import Candidate, quantized_weights
from netpress.recipe.stage import Stage
from netpress.task import Task

__all__ = ["InferenceOptimisedQp"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class InferenceOptimisedQp(Stage):
    """Moves the qp of one weight after the other where that is worth it, by the task's metric.

    The exchange rate between metric and bytes is that of moving all qps by one. Each weight but the largest then tries
    other qps, from large to small, with what was found for the others. A trial costs one evaluation; tensors are coded
    once for each qp.

    Source: inference-based qp optimisation (IOQ) of the reference encoder, whose decisions it repeats.
    """

    offsets: tuple[int, ...] = (-4, -3, -2, -1, 1, 2, 3, 4)
    """Tried for each weight, in steps of qp."""
    largest: bool = False
    """Also try the largest weight."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "offsets", tuple(self.offsets))
        if not self.offsets or any(not isinstance(offset, int) or not -64 <= offset <= 64 for offset in self.offsets):
            raise self.invalid("offsets are whole numbers from -64 to 64")

    def needs(self) -> tuple[str, ...]:
        """See :meth:`Stage.needs`."""
        return ("evaluate",)

    def check(self, module: nn.Module, task: Task) -> None:
        """See :meth:`Stage.check`."""
        super().check(module, task)

    def run(self, candidate: Candidate, progress: Progress | None) -> dict[str, Any]:
        """See :meth:`Stage.run`."""
        search = _QpSearch(candidate)
        names = sorted(search.qps, key=lambda name: -search.weights[name].size)
        tried = names if self.largest else names[1:]
        total = 3 + len(tried) * len(self.offsets)
        evaluations = 0

        def evaluated(qps: dict[str, int]) -> tuple[float, int]:
            nonlocal evaluations
            evaluations += 1
            result = search.metric(qps), search.size(qps)
            if progress is not None:
                progress(evaluations, total, f"metric {result[0]:.4g}, {result[1]} bytes")
            return result

        start = search.qps
        metric, size = evaluated(start)
        slopes = []
        for offset in (-1, 1):
            other_metric, other_size = evaluated({name: qp + offset for name, qp in start.items()})
            if other_size != size:
                slopes.append(-(metric - other_metric) / (other_size - size))
        exchange = max(sum(slopes) / len(slopes), 0.0) if slopes else 0.0
        best, best_cost, best_metric = dict(start), 0.0, metric
        for name in tried:
            for offset in self.offsets:
                trial = {**best, name: start[name] + offset}
                trial_metric, trial_size = evaluated(trial)
                cost = (metric - trial_metric) + exchange * (trial_size - size)
                if cost < best_cost:
                    best, best_cost, best_metric = trial, cost, trial_metric
        candidate.options["qp_per_tensor"] = {**(candidate.options.get("qp_per_tensor") or {}), **best}
        moved = {name: qp - start[name] for name, qp in best.items() if qp != start[name]}
        return {
            "evaluations": evaluations,
            "exchange": exchange,
            "moved": moved,
            "metric": (candidate.task.direction == "max" and best_metric) or -best_metric,
        }


class _QpSearch:
    """Metric and size of a network for given qps; what a tensor becomes at a qp is found once."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        self.config = candidate.config()
        data = candidate.encode()
        self.module = candidate.restored(data)
        coded = quantized_weights(data)
        source = candidate.source()
        state = self.module.state_dict()
        # Weights with other stages' work in them are left alone: factors, clusters, transposed ones.
        plain = [
            name
            for name in coded
            if name not in candidate.quantized and name in state and tuple(state[name].shape) == source.shape(name)
        ]
        self.qps = {name: coded[name].qp for name in plain}
        self.weights = {name: source.load(name) for name in plain}
        self.rest = len(data) - sum(self._coded(name, qp)[0] for name, qp in self.qps.items())
        self.sign = 1.0 if candidate.task.direction == "max" else -1.0
        self.loaded = dict(self.qps)

    def size(self, qps: dict[str, int]) -> int:
        """Return the bytes of the stream."""
        return self.rest + sum(self._coded(name, qp)[0] for name, qp in qps.items())

    def metric(self, qps: dict[str, int]) -> float:
        """Return the metric, greater for better networks."""
        state = self.module.state_dict()
        with torch.no_grad():
            for name, qp in qps.items():
                if self.loaded[name] != qp:
                    state[name].copy_(torch.from_numpy(self._coded(name, qp)[1]))
                    self.loaded[name] = qp
        return self.sign * self.candidate.task.scores(self.module).value

    def _coded(self, name: str, qp: int) -> tuple[int, np.ndarray[Any, Any]]:
        if not hasattr(self, "_cache"):
            self._cache: dict[tuple[str, int], tuple[int, np.ndarray[Any, Any]]] = {}
        key = (name, qp)
        if key not in self._cache:
            config = self.config.replace(blocks=(), fold_batch_norm=False, qp=qp, qp_per_tensor=None, checksums=False)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NetpressWarning)  # of too coarse steps: the metric tells
                data = encode({name: self.weights[name]}, config)
            self._cache[key] = len(data), quantized_weights(data)[name].values(config.qp_density)
        return self._cache[key]
