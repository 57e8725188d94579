"""Real weights to integer levels, and back, for one tensor.

Source: ISO/IEC 15938-17, quantisation and dequantisation of tensors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import netpress.native as _core
from netpress.bitstream import Codebook
from netpress.bitstream.payload import flat, matrix_shape
from netpress.errors import InvalidModel
from netpress.quantize.step_size import step_size

__all__ = ["dequantize", "quantize"]


def quantize(
    weights: npt.NDArray[np.float32],
    *,
    qp: int,
    qp_density: int,
    dependent: bool,
    lambda_scale: float = 0.0,
    rate_unary_length: int = 10,
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
        rate_unary_length: cabac_unary_length_minus1, 0..255, for the rate.
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
    try:
        if dependent and lambda_scale > 0 and not reference:
            used = _core.quantize_rd(
                *arguments,
                scan_order=scan_order,
                qp_density=qp_density,
                lambda_scale=lambda_scale,
                unary_length=rate_unary_length + 1,
                passes=passes,
            )
        else:
            function = _core.quantize_trellis if dependent else _core.quantize_uniform
            used = function(
                *arguments,
                scan_order=scan_order,
                qp_density=qp_density,
                lambda_scale=lambda_scale,
                rate_unary_length=rate_unary_length,
            )
    except _core.Failure:
        raise InvalidModel(f"the values are too large for qp {qp} and for every higher one", tensor=name) from None
    return levels, used


def dequantize(
    levels: npt.NDArray[np.int32], *, qp: int, qp_density: int, codebook: Codebook | None = None
) -> npt.NDArray[np.float32]:
    """Return float32 values in place of the levels, whose memory is reused.

    Args:
        levels: C-contiguous int32, any shape; for a codebook: index less zero offset. Not to be used afterwards.
        qp: quantisation parameter, with the base qp.
        qp_density: 0..7.
        codebook: the codebook of the tensor.

    Raises:
        InvalidModel: an index lies outside the codebook.
    """
    values = levels.view(np.float32)
    step = step_size(qp, qp_density)
    if codebook is None:
        with np.errstate(over="ignore", under="ignore"):
            _core.dequantize_uniform(levels.reshape(-1), values.reshape(-1), float(np.float32(step)))
        return values
    try:
        entries = np.array(codebook.values, np.int32)
        _core.dequantize_codebook(levels.reshape(-1), values.reshape(-1), entries, codebook.zero_offset, step)
    except _core.Failure as error:
        raise InvalidModel(str(error)) from None
    return values
