"""Local scaling: one factor per row of a weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel

__all__ = ["apply_scaling"]


def apply_scaling(
    weight: npt.NDArray[Any], scaling: npt.NDArray[Any], *, name: str | None = None
) -> npt.NDArray[np.float32]:
    """Multiply each row of a weight, or of the left factor of a decomposed weight, by its factor.

    Args:
        weight: float32, at least 1-d; a row is a slice along the first dimension. Not changed.
        scaling: float32 with as many elements as the weight has rows, any shape (often ``(rows, 1, 1, 1)``).
        name: name of the weight, for errors.

    Returns:
        float32, shape of ``weight``: one binary32 product per element.

    Raises:
        InvalidModel: the number of factors is not the number of rows.

    Source: reconstruction of the standard, after dequantisation and before recomposition.

    >>> apply_scaling(np.ones((2, 2), np.float32), np.array([1, 3], np.float32)).tolist()
    [[1.0, 1.0], [3.0, 3.0]]
    """
    if weight.ndim == 0 or scaling.size != weight.shape[0]:
        raise InvalidModel(f"{scaling.size} scaling factors do not fit a weight of shape {weight.shape}", tensor=name)
    factors = scaling.astype(np.float32, copy=False).reshape((-1,) + (1,) * (weight.ndim - 1))
    scaled: npt.NDArray[np.float32] = weight.astype(np.float32, copy=False) * factors
    return scaled
