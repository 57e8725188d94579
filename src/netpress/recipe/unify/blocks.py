"""Weight unification: the weights of a block get one magnitude and keep their signs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig, InvalidModel

__all__ = ["UnifiedWeight", "unify"]


@dataclasses.dataclass(frozen=True, slots=True)
class UnifiedWeight:
    """A weight some of whose blocks have one magnitude.

    Args:
        values: float32, shape of the weight.
        unified: bool ``(rows of blocks, columns of blocks)``, which blocks.
        threshold: largest mean squared error of a unified block, 0 if there is none.
        squared_error: sum of the squared changes.
    """

    values: npt.NDArray[np.float32]
    unified: npt.NDArray[np.bool_]
    threshold: float
    squared_error: float


def unify(
    weight: npt.NDArray[Any],
    *,
    block: tuple[int, int] = (4, 4),
    super_block: tuple[int, int] | None = None,
    share: float | None = None,
    threshold: float | None = None,
    name: str | None = None,
) -> UnifiedWeight:
    """Give the blocks of a weight that lose least by it one magnitude each.

    The weight is read as a matrix of ``weight.shape[0]`` rows. Its mean magnitude is the one that changes a block
    least; zeros stay zeros and do not count in it. Without training afterwards it gains nothing over a coarser step in
    our streams (benchmarks/unification.py): one magnitude in a block is still coded weight by weight.

    Args:
        weight: finite floats of two or more dimensions, not empty; not changed.
        block: rows and columns of a block, 1 or more; those at the lower and right edges may be smaller.
        super_block: rows and columns of the areas that each get their share of unified blocks, multiples of those of a
            block. None: the whole matrix.
        share: 0..1, share of the blocks of each super-block to unify, by least mean squared error, rounded down.
        threshold: 0 or more; unify the blocks whose mean squared error is not above. Either this or ``share``.
        name: name of the tensor, for errors.

    Raises:
        InvalidModel: the weight has no matrix form, is empty or not finite.
        InvalidConfig: an option is out of range.

    Source: weight unification in the standard's list of tools (super-block and block dimensions, threshold); the choice
    of blocks and magnitudes is left to the encoder.

    >>> unify(np.array([[1.0, -3.0], [5.0, 9.0]]), block=(1, 2), share=0.5).values
    array([[ 2., -2.],
           [ 5.,  9.]], dtype=float32)
    """
    area = super_block or (0, 0)
    if min(block) < 1 or (super_block is not None and (min(area) < 1 or area[0] % block[0] or area[1] % block[1])):
        raise InvalidConfig(f"blocks of {block} do not fill super-blocks of {super_block}")
    limits = [limit for limit in (share, threshold) if limit is not None]
    if len(limits) != 1 or not (0 <= limits[0] < np.inf) or (share is not None and share > 1):
        raise InvalidConfig("give either a share of 0..1 or a threshold of 0 or more")
    if weight.ndim < 2 or weight.size == 0:
        raise InvalidModel(f"a weight of shape {weight.shape} cannot be unified", tensor=name)
    matrix = weight.reshape(weight.shape[0], -1).astype(np.float64)
    if not np.isfinite(matrix).all():
        raise InvalidModel("a weight with infinite or undefined values cannot be unified", tensor=name)
    magnitudes, errors = _blocks(matrix, block)
    if share is not None:
        unified = _best(errors, share, None if super_block is None else (area[0] // block[0], area[1] // block[1]))
    else:
        unified = errors <= limits[0]
    spread = np.kron(np.where(unified, magnitudes, np.nan), np.ones(block))[: matrix.shape[0], : matrix.shape[1]]
    result = np.where(np.isnan(spread), matrix, np.sign(matrix) * spread).astype(np.float32)
    change = float(np.sum((result.astype(np.float64) - matrix) ** 2))
    return UnifiedWeight(result.reshape(weight.shape), unified, float(errors[unified].max(initial=0.0)), change)


def _blocks(matrix: npt.NDArray[np.float64], block: tuple[int, int]) -> tuple[Any, Any]:
    """Return the mean magnitude of the non-zero weights of each block, and the mean squared error that it makes."""
    rows, columns = (-(-n // b) for n, b in zip(matrix.shape, block, strict=True))
    padded = np.zeros((rows * block[0], columns * block[1]))
    padded[: matrix.shape[0], : matrix.shape[1]] = np.abs(matrix)
    tiles = padded.reshape(rows, block[0], columns, block[1]).transpose(0, 2, 1, 3).reshape(rows, columns, -1)
    used = tiles > 0
    counts = np.maximum(used.sum(-1), 1)
    means = tiles.sum(-1) / counts
    sizes = np.minimum(block[0], matrix.shape[0] - block[0] * np.arange(rows))[:, None] * np.minimum(
        block[1], matrix.shape[1] - block[1] * np.arange(columns)
    )
    errors = np.sum(np.where(used, tiles - means[..., None], 0) ** 2, -1) / sizes
    return means, errors


def _best(errors: npt.NDArray[np.float64], share: float, area: tuple[int, int] | None) -> npt.NDArray[np.bool_]:
    """Choose the blocks with the least errors in each area, whose size is given in rows and columns of blocks."""
    rows, columns = area or errors.shape
    chosen = np.zeros(errors.shape, bool)
    for top in range(0, errors.shape[0], rows):
        for left in range(0, errors.shape[1], columns):
            part = errors[top : top + rows, left : left + columns]
            flags = np.zeros(part.size, bool)
            # The product may fall just short of a whole number.
            flags[np.argsort(part, axis=None, kind="stable")[: int(share * part.size + 1e-9)]] = True
            chosen[top : top + rows, left : left + columns] = flags.reshape(part.shape)
    return chosen
