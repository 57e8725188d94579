"""Steps chosen from the values of each tensor, for models whose quality is to stay as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.config import QUALITIES, Quality
from netpress.errors import InvalidModel
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.special import MAX_LEVEL, floor_qp, sample
from netpress.quantize.step_size import qp_range, step_size

__all__ = ["TRELLIS_PERIOD", "automatic_qp", "is_matrix", "is_quantised", "mean_weight_size", "quantiser_noise"]

# Noise power over the squared step: exact for the uniform quantiser at fine steps, simulated for the trellis on normal
# and Laplacian weights (0.23 to 0.25 between 18 and 30 dB, 0.26 at the finest steps).
_UNIFORM_NOISE = 1 / 12
_TRELLIS_NOISE = 1 / 4
# Levels that the trellis can repeat for ever are the multiples of 4: they hold its start state.
TRELLIS_PERIOD = 4
_SNR_LIMITS_DB = (20.0, 90.0)
_CONSTANT_TOLERANCE = 1e-6
# A spread that is larger than that of three quarters of the values by this is led by outliers.
_OUTLIER_FACTOR = 64.0
_NORMAL_UPPER_QUARTILE = 1.15  # of the magnitudes of normal values
# One input channel and a kernel this long: a filter bank, such as a Fourier transform. What follows takes logarithms of
# its small outputs, so it is finer by so many dB.
_FILTER_LENGTH, _FILTER_DB = 128, 24.0


def mean_weight_size(parameters: Sequence[Parameter]) -> float:
    """Return the mean number of values of the weights of a model, 1 if it has none; see :func:`automatic_qp`."""
    sizes = [p.size for p in parameters if not p.is_integer and p.size and is_matrix(p.shape, p.kind)]
    return sum(sizes) / len(sizes) if sizes else 1.0


def automatic_qp(
    value: npt.NDArray[Any],
    kind: ParameterKind,
    *,
    mean_size: float,
    qp_density: int = 2,
    quality: Quality = QUALITIES["default"],
    dependent: bool = True,
    base_qp: int = 0,
    name: str | None = None,
) -> int:
    """Return the qp with which a tensor of a model keeps its quality, when the caller gave none.

    It is the largest whose step is at most ``spread * 10**(-snr / 20) / sqrt(c)``. The noise power of
    the quantiser is ``c * step**2``: ``c = 1/12`` for the uniform one, 1/4 for the trellis.

    *Weights* (two or more dimensions above 1, kind weight or unspecified): the spread is the geometric mean of the
    root mean squares of the rows, so that a few large rows do not drown the others. Rows below 1/16 of the tensor's,
    or below the upper quartile of the rows where that is less, count as that. Where three quarters of the values are
    smaller than the result by a factor of 64, outliers lead it, and the spread is that of these values. A tensor of
    ``n`` elements gets ``quality.weights + 10 log10(m / n)`` dB, where ``m`` is the mean size of a weight, within
    20..90 dB. Derivation: independent relative errors of layers add up at the output, so
    minimise ``sum(n * bits)`` for a given ``sum(noise / signal)``. A weight's bits fall by ``log2`` of the noise
    amplitude, hence at the minimum ``noise / signal`` is proportional to ``n``. Filter banks (one
    input channel, kernels of 128 places or more) get 24 dB more.

    *Everything else* (biases, norms, scalings): tensors with values of both signs act additively and get
    ``quality.other`` under the root mean square of their elements, taken the same way. Where no value is negative, as
    in variances and scales, relative errors count: the smallest value, or 2**-14 of the largest if that is more, gets
    ``quality.other - 12``.

    *Constants* (single values too) get the largest step that reproduces them to a relative 1e-6, with the trellis by
    levels that it can repeat. Ones cost next to nothing so. All-zero, empty and integer tensors get the codable qp next
    to 0.

    Args:
        value: finite float32 of any shape, or int32.
        kind: role of the tensor.
        mean_size: of the model's weights, from :func:`mean_weight_size`.
        qp_density: 0..7.
        quality: the wanted ratios, in dB.
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
    noise = quantiser_noise(dependent=dependent)
    low, high = qp_range(qp_density, base_qp)
    if not is_quantised(value):
        return min(max(0, low), high)
    smallest, largest = float(np.min(value)), float(np.max(value))
    if not (math.isfinite(smallest) and math.isfinite(largest)):
        raise InvalidModel("has infinite or undefined values", tensor=name)
    if smallest == largest:
        return _constant_qp(abs(largest), qp_density, low, high, TRELLIS_PERIOD if dependent else 1)
    if is_matrix(value.shape, kind):
        snr = quality.weights + 10 * math.log10(mean_size / value.size)
        snr += _FILTER_DB if _is_filter_bank(value.shape) else 0.0
        snr = min(max(snr, _SNR_LIMITS_DB[0]), _SNR_LIMITS_DB[1])
        spread = _spread(value)
    elif smallest >= 0:
        snr = quality.other - 12
        spread = max(float(np.min(value[value > 0])), largest * 2.0**-14)
    else:
        snr = quality.other
        spread = _row_spread(value.reshape(-1, 1))
    step = max(spread * 10 ** (-snr / 20) / math.sqrt(noise), max(-smallest, largest) / MAX_LEVEL)
    qp = min(max(floor_qp(step, qp_density), low), high)
    if max(-smallest, largest) > MAX_LEVEL * step_size(qp, qp_density):
        qp = min(qp + 1, high)
    return qp


def _is_filter_bank(shape: Sequence[int]) -> bool:
    return len(shape) > 2 and shape[1] == 1 and max(shape[2:]) >= _FILTER_LENGTH


def quantiser_noise(*, dependent: bool) -> float:
    """Return the power of the noise over the squared step, of the trellis or of the uniform quantiser."""
    return _TRELLIS_NOISE if dependent else _UNIFORM_NOISE


def is_matrix(shape: tuple[int, ...], kind: ParameterKind) -> bool:
    """Whether a parameter is a weight with rows and columns, by its kind and its shape."""
    return kind in (ParameterKind.WEIGHT, ParameterKind.UNSPECIFIED) and sum(n > 1 for n in shape) > 1


def _spread(value: npt.NDArray[Any]) -> float:
    """Return the spread of a weight: that of its rows, but that of most of its values where outliers lead the rows."""
    rows = _row_spread(value.reshape(value.shape[0], -1))
    magnitudes = np.abs(sample(value))
    usual = _upper_quartile(magnitudes) / _NORMAL_UPPER_QUARTILE
    return usual if 0 < _OUTLIER_FACTOR * usual < rows else rows


def _row_spread(rows: npt.NDArray[Any]) -> float:
    """Return the geometric mean of the root mean squares of rows, each at least a floor.

    The floor is 1/16 of the root mean square of the whole, or the upper quartile of the rows if that is less.
    """
    powers = np.einsum("ij,ij->i", rows, rows, dtype=np.float64) / rows.shape[1]
    floor = min(float(np.mean(powers)) / 256, _upper_quartile(powers))
    if floor < 1e-290:  # subnormal squares: no codable step is that fine
        return float(np.max(np.abs(rows)))
    return float(np.exp(0.5 * np.mean(np.log(np.maximum(powers, floor)))))


def _upper_quartile(values: npt.NDArray[Any]) -> float:
    """Return the smallest value that three quarters of those above 0 do not exceed, 0 if there are none."""
    used = values[values > 0]
    place = len(used) * 3 // 4
    return float(np.partition(used, place)[place]) if len(used) else 0.0


def _constant_qp(value: float, qp_density: int, low: int, high: int, period: int) -> int:
    """Return the largest codable qp at which some multiple of ``period`` steps is ``value`` to a relative 1e-6."""
    start = min(max(floor_qp(value / period, qp_density), low), high)
    for qp in range(start, low - 1, -1):
        unit = period * step_size(qp, qp_density)
        if abs(round(value / unit) * unit - value) <= _CONSTANT_TOLERANCE * value:
            return qp
    return low


def is_quantised(value: npt.NDArray[Any]) -> bool:
    """Whether a tensor has a step size that matters: floating, and not entirely zero or empty."""
    return np.issubdtype(value.dtype, np.floating) and bool(np.any(value))
