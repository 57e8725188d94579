"""Real weights to integer levels, for one tensor.

Source: ISO/IEC 15938-17, quantisation of tensors.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel
from netpress.native import (
    FrozenRates,
    failing_as,
    flat,
    matrix_shape,
    quantize_rd,
    quantize_trellis,
    quantize_uniform,
    rate_price,
)
from netpress.quantize.feedback import LARGEST_LEVEL, Form, feed_back
from netpress.quantize.step_size import step_size

__all__ = ["quantize", "quantize_with_form"]

# More searches than this change next to nothing where errors are fed back.
_MOST_PASSES = 2


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


def quantize_with_form(
    weights: npt.NDArray[np.float32],
    form: Form,
    *,
    qp: int,
    qp_density: int,
    dependent: bool,
    lambda_scale: float = 0.0,
    unary_length: int = 11,
    passes: int = 1,
    name: str | None = None,
) -> tuple[npt.NDArray[np.int32], int]:
    """Quantise a weight with error feedback at the rate that :func:`quantize` takes it to have.

    Args:
        weights: finite float32, C-contiguous, two dimensions or more.
        form: what errors of a row cost; only its shape counts, not its scale.
        qp, qp_density, dependent, lambda_scale, unary_length, passes, name: as for :func:`quantize`, in scan order 0.

    Returns:
        As :func:`quantize`; so are weights that are too many steps large for error feedback.

    Raises:
        InvalidModel: as for :func:`quantize`.
    """
    step = float(np.float32(step_size(qp, qp_density)))
    options: dict[str, Any] = {"qp": qp, "qp_density": qp_density, "unary_length": unary_length, "name": name}
    if not float(np.abs(weights).max(initial=0)) <= LARGEST_LEVEL * step:
        return quantize(
            weights, dependent=dependent, lambda_scale=lambda_scale, passes=passes, reference=False, **options
        )
    importance = form.importance / form.importance.mean(dtype=np.float64).astype(np.float32)
    form = dataclasses.replace(form, importance=importance)
    price = 0.0
    levels = np.empty(0, np.int32)
    if dependent and lambda_scale > 0:
        levels, _ = quantize(weights, dependent=True, **options)
        price = rate_price(flat(weights), levels.reshape(-1), step, lambda_scale)
    for _ in range(min(passes, _MOST_PASSES) if price > 0 else 1):
        rates = None
        if price > 0:
            rates = FrozenRates.of_levels(levels.reshape(-1), dependent=True, unary_length=unary_length, lambda_=price)
        levels = feed_back(weights, form, step=step, dependent=dependent, rates=rates, name=name)
    return levels, qp
