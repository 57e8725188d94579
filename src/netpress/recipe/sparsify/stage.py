"""Unstructured pruning."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from netpress.errors import RecipeError
from netpress.parallel import Progress
from netpress.recipe.candidate import Candidate
from netpress.recipe.loop import train
from netpress.recipe.sparsify.weights import apply_masks, sparsify_gradually, sparsity_masks
from netpress.recipe.stage import Stage
from netpress.task import Task

__all__ = ["Sparsify"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sparsify(Stage):
    """Sets the weights that matter least to zero, at once or in steps with training between them.

    Later stages keep the zeros; dependent quantisation may code a few of them as one step.
    """

    share: float = 0.5
    """Share of the weights that are zero afterwards, 0..1."""
    criterion: str = "magnitude"
    """``"magnitude"``, ``"gradient"`` (first-order change of the loss) or ``"fisher"`` (second-order)."""
    scope: str = "global"
    """``"global"``: one ranking of all weights; ``"layer"``: the same share of each."""
    steps: int = 1
    """Steps of a cubic schedule, fast at first, slow at the end."""
    epochs: int = 0
    """Passes over the training data after each step."""
    learning_rate: tuple[float, float] = (1e-3, 1e-4)
    """Of Adam in that training, at the first and at the last step of each."""

    def __post_init__(self) -> None:
        self.check_rates()
        self.check_number("share", 0, 1)
        self.check_number("steps", 1, 1e4)
        self.check_number("epochs", 0, 1e6)
        self.check_choice("criterion", ("magnitude", "gradient", "fisher"))
        self.check_choice("scope", ("global", "layer"))

    def check(self, module: nn.Module, task: Task) -> None:
        """See :meth:`Stage.check`."""
        super().check(module, task)
        learns = self.epochs or self.criterion != "magnitude"
        if learns and task.train_batches is None and (task.loss is not None or task.calibration_batches is None):
            raise RecipeError("the task has no train_batches, which it needs", stage=self.name)

    def run(self, candidate: Candidate, progress: Progress | None) -> dict[str, Any]:
        """See :meth:`Stage.run`."""
        settled = set(candidate.quantized)
        names = [
            name
            for name, value in candidate.module.named_parameters()
            if value.ndim > 1 and name not in settled and "parametrizations" not in name
        ]
        options: dict[str, Any] = {
            "sparsity": self.share,
            "criterion": self.criterion,
            "scope": self.scope,
            "task": candidate.task,
            "names": names,
            "seed": self.seed,
        }
        if self.epochs:
            candidate.module, masks = sparsify_gradually(
                candidate.module,
                train=lambda network, after: self._train(candidate, network, after),
                steps=int(self.steps),
                progress=None if progress is None else lambda i, s: progress(i, int(self.steps), f"{s:.1%} zeros"),
                **options,
            )
        else:
            masks = sparsity_masks(candidate.module, **options)
            apply_masks(candidate.module, masks)
        candidate.masks.update({name: torch.from_numpy(mask) for name, mask in masks.items()})
        zeros = sum(int((~mask).sum()) for mask in masks.values())
        return {"zeros": zeros, "weights": sum(mask.size for mask in masks.values())}

    def _train(self, candidate: Candidate, network: nn.Module, after_step: Callable[[], None]) -> None:
        task = candidate.task
        train(
            network,
            task,
            epochs=int(self.epochs),
            learning_rate=self.learning_rate,
            teacher=candidate.original,
            seed=self.seed,
            after_step=after_step,
            batches="train" if task.train_batches is not None else "calibration",
        )
