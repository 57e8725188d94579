"""Error feedback: what coding left out of an update is kept, and the next training starts with it.

Adding it to the next update instead, as is usual, counts it twice where clients train for long: a client that starts
from the model of the server alone learns once more what it has not sent yet. With coarse updates that diverges.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import BaseMismatch
from netpress.federated.layout import Layout, in_range, is_integer
from netpress.federated.storage import read_state, write_state

__all__ = ["Accumulator"]

Array = npt.NDArray[Any]
_FORMAT = "netpress accumulator"


class Accumulator:
    """What a client still owes its server, tensor by tensor.

    Running statistics of batch norms have no residual: they are measured anew in each round, so that what one round
    left out is part of the next difference anyway. Integers are coded without loss.

    Example:
        >>> import numpy
        >>> model = {"w": numpy.array([1, 1], "f4")}
        >>> owed = Accumulator()
        >>> trained = owed.add(model)["w"] + numpy.array([0.5, 0.25], "f4")
        >>> owed.sent({"w": trained - model["w"]}, {"w": numpy.array([0.5, 0.0], "f4")})
        >>> owed.add(model)["w"].tolist()
        [1.0, 1.25]
    """

    def __init__(self, residuals: Mapping[str, Array] | None = None) -> None:
        self._residuals = dict(residuals or {})

    @property
    def residuals(self) -> dict[str, Array]:
        """What is owed, float32 by tensor name; tensors without a residual are left out."""
        return dict(self._residuals)

    def add(self, model: Mapping[str, Array]) -> dict[str, Array]:
        """Return a model with what is owed: where training starts.

        Args:
            model: that of the server, arrays by tensor name.

        Raises:
            BaseMismatch: a tensor has another shape than before.
        """
        start = dict(model)
        for name, residual in self._residuals.items():
            if name not in start or start[name].shape != residual.shape:
                raise BaseMismatch(f"tensor {name!r} has a residual of shape {residual.shape}, which the model has not")
            dtype = start[name].dtype
            start[name] = in_range(np.asarray(start[name].astype(np.float32) + residual), dtype).astype(dtype)
        return start

    def sent(self, due: Mapping[str, Array], decoded: Mapping[str, Array], *, memory: float = 1.0) -> None:
        """Note what the receiver got.

        Args:
            due: the trained model less that of the server.
            decoded: what the receiver decodes; tensors that are missing were left out.
            memory: share of what was left out that stays due, 0..1; see :class:`FederatedConfig`.
        """
        self._residuals = residuals_of(due, decoded, memory)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the residuals to a file that appears complete or not at all."""
        write_state(path, _FORMAT, {}, self._residuals)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Accumulator:
        """Read what :meth:`save` wrote.

        Raises:
            InvalidBitstream: the file is damaged.
            OSError: the file cannot be read.
        """
        return cls(read_state(path, _FORMAT)[1])


def residuals_of(due: Mapping[str, Array], decoded: Mapping[str, Array], memory: float = 1.0) -> dict[str, Array]:
    """Return what stays due of an update once the receiver has decoded it; see :class:`Accumulator`."""
    residuals = {}
    for name, value in due.items():
        if is_integer(value.dtype) or Layout.is_statistic(name):
            continue
        got = decoded.get(name)
        left = value.astype(np.float32) if got is None else np.asarray(value - got, np.float32)
        if memory and left.any():
            residuals[name] = np.asarray(left * np.float32(memory))
    return residuals
