"""A model as the codec sees it: named arrays with a role, and blocks of parameters that belong to one layer."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import Any

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


class Parameter:
    """One named array of a model, which may be loaded only when its value is asked for.

    Args:
        name: name in the stream.
        value: the array, or a function that returns it; then ``shape`` and ``is_integer`` have to be given.
        kind: role in the model.
        parameter_id: position in the model.
        shape: shape of the array.
        is_integer: whether it is coded without loss, as int32.
        new: where the array is the difference to that of a base model, what it makes of it; in the same forms.
    """

    __slots__ = ("_new", "_value", "is_integer", "kind", "name", "parameter_id", "shape")

    def __init__(
        self,
        name: str,
        value: npt.NDArray[np.generic] | Callable[[], npt.NDArray[np.generic]],
        kind: ParameterKind,
        parameter_id: int,
        *,
        shape: tuple[int, ...] | None = None,
        is_integer: bool | None = None,
        new: npt.NDArray[np.generic] | Callable[[], npt.NDArray[np.generic]] | None = None,
    ) -> None:
        if not callable(value):
            shape, is_integer = value.shape, value.dtype.kind in "biu"
        if shape is None or is_integer is None:
            raise TypeError("a parameter that is loaded later needs its shape and kind of type")
        self._value = value
        self._new = new
        self.name = name
        self.kind = kind
        self.parameter_id = parameter_id
        self.shape = shape
        self.is_integer = is_integer

    @property
    def value(self) -> npt.NDArray[np.generic]:
        """The array; loaded anew by each access if it is not in memory."""
        return self._value() if callable(self._value) else self._value

    @property
    def new(self) -> npt.NDArray[np.generic] | None:
        """The new value where the array is a difference, else None; loaded anew like the array."""
        return self._new() if callable(self._new) else self._new

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def with_kind(self, kind: ParameterKind) -> Parameter:
        """Return the same parameter in another role."""
        form: dict[str, Any] = {"shape": self.shape, "is_integer": self.is_integer, "new": self._new}
        return Parameter(self.name, self._value, kind, self.parameter_id, **form)

    def with_value(self, value: npt.NDArray[np.generic]) -> Parameter:
        """Return a parameter with another array."""
        return Parameter(self.name, value, self.kind, self.parameter_id, new=self._new)


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
