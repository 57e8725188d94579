"""Batch-norm folding."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from netpress.errors import RecipeError
from netpress.parallel import Progress
from netpress.parameters import Block
from netpress.recipe.candidate import Candidate
from netpress.recipe.layers import TRANSPOSED_CONVOLUTIONS
from netpress.recipe.stage import Stage
from netpress.task import Task
from netpress.transforms.batch_norm_pairs import find_blocks

__all__ = ["BatchNormFold"]

_BATCH_NORMS = nn.modules.batchnorm._BatchNorm


@dataclasses.dataclass(frozen=True, kw_only=True)
class BatchNormFold(Stage):
    """Codes a factor for each row and a bias instead of the four vectors of each batch norm.

    Pairs are found in the data flow (torch.fx) of the original network, for linear layers, convolutions and transposed
    convolutions of one group, 1-d to 3-d, each with the epsilon of its own module. Decoding gives back batch norms that
    compute the same, so the original network loads the result. The network itself stays as it is for later stages.

    Source: batch-norm folding of the standard.
    """

    def check(self, module: nn.Module, task: Task) -> None:
        """See :meth:`Stage.check`."""
        super().check(module, task)
        if not any(isinstance(layer, _BATCH_NORMS) for layer in module.modules()):
            raise RecipeError("the network has no batch norm", stage=self.name)

    def run(self, candidate: Candidate, progress: Progress | None) -> dict[str, Any]:
        """See :meth:`Stage.run`."""
        blocks = _pairs(candidate.original)
        candidate.norms = {block.weight: block for block in blocks}
        folded = {block.bn_mean for block in blocks}
        left = [
            path
            for path, layer in candidate.original.named_modules()
            if isinstance(layer, _BATCH_NORMS) and f"{path}.running_mean" not in folded
        ]
        return {"folded": len(blocks), "left": left}


def _pairs(module: nn.Module) -> list[Block]:
    shapes = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    for path, layer in module.named_modules():
        name = f"{path}.weight"
        if isinstance(layer, TRANSPOSED_CONVOLUTIONS) and layer.groups == 1:
            shapes[name] = (shapes[name][1], shapes[name][0], *shapes[name][2:])
    return find_blocks(shapes, {}, module, transposed=True)
