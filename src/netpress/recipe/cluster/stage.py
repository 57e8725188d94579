"""Cluster quantisation (core experiment 2)."""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from typing import Any

import torch
from torch import nn

from netpress.errors import RecipeError
from netpress.parallel import Progress
from netpress.recipe.candidate import Candidate
from netpress.recipe.cluster.levels import to_quantized
from netpress.recipe.cluster.lloyd import MAX_ENTRIES, Clusters, cluster, fixed_length_bytes
from netpress.recipe.cluster.refine import refine_centres
from netpress.recipe.cluster.starts import STARTS
from netpress.recipe.layers import coded_parameters
from netpress.recipe.sensitivity import squared_gradients
from netpress.recipe.stage import Stage
from netpress.task import Task

__all__ = ["Cluster"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cluster(Stage):
    """Gives each weight tensor a codebook of few values, into which its weights are sorted.

    Centres start from the density of the weights, move by Lloyd's iterations, and can be refined with data: each by the
    gradients of its members, while members go over to the next centre where the gradients ask for it. The codebooks are
    integers times a step that loses nothing measurable against them; factors of decomposed weights take part.

    Source: response to core experiment 2 of MPEG's neural network compression, 2019.
    """

    bits: int = 5
    """At most ``2**bits`` entries for each tensor, 1..12."""
    init: str = "density"
    """``"density"`` (bounded from below), ``"quantile"``, ``"linear"`` or ``"kmeans++"``."""
    importance: str = "none"
    """What a squared error counts for: ``"none"`` (the same for all weights), ``"density"`` (rare values count more) or
    ``"sensitivity"`` (by the squared gradients of the task's loss)."""
    iterations: int = 300
    """Most iterations of Lloyd's; they end when no centre moves."""
    rate: float = 0.0
    """Weight of the coded bits against the error; 1 is the slope of the rate-distortion curve. Makes far smaller
    streams, with fewer entries."""
    refine_epochs: int = 0
    """Passes over the training data (calibration data, if the task has no loss) to refine the centres."""
    learning_rate: tuple[float, float] = (1e-3, 1e-5)
    """Of the refinement, in the first and the last epoch, in units of the weights."""
    migration: bool = True
    """Whether weights may change their cluster in the refinement."""
    layers: tuple[str, ...] = ("*",)
    """Names of the weights that are clustered; ``*`` stands for any characters. Others are quantised by the encoder."""
    smallest: int = 64
    """Weights with fewer values are left to the encoder: their codebook would not pay."""

    def __post_init__(self) -> None:
        self.check_rates()
        self.check_number("bits", 1, math.log2(MAX_ENTRIES))
        self.check_choice("init", tuple(STARTS))
        self.check_choice("importance", ("none", "density", "sensitivity"))
        self.check_number("iterations", 0, 1e6)
        self.check_number("rate", 0, 1e6)
        self.check_number("refine_epochs", 0, 1e6)
        self.check_number("smallest", 1, 1e12)

    def check(self, module: nn.Module, task: Task) -> None:
        """See :meth:`Stage.check`."""
        super().check(module, task)
        if self.refine_epochs or self.importance == "sensitivity":
            field = "calibration_batches" if task.loss is None and task.train_batches is None else "train_batches"
            if getattr(task, field) is None:
                raise RecipeError(f"the task has no {field}, which refinement and sensitivity need", stage=self.name)

    def run(self, candidate: Candidate, progress: Progress | None) -> dict[str, Any]:
        """See :meth:`Stage.run`."""
        tensors = {
            name: value
            for name, value in coded_parameters(candidate.module).items()
            if value.is_floating_point() and value.ndim > 1 and value.numel() >= self.smallest
            and not name.endswith("_scaling") and any(fnmatch.fnmatchcase(name, pattern) for pattern in self.layers)
        }  # fmt: skip
        if not tensors:
            raise RecipeError("no weight is to be clustered", stage=self.name)
        sensitivity = squared_gradients(candidate.module, candidate.task) if self.importance == "sensitivity" else {}
        clusters: dict[str, Clusters] = {}
        for done, (name, value) in enumerate(tensors.items()):
            if progress is not None:
                progress(done, len(tensors), name)
            importance = sensitivity.get(name, "density" if self.importance == "density" else None)
            clusters[name] = self._clustered(name, value, importance)
        if self.refine_epochs:
            steps = int(self.refine_epochs)
            clusters = refine_centres(
                candidate.module,
                clusters,
                candidate.task,
                epochs=steps,
                learning_rate=self.learning_rate,
                migration=self.migration,
                seed=self.seed,
                progress=None if progress is None else lambda i, loss: progress(i, steps, f"loss {loss:.4g}"),
            )
        density = candidate.config().qp_density
        turned = candidate.turned()
        with torch.no_grad():
            for name, found in clusters.items():
                quantized = to_quantized(found, qp_density=density, name=name)
                tensors[name].copy_(torch.from_numpy(quantized.values(density)))
                candidate.quantized[name] = candidate.as_coded(name, quantized, turned)
        rest = candidate.parameter_count - sum(value.numel() for value in tensors.values())
        return {
            "entries": {name: len(found.centres) for name, found in clusters.items()},
            "fixed_length_bytes": sum(map(fixed_length_bytes, clusters.values())) + 4 * rest,
        }

    def _clustered(self, name: str, value: torch.Tensor, importance: Any) -> Clusters:
        weight = value.detach().cpu().float().numpy()
        options: dict[str, Any] = {
            "init": self.init,
            "importance": importance,
            "iterations": int(self.iterations),
            "seed": self.seed,
            "name": name,
        }
        entries = 1 << int(self.bits)
        found = cluster(weight, entries, **options)
        if self.rate > 0:
            slope = 2 * math.log(2) * found.squared_error / weight.size
            found = cluster(weight, entries, rate_weight=self.rate * slope, **options)
        return found
