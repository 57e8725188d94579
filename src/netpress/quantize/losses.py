"""What rounding took from a tensor that should not have been taken: for warnings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.quantize.special import is_ratio, smallest_power

__all__ = ["describe_losses", "lost_part"]

_MOST_NAMES = 5


def lost_part(value: npt.NDArray[Any], kept: npt.NDArray[np.bool_]) -> str | None:
    """Say which part of a tensor became zero though it matters, None if none did.

    That is all of it, rows that matter (see :func:`netpress.quantize.special.row_integers`), or values of a tensor
    without a negative value whose ratios matter.

    Args:
        value: float32 of any shape.
        kept: where the decoded values are not zero, same shape.
    """
    if not value.size or kept.all():
        return None
    if not kept.any():
        return "all values" if value.any() else None
    if 1 < value.shape[0] < value.size:
        gone = ~kept.reshape(value.shape[0], -1).any(axis=1)
        if gone.any():
            rows = value.reshape(value.shape[0], -1)
            powers = np.einsum("ij,ij->i", rows, rows, dtype=np.float64) / rows.shape[1]
            count = int(np.sum(gone & (powers >= smallest_power(powers))))
            if count:
                return f"{count} of {len(rows)} rows"
    if is_ratio(value, is_matrix=False) and (count := int(np.sum((value > 0) & ~kept))):
        return f"{count} of {value.size} values"
    return None


def describe_losses(losses: Mapping[str, str]) -> str:
    """Return the text of a warning.

    Args:
        losses: tensor name -> what :func:`lost_part` says; at least one.
    """
    named = [f"{name!r} ({part})" for name, part in list(losses.items())[:_MOST_NAMES]]
    more = f" and {len(losses) - _MOST_NAMES} more tensors" if len(losses) > _MOST_NAMES else ""
    return f"the steps are too coarse: values that are not zero become zero in {', '.join(named)}{more}"
