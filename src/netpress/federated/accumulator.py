"""Error feedback: what coding left out of an update is kept and added to the next one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import BaseMismatch
from netpress.federated.layout import Layout, is_integer
from netpress.federated.storage import read_state, write_state

__all__ = ["Accumulator"]

Array = npt.NDArray[Any]
_FORMAT = "netpress accumulator"


class Accumulator:
    """What a sender still owes its receiver, tensor by tensor.

    Running statistics of batch norms have no residual: they are measured anew in each round, so that what one round
    left out is part of the next difference anyway. Integers are coded without loss.

    Example:
        >>> import numpy
        >>> owed = Accumulator()
        >>> due = owed.add({"w": numpy.array([0.5, 0.1], "f4")})
        >>> owed.sent(due, {"w": numpy.array([0.5, 0.0], "f4")})
        >>> owed.add({"w": numpy.array([0.0, 0.1], "f4")})["w"].round(6).tolist()
        [0.0, 0.20000000298023224]
    """

    def __init__(self, residuals: Mapping[str, Array] | None = None) -> None:
        self._residuals = dict(residuals or {})

    @property
    def residuals(self) -> dict[str, Array]:
        """What is owed, float32 by tensor name; tensors without a residual are left out."""
        return dict(self._residuals)

    def add(self, update: Mapping[str, Array]) -> dict[str, Array]:
        """Return an update with what is owed.

        Args:
            update: changes by tensor name, of which those of float32 may have a residual.

        Raises:
            BaseMismatch: a tensor has another shape than before.
        """
        due = dict(update)
        for name, residual in self._residuals.items():
            if name not in due or due[name].shape != residual.shape:
                raise BaseMismatch(
                    f"tensor {name!r} has a residual of shape {residual.shape}, which the update has not"
                )
            due[name] = due[name] + residual
        return due

    def sent(self, due: Mapping[str, Array], decoded: Mapping[str, Array]) -> None:
        """Note what the receiver got.

        Args:
            due: from :meth:`add`.
            decoded: what the receiver decodes; tensors that are missing were left out.
        """
        self._residuals = residuals_of(due, decoded)

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


def residuals_of(due: Mapping[str, Array], decoded: Mapping[str, Array]) -> dict[str, Array]:
    """Return what is left of an update once the receiver has decoded it; see :class:`Accumulator`."""
    residuals = {}
    for name, value in due.items():
        if is_integer(value.dtype) or Layout.is_statistic(name):
            continue
        got = decoded.get(name)
        left = value.astype(np.float32) if got is None else np.asarray(value - got, np.float32)
        if left.any():
            residuals[name] = left
    return residuals
