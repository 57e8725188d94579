"""Low-rank decomposition of a weight into two factors, and the product that undoes it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel

__all__ = ["decompose", "recompose"]


def decompose(
    weight: npt.NDArray[Any], rank: int, *, name: str | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Split a weight into the two factors of its best approximation of a given rank.

    The weight is read as a matrix of ``weight.shape[0]`` rows. The singular values are shared equally between the
    factors (``G = U sqrt(S)``, ``H = sqrt(S) V'``), so that one step size suits both. The sign of each pair is fixed
    by making the largest entry of its column of ``G`` positive. Computed in binary64; O(rows * columns * min) time.

    Args:
        weight: float array with 2 or more dimensions, finite, not empty; not changed.
        rank: 1..min(rows, columns).
        name: name of the weight, for errors.

    Returns:
        ``G`` of shape ``(rows, rank)`` and ``H`` of shape ``(rank, columns)``, float32, C-contiguous.

    Raises:
        InvalidModel: the weight has no matrix form, is empty or not finite, or the rank is out of range.

    Source: decomposition of the standard (the syntax leaves the algorithm to the encoder); Eckart and Young, 1936.
    """
    if weight.ndim < 2 or weight.size == 0:
        raise InvalidModel(f"a weight of shape {weight.shape} cannot be decomposed", tensor=name)
    matrix = weight.reshape(weight.shape[0], -1).astype(np.float64)
    if not 1 <= rank <= min(matrix.shape):
        raise InvalidModel(f"rank {rank} is outside 1..{min(matrix.shape)}", tensor=name)
    if not np.isfinite(matrix).all():
        raise InvalidModel("a weight with infinite or undefined values cannot be decomposed", tensor=name)
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    u, vt, root = u[:, :rank], vt[:rank], np.sqrt(s[:rank])
    peaks = u[np.argmax(np.abs(u), axis=0), np.arange(rank)]
    sign = np.where(peaks < 0, -1.0, 1.0)
    g = (u * (sign * root)).astype(np.float32)
    h = (vt * (sign * root)[:, None]).astype(np.float32)
    return np.ascontiguousarray(g), np.ascontiguousarray(h)


def recompose(
    g: npt.NDArray[Any], h: npt.NDArray[Any], dimensions: Sequence[int], *, name: str | None = None
) -> npt.NDArray[np.float32]:
    """Form a weight from its factors.

    Args:
        g: float32 ``(rows, rank)``. ``rows`` need not be ``dimensions[0]``.
        h: float32 ``(rank, columns)``.
        dimensions: shape of the weight, with ``rows * columns`` elements.
        name: name of the weight, for errors.

    Returns:
        float32 of shape ``dimensions``: the matrix product in binary32 (its last bits depend on the order in which
        the linear algebra library sums).

    Raises:
        InvalidModel: the shapes do not fit.

    Source: recomposition in the standard's reconstruction, after local scaling.

    >>> recompose(np.ones((2, 1), np.float32), np.ones((1, 4), np.float32), (2, 2, 2)).shape
    (2, 2, 2)
    """
    shape = tuple(int(n) for n in dimensions)
    if g.ndim != 2 or h.ndim != 2 or g.shape[1] != h.shape[0]:
        raise InvalidModel(f"factors of shapes {g.shape} and {h.shape} have no product", tensor=name)
    if any(n < 0 for n in shape) or math.prod(shape) != g.shape[0] * h.shape[1]:
        raise InvalidModel(f"factors of shapes {g.shape} and {h.shape} do not make a weight of {shape}", tensor=name)
    product: npt.NDArray[np.float32] = g.astype(np.float32, copy=False) @ h.astype(np.float32, copy=False)
    return product.reshape(shape)
