"""A tensor that is quantised already."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel
from netpress.quantize.dequantize import dequantize

__all__ = ["QuantizedTensor"]


@dataclasses.dataclass(frozen=True, slots=True)
class QuantizedTensor:
    """The integers of a tensor, chosen outside of the encoder, which codes them as they are.

    Args:
        levels: int32, shape of the tensor; the value of each is the integer times the step.
        qp: quantisation parameter of the step.
        dependent: whether ``levels`` form a path through the trellis of dependent quantisation.
        codebook: code the positions of the distinct integers in a sorted list of them instead of the integers. None:
            where that is smaller. Not with ``dependent``.

    Raises:
        InvalidModel: ``levels`` is not an int32 array, or a codebook is asked for with ``dependent``.
    """

    levels: npt.NDArray[np.int32]
    qp: int
    dependent: bool = False
    codebook: bool | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.levels, np.ndarray) or self.levels.dtype != np.int32:
            raise InvalidModel(f"quantised levels are int32 arrays, not {getattr(self.levels, 'dtype', None)}")
        if self.dependent and self.codebook:
            raise InvalidModel("dependent quantisation has no codebook")

    def values(self, qp_density: int = 2) -> npt.NDArray[np.float32]:
        """Return what a decoder makes of the integers, float32 of the same shape.

        Args:
            qp_density: that of the encoder, 0..7.
        """
        return dequantize(self.levels.copy(order="C"), qp=self.qp, qp_density=qp_density)
