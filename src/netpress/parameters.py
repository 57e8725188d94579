"""A model as the codec sees it: named arrays with a role, and blocks of parameters that belong to one layer."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel

__all__ = ["Block", "Parameter", "ParameterKind"]


class ParameterKind(enum.Enum):
    """Role of a parameter; only ``WEIGHT`` is quantised with the main qp. Source: coding tools of the standard."""

    WEIGHT = "weight"
    LOCAL_SCALING = "weight.ls"
    BIAS = "bias"
    BN_BETA = "bn.beta"
    BN_GAMMA = "bn.gamma"
    BN_MEAN = "bn.mean"
    BN_VAR = "bn.var"
    UNSPECIFIED = "unspecified"


@dataclasses.dataclass(slots=True)
class Parameter:
    """One named array of a model.

    ``value`` is float32 or int32 once it reaches the quantisers. ``parameter_id`` is the position in the model.
    """

    name: str
    value: npt.NDArray[np.generic]
    kind: ParameterKind
    parameter_id: int


@dataclasses.dataclass(frozen=True, slots=True)
class Block:
    """Names of the parameters of one layer that travel in one data unit.

    ``weight`` is the name of the weight; a decomposed weight is present as ``<weight>_G`` and ``<weight>_H`` and needs
    its full shape in ``dimensions``. ``epsilon`` is that of the batch norm, for folding.
    """

    weight: str
    scaling: str | None = None
    bias: str | None = None
    bn_beta: str | None = None
    bn_gamma: str | None = None
    bn_mean: str | None = None
    bn_var: str | None = None
    dimensions: tuple[int, ...] | None = None
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        bn = (self.bn_beta, self.bn_gamma, self.bn_mean, self.bn_var)
        if any(n is not None for n in bn) and None in bn:
            raise InvalidModel("a block needs all four batch-norm members or none", tensor=self.weight)
        if self.dimensions is not None:
            object.__setattr__(self, "dimensions", tuple(int(d) for d in self.dimensions))

    @property
    def has_batch_norm(self) -> bool:
        """Whether the block names batch-norm parameters."""
        return self.bn_gamma is not None

    @property
    def is_decomposed(self) -> bool:
        """Whether the weight is present as its two factors."""
        return self.dimensions is not None
