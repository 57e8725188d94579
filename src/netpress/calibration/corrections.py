"""What the vectors after a layer can take over from its quantised weight, at no cost: they are coded anyway.

Source: docs/notes/calibrated-quantisation.md.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.calibration.statistics import COLUMNS, Calibration, LayerStatistics
from netpress.formats import Source
from netpress.transforms.batch_norm import find_blocks

__all__ = ["Outlet", "centred", "find_outlets", "output_shifts"]

# Of moments in single precision, as a share of the mean square.
_ROUNDING = np.float32(1e-5)

Array = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, slots=True)
class Outlet:
    """Names of the vectors after a weight: its bias, and mean and factor of its batch norm."""

    bias: str | None = None
    mean: str | None = None
    gamma: str | None = None

    def scale(self, vectors: dict[str, Array], factors: Array) -> None:
        """Take back that the rows of the weight were multiplied. Only with a batch norm."""
        assert self.mean is not None
        assert self.gamma is not None
        # The bias in front of the batch norm is not multiplied; the mean makes up for it.
        bias = np.float32(0) if self.bias is None else vectors[self.bias]
        vectors[self.mean] = (vectors[self.mean] - bias) * factors + bias
        vectors[self.gamma] = vectors[self.gamma] / factors

    def shift(self, vectors: dict[str, Array], shifts: npt.NDArray[np.float64]) -> None:
        """Take back what was added to the outputs of the rows."""
        if self.mean is not None:
            vectors[self.mean] = (vectors[self.mean] + shifts).astype(np.float32)
        else:
            assert self.bias is not None
            vectors[self.bias] = (vectors[self.bias] - shifts).astype(np.float32)


def find_outlets(source: Source, calibration: Calibration) -> dict[str, Outlet]:
    """Return the outlets of weights, by name.

    A batch norm needs a torch module as the source, whose data flow tells which layer it follows. Weights with several
    names are left out: what one use of them takes over would be wrong for the others.
    """
    shared = _shared_names(source.torch_module)
    usable = {n for n, layer in calibration.layers.items() if layer.layout == COLUMNS and n not in shared}
    names = set(source.names)
    outlets = {
        name: Outlet(bias=bias)
        for name in usable
        if (bias := calibration.layers[name].bias) is not None and bias in names and bias not in shared
    }
    if source.torch_module is not None:
        shapes = {name: source.shape(name) for name in source.names}
        kinds = {name: source.kind(name) for name in source.names}
        for block in find_blocks(shapes, kinds, source.torch_module):
            if block.weight in usable and block.bn_mean is not None and block.bn_gamma is not None:
                outlets[block.weight] = Outlet(bias=block.bias, mean=block.bn_mean, gamma=block.bn_gamma)
    return outlets


def _shared_names(module: Any) -> set[str]:
    """Names of parameters that have more than one."""
    if module is None:
        return set()
    by_parameter: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        by_parameter.setdefault(id(parameter), []).append(name)
    return {name for names in by_parameter.values() if len(names) > 1 for name in names}


def centred(statistics: LayerStatistics) -> LayerStatistics:
    """Return the statistics with the moments about the mean: what errors cost if a vector takes up their mean.

    The mean is left out, so that no form takes it for part of the cost.
    """
    _, inputs, block = statistics.moments.shape
    moments = statistics.moments.copy()
    index = np.arange(inputs)
    powers = moments[:, index, index % block]
    for start in range(0, inputs, block):
        part = statistics.mean[:, start : start + block]
        moments[:, start : start + block, : part.shape[1]] -= part[:, :, None] * part[:, None, :]
    # Where inputs hardly change, only rounding is left.
    moments[:, index, index % block] = np.maximum(moments[:, index, index % block], 0) + _ROUNDING * powers
    return dataclasses.replace(statistics, moments=moments, mean=np.zeros_like(statistics.mean))


def output_shifts(
    before: npt.NDArray[np.floating], after: npt.NDArray[np.floating], statistics: LayerStatistics
) -> npt.NDArray[np.float64]:
    """Return by how much the mean of each output grows from one weight to another, both of its shape (rows, ...)."""
    groups, inputs = statistics.mean.shape
    change = (after.astype(np.float64) - before).reshape(groups, before.shape[0] // groups, inputs)
    shifts: npt.NDArray[np.float64] = np.einsum("grc,gc->gr", change, statistics.mean.astype(np.float64)).reshape(-1)
    return shifts
