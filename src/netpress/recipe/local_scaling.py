"""Local scaling adaptation."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils import parametrize

from netpress.errors import RecipeError
from netpress.parallel import Progress
from netpress.recipe.candidate import Candidate
from netpress.recipe.layers import CONVOLUTIONS, RowScaling, scaled_layers, scaling_of
from netpress.recipe.loop import train
from netpress.recipe.stage import Stage
from netpress.task import Task

__all__ = ["LocalScaling"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalScaling(Stage):
    """Gives each output row of the weights a factor, chosen when the weights are quantised.

    The weights are quantised first and stay so. Factors are trained with everything else fixed where the task has
    training data; else they are the least-squares fit of the layer's outputs on the calibration data. With
    :class:`BatchNormFold` before it, they merge into what is coded for the batch norm and cost nothing.

    Source: local scaling adaptation (LSA) of the standard.
    """

    epochs: int = 5
    """Passes over the training data."""
    learning_rate: tuple[float, float] = (1e-3, 1e-4)
    """Of Adam, at the first and at the last step."""
    method: str = "auto"
    """``"train"``, ``"fit"``, or ``"auto"``: trained where the task has training data."""
    batch_size: int | None = None
    """Samples in a batch; None: as the task gives them."""
    distillation: float | None = None
    """Share of the distance to the original's outputs in the loss, 0..1. None: 0 if the task has a loss, else 1."""

    def __post_init__(self) -> None:
        self.check_rates()
        self.check_number("epochs", 1, 1e6)
        self.check_choice("method", ("auto", "train", "fit"))
        self.check_number("distillation", 0, 1, optional=True)

    def check(self, module: nn.Module, task: Task) -> None:
        """See :meth:`Stage.check`."""
        super().check(module, task)
        wanted = self._method(task)
        field = "train_batches" if wanted == "train" else "calibration_batches"
        if getattr(task, field) is None:
            raise RecipeError(f"the task has no {field}, which it needs", stage=self.name)
        if not any(True for _ in scaled_layers(module)):
            raise RecipeError("the network has no linear layer or convolution", stage=self.name)

    def _method(self, task: Task) -> str:
        if self.method != "auto":
            return self.method
        return "fit" if task.train_batches is None else "train"

    def run(self, candidate: Candidate, progress: Progress | None) -> dict[str, Any]:
        """See :meth:`Stage.run`."""
        method = self._method(candidate.task)
        floats = {path: layer.weight.detach().clone() for path, layer in _plain_layers(candidate.module).items()}
        candidate.settle()
        moments = candidate.input_moments(_plain_layers(candidate.module)) if method == "fit" else {}
        for _, layer, leaf in list(scaled_layers(candidate.module)):
            if scaling_of(layer, leaf) is None:
                parametrize.register_parametrization(layer, leaf, RowScaling(getattr(layer, leaf).detach(), 0))
        if method == "fit":
            return {"method": method, "layers": _fit(candidate, floats, moments)}
        factors = [
            scaling.scaling
            for _, layer, leaf in scaled_layers(candidate.module)
            if (scaling := scaling_of(layer, leaf)) is not None
        ]
        losses = train(
            candidate.module,
            candidate.task,
            epochs=int(self.epochs),
            learning_rate=self.learning_rate,
            parameters=factors,
            teacher=candidate.original,
            distillation=self.distillation,
            batch_size=self.batch_size,
            seed=self.seed,
            batch_norm="frozen",
            progress=progress,
        )
        return {"method": method, "losses": losses}


def _plain_layers(module: nn.Module) -> dict[str, Any]:
    return {path: layer for path, layer, leaf in scaled_layers(module) if leaf == "weight"}


def _fit(candidate: Candidate, floats: dict[str, torch.Tensor], moments: Mapping[str, npt.NDArray[np.float64]]) -> int:
    """Set each factor to the one with the least squared error of the row's outputs; return how many layers got some."""
    layers = _plain_layers(candidate.module)
    for path, array in moments.items():
        layer = layers[path]
        moment = torch.from_numpy(array).to(layer.weight.device)
        scaling = scaling_of(layer)
        if scaling is None:
            continue
        groups = layer.groups if isinstance(layer, CONVOLUTIONS) else 1
        wanted = floats[path].double().reshape(groups, -1, moment.shape[-1])
        coded = layer.parametrizations.weight.original.detach().double().reshape(wanted.shape)
        product = coded @ moment
        power = (product * coded).sum(-1)
        factor = torch.where(power > 0, (product * wanted).sum(-1) / power.clamp_min(1e-300), torch.ones_like(power))
        with torch.no_grad():
            scaling.scaling.copy_(factor.reshape(scaling.scaling.shape))
    return len(moments)
