"""Retraining, or fine-tuning, between other stages."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from netpress.errors import RecipeError
from netpress.parallel import Progress
from netpress.recipe.candidate import Candidate
from netpress.recipe.layers import coded_parameters
from netpress.recipe.loop import OPTIMIZERS, train
from netpress.recipe.stage import Stage
from netpress.task import Task

__all__ = ["Retrain"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Retrain(Stage):
    """Trains the network on the task's training data.

    Weights whose integers are settled (by clustering, say) stay as they are; weights that were pruned stay zero.
    Without a loss of the task the network learns to give the outputs of the original one.
    """

    epochs: int = 10
    """Passes over the training data."""
    learning_rate: tuple[float, float] = (1e-3, 1e-5)
    """At the first and at the last step; it falls geometrically."""
    optimizer: str = "adam"
    """``"adam"``, ``"adamw"`` or ``"sgd"`` (with Nesterov momentum 0.9)."""
    batch_size: int | None = None
    """Samples in a batch; None: as the task gives them."""
    distillation: float | None = None
    """Share of the distance to the original's outputs in the loss, 0..1. None: 0 if the task has a loss, else 1."""
    weight_decay: float = 0.0
    """Of the optimiser."""
    dropout: float | None = None
    """Probability of all dropout layers meanwhile; None: their own."""
    batch_norm: str = "train"
    """``"train"``, or ``"frozen"``: running statistics stay as they are."""
    gradient_limit: float | None = None
    """Largest norm of the gradients; None for no limit."""

    def __post_init__(self) -> None:
        self.check_rates()
        self.check_number("epochs", 1, 1e6)
        self.check_number("distillation", 0, 1, optional=True)
        self.check_number("dropout", 0, 1, optional=True)
        self.check_number("batch_size", 1, 1e9, optional=True)
        self.check_choice("optimizer", tuple(OPTIMIZERS))
        self.check_choice("batch_norm", ("train", "frozen"))

    def check(self, module: nn.Module, task: Task) -> None:
        """See :meth:`Stage.check`."""
        super().check(module, task)
        if task.train_batches is None and task.calibration_batches is None:
            raise RecipeError("the task has neither train_batches nor calibration_batches", stage=self.name)
        if self.distillation is not None and self.distillation < 1 and task.loss is None:
            raise RecipeError("the task has no loss; only distillation=1 does without", stage=self.name)

    def run(self, candidate: Candidate, progress: Progress | None) -> dict[str, Any]:
        """See :meth:`Stage.run`."""
        module, task = candidate.module, candidate.task
        settled = _settled(candidate)
        trained = [p for p in module.parameters() if p.data_ptr() not in settled]
        before = {name: value.detach().clone() for name, value in module.state_dict().items()}
        tensors = coded_parameters(module)
        masks = [(tensors[name], mask) for name, mask in candidate.masks.items() if name in tensors]

        def keep_zeros() -> None:
            with torch.no_grad():
                for value, mask in masks:
                    value.mul_(mask.to(value))

        try:
            losses = train(
                module,
                task,
                epochs=int(self.epochs),
                optimizer=self.optimizer,
                learning_rate=self.learning_rate,
                parameters=trained,
                teacher=candidate.original,
                distillation=self.distillation,
                batch_size=self.batch_size,
                weight_decay=self.weight_decay,
                gradient_limit=self.gradient_limit,
                seed=self.seed,
                batch_norm=self.batch_norm,
                dropout=self.dropout,
                progress=progress,
                after_step=keep_zeros if masks else None,
                batches="train" if task.train_batches is not None else "calibration",
            )
        except RecipeError:
            module.load_state_dict(before)
            raise
        return {"losses": losses}


def _settled(candidate: Candidate) -> set[int]:
    """Return the addresses of the weights whose integers are settled."""
    tensors = coded_parameters(candidate.module)
    return {tensors[name].data_ptr() for name in candidate.quantized if name in tensors}
