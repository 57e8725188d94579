"""Steps chosen from the values of each tensor, for models whose quality is to stay as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.step_size import qp_for_step, qp_range, step_size

__all__ = ["automatic_qp", "is_quantised", "mean_weight_size"]

# Noise power over the squared step: exact for the uniform quantiser at fine steps, simulated for the trellis on normal
# and Laplacian weights (0.23 to 0.25 between 18 and 30 dB, 0.26 at the finest steps).
_UNIFORM_NOISE = 1 / 12
_TRELLIS_NOISE = 1 / 4
# Levels that the trellis can repeat for ever are the multiples of 4: they hold its start state.
_TRELLIS_PERIOD = 4
_SNR_LIMITS_DB = (20.0, 70.0)
_CONSTANT_TOLERANCE = 1e-6
_MAX_LEVEL = 2**30
DEFAULT_SNR_DB_WEIGHTS = 40.0
DEFAULT_SNR_DB_OTHER = 54.0


def mean_weight_size(parameters: Sequence[Parameter]) -> float:
    """Return the mean number of values of the weights of a model, 1 if it has none; see :func:`automatic_qp`."""
    sizes = [p.size for p in parameters if not p.is_integer and p.size and _is_matrix(p.shape, p.kind)]
    return sum(sizes) / len(sizes) if sizes else 1.0


def automatic_qp(
    value: npt.NDArray[Any],
    kind: ParameterKind,
    *,
    mean_size: float,
    qp_density: int = 2,
    snr_db_weights: float = DEFAULT_SNR_DB_WEIGHTS,
    snr_db_other: float = DEFAULT_SNR_DB_OTHER,
    dependent: bool = True,
    base_qp: int = 0,
    name: str | None = None,
) -> int:
    """Return the qp with which a tensor of a model keeps its quality, when the caller gave none.

    It is the largest whose step is at most ``spread * 10**(-snr / 20) / sqrt(c)``. The noise power of
    the quantiser is ``c * step**2``: ``c = 1/12`` for the uniform one, 1/4 for the trellis.

    *Weights* (two or more dimensions above 1, kind weight or unspecified): the spread is the geometric mean of the
    root mean squares of the rows, rows below 1/16 of the tensor's counted as that, so that a few large rows do not
    drown the others. A tensor of ``n`` elements gets ``snr_db_weights + 10 log10(m / n)`` dB, where ``m`` is the mean
    size of a weight, within 20..70 dB. Derivation: independent relative errors of layers add up at the output, so
    minimise ``sum(n * bits)`` for a given ``sum(noise / signal)``. A weight's bits fall by ``log2`` of the noise
    amplitude, hence at the minimum ``noise / signal`` is proportional to ``n``.

    *Everything else* (biases, norms, scalings): tensors with values of both signs act additively and get
    ``snr_db_other`` under the root mean square of their elements, taken the same way. Where no value is negative, as in
    variances and scales, relative errors count: the smallest value, or 2**-14 of the largest if that is more, gets
    ``snr_db_other - 12``.

    *Constants* (single values too) get the largest step that reproduces them to a relative 1e-6, with the trellis by
    levels that it can repeat. Ones cost next to nothing so. All-zero, empty and integer tensors get the codable qp next
    to 0.

    Args:
        value: finite float32 of any shape, or int32.
        kind: role of the tensor.
        mean_size: of the model's weights, from :func:`mean_weight_size`.
        qp_density: 0..7.
        snr_db_weights: wanted ratio of a weight of mean size, in dB.
        snr_db_other: wanted ratio of the other tensors, in dB.
        dependent: whether the trellis will be used.
        base_qp: the qp that coded values are relative to.
        name: for errors.

    Returns:
        The qp, always codable. Values too small or too large for the codable steps get the nearest of them; no level
        exceeds 2**30 unless the largest codable step is too small for that.

    Raises:
        InvalidModel: the tensor has infinite or undefined values.

    Source: netpress's own. Reverse water-filling: Cover and Thomas, Elements of Information Theory, section 10.3.
    """
    noise = _TRELLIS_NOISE if dependent else _UNIFORM_NOISE
    low, high = qp_range(qp_density, base_qp)
    if not is_quantised(value):
        return min(max(0, low), high)
    smallest, largest = float(np.min(value)), float(np.max(value))
    if not (math.isfinite(smallest) and math.isfinite(largest)):
        raise InvalidModel("has infinite or undefined values", tensor=name)
    if smallest == largest:
        return _constant_qp(abs(largest), qp_density, low, high, _TRELLIS_PERIOD if dependent else 1)
    if _is_matrix(value.shape, kind):
        snr = min(max(snr_db_weights + 10 * math.log10(mean_size / value.size), _SNR_LIMITS_DB[0]), _SNR_LIMITS_DB[1])
        spread = _row_spread(value.reshape(value.shape[0], -1))
    elif smallest >= 0:
        snr = snr_db_other - 12
        spread = max(float(np.min(value[value > 0])), largest * 2.0**-14)
    else:
        snr = snr_db_other
        spread = _row_spread(value.reshape(-1, 1))
    step = max(spread * 10 ** (-snr / 20) / math.sqrt(noise), max(-smallest, largest) / _MAX_LEVEL)
    qp = min(max(_floor_qp(step, qp_density), low), high)
    if max(-smallest, largest) > _MAX_LEVEL * step_size(qp, qp_density):
        qp = min(qp + 1, high)
    return qp


def _is_matrix(shape: tuple[int, ...], kind: ParameterKind) -> bool:
    """Whether a parameter is a weight with rows and columns, by its kind and its shape."""
    return kind in (ParameterKind.WEIGHT, ParameterKind.UNSPECIFIED) and sum(n > 1 for n in shape) > 1


def _row_spread(rows: npt.NDArray[Any]) -> float:
    """Return the geometric mean of the root mean squares of rows, each at least 1/16 of that of the whole."""
    powers = np.einsum("ij,ij->i", rows, rows, dtype=np.float64) / rows.shape[1]
    floor = float(np.mean(powers)) / 256
    if floor < 1e-290:  # subnormal squares: no codable step is that fine
        return float(np.max(np.abs(rows)))
    return float(np.exp(0.5 * np.mean(np.log(np.maximum(powers, floor)))))


def _floor_qp(step: float, qp_density: int) -> int:
    """Return the largest qp whose step is at most ``step``."""
    qp = math.floor(qp_for_step(step, qp_density)) + 1
    while step_size(qp, qp_density) > step:
        qp -= 1
    return qp


def _constant_qp(value: float, qp_density: int, low: int, high: int, period: int) -> int:
    """Return the largest codable qp at which some multiple of ``period`` steps is ``value`` to a relative 1e-6."""
    start = min(max(_floor_qp(value / period, qp_density), low), high)
    for qp in range(start, low - 1, -1):
        unit = period * step_size(qp, qp_density)
        if abs(round(value / unit) * unit - value) <= _CONSTANT_TOLERANCE * value:
            return qp
    return low


def is_quantised(value: npt.NDArray[Any]) -> bool:
    """Whether a tensor has a step size that matters: floating, and not entirely zero or empty."""
    return np.issubdtype(value.dtype, np.floating) and bool(np.any(value))
