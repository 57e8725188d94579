"""Weight unification."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import Any

import torch
from torch import nn

from netpress.errors import RecipeError
from netpress.parallel import Progress
from netpress.recipe.candidate import Candidate
from netpress.recipe.stage import Stage
from netpress.recipe.unify.blocks import unify
from netpress.task import Task

__all__ = ["Unify"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unify(Stage):
    """Gives the weights of blocks one magnitude each, where that changes them least; signs stay.

    The gain for the coder is small beside that of coarser steps; the tool is for decoders that compute with blocks.

    Source: weight unification of the standard.
    """

    share: float = 0.5
    """Share of the blocks that are unified, 0..1."""
    block: tuple[int, int] = (1, 4)
    """Rows and columns of a block of the weight, read as a matrix with a row for each output."""
    super_block: tuple[int, int] | None = None
    """Rows and columns of the areas that each get their share; None: the whole weight."""
    layers: tuple[str, ...] = ("*",)
    """Names of the weights; ``*`` stands for any characters."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "block", tuple(self.block))
        object.__setattr__(self, "super_block", None if self.super_block is None else tuple(self.super_block))
        self.check_number("share", 0, 1)
        for size in (self.block, self.super_block):
            if size is not None and (len(size) != 2 or any(not isinstance(n, int) or n < 1 for n in size)):
                raise self.invalid("block and super_block are pairs of whole numbers from 1")
        if self.super_block is not None and (
            self.super_block[0] % self.block[0] or self.super_block[1] % self.block[1]
        ):
            raise self.invalid(f"blocks of {self.block} do not fill super-blocks of {self.super_block}")

    def check(self, module: nn.Module, task: Task) -> None:
        """See :meth:`Stage.check`."""
        super().check(module, task)
        if not self._weights(module):
            raise RecipeError("no weight is to be unified", stage=self.name)

    def run(self, candidate: Candidate, progress: Progress | None) -> dict[str, Any]:
        """See :meth:`Stage.run`."""
        weights = {n: w for n, w in self._weights(candidate.module).items() if n not in candidate.quantized}
        blocks = unified = 0
        with torch.no_grad():
            for done, (name, weight) in enumerate(weights.items()):
                if progress is not None:
                    progress(done, len(weights), name)
                values = weight.detach().cpu().float().numpy()
                result = unify(values, block=self.block, super_block=self.super_block, share=self.share, name=name)
                weight.copy_(torch.from_numpy(result.values))
                blocks += result.unified.size
                unified += int(result.unified.sum())
        return {"blocks": blocks, "unified": unified}

    def _weights(self, module: nn.Module) -> dict[str, nn.Parameter]:
        return {
            name: parameter
            for name, parameter in module.named_parameters()
            if parameter.ndim > 1 and any(fnmatch.fnmatchcase(name, pattern) for pattern in self.layers)
        }
