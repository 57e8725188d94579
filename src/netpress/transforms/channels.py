"""Tensors of a network without some of its channels, and back to the full shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel

__all__ = ["gather", "scatter", "scatter_all"]

Kept = Sequence[npt.NDArray[np.int64]]


def scatter(value: npt.NDArray[Any], shape: Sequence[int], kept: Kept, *, name: str | None = None) -> npt.NDArray[Any]:
    """Put the values of a smaller tensor into one of the full shape, with zeros elsewhere.

    Args:
        value: any type; its dimensions are as long as the lists of ``kept``.
        shape: the full shape.
        kept: for each dimension the positions in it, int64, increasing.
        name: name of the tensor, for errors.

    Returns:
        A new array of the same type.

    Raises:
        InvalidModel: the positions do not fit the value or the shape.

    >>> scatter(np.array([5, 6]), (4,), [np.array([1, 3])])
    array([0, 5, 0, 6])
    """
    _check(kept, shape, name)
    if value.shape != tuple(len(k) for k in kept):
        raise InvalidModel(
            f"a value of shape {value.shape} does not fit {[len(k) for k in kept]} positions", tensor=name
        )
    full = np.zeros(tuple(shape), value.dtype)
    full[np.ix_(*kept)] = value
    return full


def gather(value: npt.NDArray[Any], kept: Kept, *, name: str | None = None) -> npt.NDArray[Any]:
    """Take the values at the kept positions: the inverse of :func:`scatter`, where all else is zero.

    >>> gather(np.array([0, 5, 0, 6]), [np.array([1, 3])])
    array([5, 6])
    """
    _check(kept, value.shape, name)
    return value[np.ix_(*kept)]


def _check(kept: Kept, shape: Sequence[int], name: str | None) -> None:
    """Refuse positions that are not increasing or lie outside of the shape."""
    fits = len(kept) == len(shape) and all(
        np.all(np.diff(k) > 0) and (len(k) == 0 or (k[0] >= 0 and k[-1] < n)) for k, n in zip(kept, shape, strict=True)
    )
    if not fits:
        raise InvalidModel(f"the kept positions do not fit the shape {tuple(shape)}", tensor=name)


def scatter_all(
    values: Mapping[str, npt.NDArray[Any]], shapes: Mapping[str, Sequence[int]], kept: Mapping[str, Kept]
) -> dict[str, npt.NDArray[Any]]:
    """Bring all tensors of a smaller network into the shapes of the full one."""
    return {name: scatter(value, shapes[name], kept[name], name=name) for name, value in values.items()}
