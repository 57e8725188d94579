"""Structured pruning."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from netpress.errors import RecipeError
from netpress.parallel import Progress
from netpress.recipe.candidate import Candidate
from netpress.recipe.layers import FactorizedConv, FactorizedConvTranspose, FactorizedLinear, TuckerConv
from netpress.recipe.prune.channels import CRITERIA, prune_channels
from netpress.recipe.stage import Stage
from netpress.task import Task

__all__ = ["Prune"]

_REPLACED = (FactorizedConv, FactorizedConvTranspose, FactorizedLinear, TuckerConv)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prune(Stage):
    """Removes the output channels that matter least, through all layers that share them.

    The network gets smaller; a stream notes which channels stayed, and its decoder puts zeros in the places of the
    others, so that the original network loads the result and computes the same. It has to come before stages that
    replace layers or settle weights.

    Source: torch-pruning's graph of dependent layers (Fang et al., 2023).
    """

    share: float = 0.3
    """Share of the channels to remove, 0..1."""
    criterion: str = "norm"
    """``"norm"`` (of the weights), ``"batch_norm"`` (scales of batch norms) or ``"sensitivity"`` (first-order change of
    the loss)."""
    scope: str = "global"
    """``"global"``: one ranking of all channels; ``"layer"``: the same share of each group of layers."""
    keep: tuple[str, ...] = ()
    """Paths of layers that are left alone, with all that share their channels."""
    most: float = 0.9
    """Largest share of the channels that any one group of layers may lose."""

    def __post_init__(self) -> None:
        self.check_number("share", 0, 0.999)
        self.check_number("most", 0.001, 1)
        self.check_choice("criterion", CRITERIA)
        self.check_choice("scope", ("global", "layer"))

    def check(self, module: nn.Module, task: Task) -> None:
        """See :meth:`Stage.check`."""
        super().check(module, task)
        if task.train_batches is None and task.calibration_batches is None:
            raise RecipeError("the task has neither train_batches nor calibration_batches", stage=self.name)
        for path in self.keep:
            if path not in dict(module.named_modules()):
                raise RecipeError("there is no such layer", stage=self.name, layer=path)

    def run(self, candidate: Candidate, progress: Progress | None) -> dict[str, Any]:
        """See :meth:`Stage.run`."""
        replaced = [path for path, layer in candidate.module.named_modules() if isinstance(layer, _REPLACED)]
        if replaced or candidate.quantized or candidate.masks or candidate.scatter:
            raise RecipeError("channels can be removed only before weights are decomposed, settled or pruned")
        pruned = prune_channels(
            candidate.module,
            candidate.task,
            share=self.share,
            criterion=self.criterion,
            scope=self.scope,
            keep=self.keep,
            most=self.most,
            seed=self.seed,
        )
        before = candidate.parameter_count
        candidate.module = pruned.module
        steps = {name: pruned.scatter(name) for name in pruned.kept}
        candidate.scatter = {name: step for name, step in steps.items() if step.removed}
        return {
            "parameters": [before, candidate.parameter_count],
            "protected": list(pruned.protected),
            "changed": len(candidate.scatter),
        }
