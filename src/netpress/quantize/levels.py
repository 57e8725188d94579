"""Real weights to integer levels, for one tensor.

Source: ISO/IEC 15938-17, quantisation of tensors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel
from netpress.native import (
    failing_as,
    flat,
    matrix_shape,
    quantize_rd,
    quantize_trellis,
    quantize_uniform,
)

__all__ = ["quantize"]


def quantize(
    weights: npt.NDArray[np.float32],
    *,
    qp: int,
    qp_density: int,
    dependent: bool,
    lambda_scale: float = 0.0,
    unary_length: int = 11,
    reference: bool = True,
    passes: int = 1,
    scan_order: int = 0,
    name: str | None = None,
) -> tuple[npt.NDArray[np.int32], int]:
    """Quantise a tensor.

    Args:
        weights: finite float32, C-contiguous, any shape.
        qp: quantisation parameter.
        qp_density: 0..7.
        dependent: trellis search for dependent quantisation, else the nearest level.
        lambda_scale: weight of the rate, 0 for none.
        unary_length: of the coding, 1..256, for the rate.
        reference: with a rate, decide as NNCodec does; else the trellis search looks at the bins that will be coded.
        passes: how often it does so, with the statistics of the pass before.
        scan_order: 0..4.
        name: for errors.

    Returns:
        int32 levels of the same shape, and the qp used: a higher one where the levels would have left 32 bits.

    Raises:
        InvalidModel: no qp makes the levels fit 32 bits.
    """
    levels = np.empty(weights.shape, np.int32)
    rows, columns = matrix_shape(weights.shape)
    arguments = (flat(weights), levels.reshape(-1), rows, columns, qp)
    too_large = f"the values are too large for qp {qp} and for every higher one"
    with failing_as(lambda _, reason: InvalidModel(too_large, tensor=name, reason=reason)):
        if dependent and lambda_scale > 0 and not reference:
            used = quantize_rd(
                *arguments,
                scan_order=scan_order,
                qp_density=qp_density,
                lambda_scale=lambda_scale,
                unary_length=unary_length,
                passes=passes,
            )
        else:
            function = quantize_trellis if dependent else quantize_uniform
            used = function(
                *arguments,
                scan_order=scan_order,
                qp_density=qp_density,
                lambda_scale=lambda_scale,
                unary_length=unary_length,
            )
    return levels, used
