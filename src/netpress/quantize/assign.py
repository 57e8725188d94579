"""The qp of each tensor.

:func:`assign_qps` follows the main path of the reference encoder (one qp for weights, one for the rest, overrides,
data-free optimisation) and :func:`bit_depth_qps` with :func:`clip_levels` its integer-aligned bit depth. Both decide
exactly as the reference does wherever the reference gives a meaningful answer. :func:`automatic_qps` is what netpress
does when no qp is given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig, InvalidModel
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.step_size import qp_for_step, qp_range, step_size

__all__ = [
    "assign_qps",
    "automatic_qps",
    "bit_depth_qps",
    "check_qps",
    "clip_levels",
    "effective_bits",
    "level_bounds",
    "resolve_nonweight_qp",
]

# Noise power over the squared step: exact for the uniform quantiser at fine steps, simulated for the trellis on normal
# and Laplacian weights (0.23 to 0.25 between 18 and 30 dB, 0.26 at the finest steps).
_UNIFORM_NOISE = 1 / 12
_TRELLIS_NOISE = 1 / 4
# Levels that the trellis can repeat for ever are the multiples of 4: they hold its start state.
_TRELLIS_PERIOD = 4
_SNR_LIMITS_DB = (20.0, 70.0)
_CONSTANT_TOLERANCE = 1e-6
_MAX_LEVEL = 2**30
_MIN_NONWEIGHT_BITS = 8
_MAX_BITS = 31


DEFAULT_SNR_DB_WEIGHTS = 40.0
DEFAULT_SNR_DB_OTHER = 54.0
_BELOW_ALL_STEPS = -(2**20)


def resolve_nonweight_qp(qp: int, qp_density: int, nonweight_qp: int | None) -> int:
    """Return the qp of everything that is not a weight, local scaling included.

    Args:
        qp: main qp.
        qp_density: 0..7.
        nonweight_qp: the option as given; ``None`` and 0 both mean "not given".

    Returns:
        ``nonweight_qp`` if given, else ``qp - 2 * 2**qp_density`` (a step smaller by 4).

    Source: per-tensor qp of the reference encoder, where 0 cannot be asked for.

    >>> resolve_nonweight_qp(-20, 2, None), resolve_nonweight_qp(-20, 2, -75)
    (-28, -75)
    """
    return int(nonweight_qp) if nonweight_qp else int(qp) - (2 << qp_density)


def assign_qps(
    parameters: Sequence[Parameter],
    *,
    qp: int,
    qp_density: int,
    nonweight_qp: int | None,
    qp_per_tensor: Mapping[str, int] | None = None,
    optimize_qp: bool = False,
    decomposed: Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, int]:
    """Assign a qp to every parameter in the manner of the reference encoder.

    Weights get ``qp``, all others :func:`resolve_nonweight_qp`; ``qp_per_tensor`` overrides both; ``optimize_qp`` then
    makes large weights of low variance coarser (it also changes overridden weights). Integer parameters are listed
    too, though their qp is never used. The result is not limited to the codable range: see :func:`check_qps`.

    Args:
        parameters: the model, in the order of its dictionary (the order affects no value).
        qp: main qp.
        qp_density: 0..7.
        nonweight_qp: see :func:`resolve_nonweight_qp`.
        qp_per_tensor: name -> qp; names that are not in the model are ignored.
        optimize_qp: data-free optimisation.
        decomposed: weight name -> names of its factors ``(G, H)``, both present in ``parameters``.

    Returns:
        Name -> qp, in the order of ``parameters``.

    Source: qp assignment and data-free qp optimisation of the reference encoder. Where that fails, on models whose
    weights are all constant (or so large that the deviation overflows), only the share of the size counts; a model
    without weights is left alone.
    """
    overrides = qp_per_tensor or {}
    other = resolve_nonweight_qp(qp, qp_density, nonweight_qp)
    qps = {p.name: int(qp) if p.kind is ParameterKind.WEIGHT else other for p in parameters}
    qps.update({name: int(overrides[name]) for name in qps if name in overrides})
    if optimize_qp:
        _optimize(parameters, qps, decomposed or {})
    return qps


def _optimize(parameters: Sequence[Parameter], qps: dict[str, int], decomposed: Mapping[str, tuple[str, str]]) -> None:
    """Move the qps of weights by their share of the size and their spread, in place."""
    values = {p.name: p for p in parameters}
    h_of_g = {g: h for g, h in decomposed.values() if g in values and h in values}
    g_of_h = {h: g for g, h in h_of_g.items()}
    names = [p.name for p in parameters if p.kind is ParameterKind.WEIGHT and p.name not in h_of_g]
    sizes: list[int] = []
    deviations: list[np.float32] = []
    for name in names:
        value = values[name].value
        if name in g_of_h:
            g = values[g_of_h[name]].value
            sizes.append(math.prod(g.shape[:-1]) * value.shape[-1])
            value = np.concatenate((g.ravel(), value.ravel()))
        else:
            sizes.append(value.size)
        deviations.append(_deviation(value))
    total = sum(sizes)
    if total == 0:
        return
    largest = max(deviations)
    usable = bool(np.isfinite(largest)) and largest > 0
    for name, size, deviation in zip(names, sizes, deviations, strict=True):
        weight = size / total
        if usable:
            weight += float(np.float32(0.1) * (np.float32(1.0) - deviation / largest))
        if weight > 0.5:
            weight = 0.15
        qps[name] = round(qps[name] * (1.0 - weight))
    qps.update({g: qps[h] for g, h in h_of_g.items() if h in qps})


def _deviation(value: npt.NDArray[Any]) -> np.float32:
    """Return the population standard deviation in binary32, summed the way NumPy does it; 0 for an empty array."""
    deviation: np.float32 = np.float32(0.0)
    if value.size:
        with np.errstate(over="ignore", invalid="ignore"):
            deviation = np.float32(np.std(value))
    return deviation


def check_qps(qps: Mapping[str, int], qp_density: int, base_qp: int = 0) -> None:
    """Refuse a qp that the stream cannot carry (the reference wraps it silently).

    Args:
        qps: name -> qp.
        qp_density: 0..7.
        base_qp: the qp that coded values are relative to.

    Raises:
        InvalidConfig: a qp lies outside :func:`~netpress.quantize.step_size.qp_range`; the message names the tensor.

    Source: width of the qp field of a data unit.
    """
    low, high = qp_range(qp_density, base_qp)
    for name, qp in qps.items():
        if not low <= qp <= high:
            raise InvalidConfig(
                f"tensor {name!r}: qp {qp} is outside {low}..{high}, the range of qp_density {qp_density}"
            )


def effective_bits(bits: int, kind: ParameterKind) -> int:
    """Return the bit depth that a tensor really gets: everything but a weight gets at least 8 bits.

    Args:
        bits: the option, 1..31.
        kind: role of the tensor.

    Raises:
        InvalidConfig: ``bits`` is out of range.

    Source: integer-aligned bit depth of the reference encoder.
    """
    if not 1 <= bits <= _MAX_BITS:
        raise InvalidConfig(f"the bit depth must be 1..{_MAX_BITS}, not {bits}")
    return int(bits) if kind is ParameterKind.WEIGHT else max(int(bits), _MIN_NONWEIGHT_BITS)


def bit_depth_qps(
    parameters: Sequence[Parameter], *, bits: int, qp_density: int, reference: bool = False
) -> dict[str, int]:
    """Assign the qps with which the levels of each tensor just fill ``bits`` bits.

    The step is the 99.95th percentile of the magnitudes over the largest level, so a few outliers are clipped
    afterwards (:func:`clip_levels`).

    Args:
        parameters: finite float32 arrays of any shape, or int32 arrays, which get qp 0 that is never used.
        bits: 1..31; everything but weights gets at least 8.
        qp_density: 0..7.
        reference: give the signed tensors of bit depth 1 a qp so low that the quantiser raises it, as the reference
            encoder does (the result is of no use), instead of refusing them.

    Returns:
        Name -> qp, within the codable range for a base qp of 0; all-zero and empty tensors get 0.

    Raises:
        InvalidConfig: ``bits`` is out of range, or is 1 for a weight with negative values (one bit has no level for
            them; the message names the tensor).

    Source: integer-aligned bit depth of the reference encoder.
    """
    return {p.name: _bit_depth_qp(p, effective_bits(bits, p.kind), qp_density, reference) for p in parameters}


def _bit_depth_qp(parameter: Parameter, bits: int, qp_density: int, reference: bool) -> int:
    """Return the qp of one tensor for a given depth."""
    value = parameter.value
    low, high = qp_range(qp_density)
    if not _is_quantised(value):
        return 0
    magnitudes = np.sort(np.abs(value.astype(np.float32, copy=False)), axis=None)
    unsigned = not _has_negative(value)
    denominator = 2**bits - 1 if unsigned else 2 ** (bits - 1) - 1
    if denominator == 0:
        if reference:
            return _BELOW_ALL_STEPS
        raise InvalidConfig(f"tensor {parameter.name!r}: a bit depth of 1 cannot hold its negative values")
    step = _percentile_99_95(magnitudes) / denominator
    if step == 0:
        step = float(magnitudes[-1]) / denominator
    exact = min(max(qp_for_step(step, qp_density), low), high)
    # Rounded to the nearest, as the reference does, the largest values may be clipped by some per cent.
    return round(exact) if reference else min(math.ceil(exact), high)


def _percentile_99_95(ordered: npt.NDArray[np.float32]) -> float:
    """Return the 99.95th percentile of ascending binary32 values, in the arithmetic of the reference.

    The difference of the neighbours is taken in binary32, all else in binary64. Source: integer-aligned bit depth.
    """
    position = (99.95 / 100) * (ordered.size - 1)
    below = math.floor(position)
    above = min(below + 1, ordered.size - 1)
    fraction = position - below
    difference = float(ordered[above] - ordered[below])
    if fraction < 0.5:
        return float(ordered[below]) + difference * fraction
    return float(ordered[above]) - difference * (1 - fraction)


def level_bounds(
    weights: npt.NDArray[Any], bits: int, *, kind: ParameterKind = ParameterKind.WEIGHT
) -> tuple[int, int]:
    """Return the smallest and largest level that a bit depth allows.

    Args:
        weights: the real values, any shape.
        bits: 1..31.
        kind: role of the tensor (see :func:`effective_bits`).

    Returns:
        ``(0, 2**b - 1)`` if no weight is negative, else ``(-2**(b - 1), 2**(b - 1) - 1)``.

    Raises:
        InvalidConfig: ``bits`` is out of range.

    Source: integer-aligned bit depth of the reference encoder.
    """
    depth = effective_bits(bits, kind)
    if _has_negative(weights):
        return -(2 ** (depth - 1)), 2 ** (depth - 1) - 1
    return 0, 2**depth - 1


def clip_levels(
    levels: npt.NDArray[np.int32],
    weights: npt.NDArray[Any],
    bits: int,
    *,
    kind: ParameterKind = ParameterKind.WEIGHT,
    name: str = "",
) -> npt.NDArray[np.int32]:
    """Return the levels limited to what a bit depth allows.

    Levels of dependent quantisation must not be clipped: it takes them off the trellis path, and the decoder then gets
    other values. Use this with uniform quantisation, or restrict the trellis by :func:`level_bounds`.

    Args:
        levels: int32, any shape; not changed.
        weights: the values that were quantised, same shape.
        bits: 1..31.
        kind: role of the tensor (see :func:`effective_bits`).
        name: name of the tensor; names with ``.num_batches_tracked`` are exempt.

    Returns:
        int32, same shape.

    Raises:
        InvalidConfig: ``bits`` is out of range.

    Source: integer-aligned bit depth of the reference encoder.
    """
    clipped: npt.NDArray[np.int32] = levels.astype(np.int32)  # a copy
    if ".num_batches_tracked" not in name:
        low, high = level_bounds(weights, bits, kind=kind)
        np.clip(clipped, low, high, out=clipped)
    return clipped


def automatic_qps(
    parameters: Sequence[Parameter],
    *,
    qp_density: int = 2,
    snr_db_weights: float = DEFAULT_SNR_DB_WEIGHTS,
    snr_db_other: float = DEFAULT_SNR_DB_OTHER,
    dependent: bool = True,
    base_qp: int = 0,
) -> dict[str, int]:
    """Assign qps with which a model keeps its quality, when the caller gave none.

    The qp of a tensor is the largest whose step is at most ``spread * 10**(-snr / 20) / sqrt(c)``. The noise power of
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
        parameters: finite float32 arrays of any shape, or int32 arrays.
        qp_density: 0..7.
        snr_db_weights: wanted ratio of a weight of mean size, in dB.
        snr_db_other: wanted ratio of the other tensors, in dB.
        dependent: whether the trellis will be used.
        base_qp: the qp that coded values are relative to.

    Returns:
        Name -> qp, always codable. Values too small or too large for the codable steps get the nearest of them; no
        level exceeds 2**30 unless the largest codable step is too small for that.

    Raises:
        InvalidModel: a tensor has infinite or undefined values.

    Source: netpress's own. Reverse water-filling: Cover and Thomas, Elements of Information Theory, section 10.3.
    """
    mean = mean_weight_size(parameters)
    return {
        p.name: automatic_qp(
            p.value,
            p.kind,
            mean_size=mean,
            qp_density=qp_density,
            snr_db_weights=snr_db_weights,
            snr_db_other=snr_db_other,
            dependent=dependent,
            base_qp=base_qp,
            name=p.name,
        )
        for p in parameters
    }


def mean_weight_size(parameters: Sequence[Parameter]) -> float:
    """Return the mean number of values of the weights of a model, 1 if it has none; see :func:`automatic_qps`."""
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
    """Return the qp of one tensor, as :func:`automatic_qps` does.

    Args:
        value: finite float32 of any shape, or int32.
        kind: role of the tensor.
        mean_size: of the model's weights, from :func:`mean_weight_size`.
        qp_density, snr_db_weights, snr_db_other, dependent, base_qp: as for :func:`automatic_qps`.
        name: for errors.

    Raises:
        InvalidModel: the tensor has infinite or undefined values.
    """
    noise = _TRELLIS_NOISE if dependent else _UNIFORM_NOISE
    low, high = qp_range(qp_density, base_qp)
    if not _is_quantised(value):
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


def _is_quantised(value: npt.NDArray[Any]) -> bool:
    """Whether a tensor has a step size that matters: floating, and not entirely zero or empty."""
    return np.issubdtype(value.dtype, np.floating) and bool(np.any(value))


def _has_negative(value: npt.NDArray[Any]) -> bool:
    """Whether any element is below 0."""
    return bool(np.any(np.less(value, 0)))


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
