"""Steps as the reference encoder chooses them.

:func:`assign_qps` follows its main path (one qp for weights, one for the rest, overrides, data-free optimisation) and
:func:`bit_depth_qp` with :func:`clip_levels` its integer-aligned bit depth. Both decide exactly as the reference does
wherever the reference gives a meaningful answer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.automatic_steps import is_quantised
from netpress.quantize.step_size import qp_for_step, qp_range

__all__ = [
    "assign_qps",
    "bit_depth_qp",
    "clip_levels",
    "effective_bits",
    "level_bounds",
]

_MIN_NONWEIGHT_BITS = 8
_MAX_BITS = 31

_BELOW_ALL_STEPS = -(2**20)


def assign_qps(
    parameters: Sequence[Parameter],
    *,
    qp: int,
    nonweight_qp: int,
    qp_per_tensor: Mapping[str, int] | None = None,
    optimize_qp: bool = False,
    decomposed: Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, int]:
    """Assign a qp to every parameter in the manner of the reference encoder.

    Weights get ``qp``, all others ``nonweight_qp``, local scaling included; ``qp_per_tensor`` overrides both;
    ``optimize_qp`` then makes large weights of low variance coarser (it also changes overridden weights). Integer
    parameters are listed too, though their qp is never used. The result is not limited to the codable range.

    Args:
        parameters: the model, in the order of its dictionary (the order affects no value).
        qp: main qp.
        nonweight_qp: qp of everything that is not a weight.
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
    qps = {p.name: int(qp if p.kind is ParameterKind.WEIGHT else nonweight_qp) for p in parameters}
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


def bit_depth_qp(
    value: npt.NDArray[Any],
    kind: ParameterKind,
    *,
    bits: int,
    qp_density: int,
    reference: bool = False,
    name: str = "",
) -> int:
    """Return the qp with which the levels of a tensor just fill ``bits`` bits.

    The step is the 99.95th percentile of the magnitudes over the largest level, so a few outliers are clipped
    afterwards (:func:`clip_levels`).

    Args:
        value: finite float32 of any shape, or int32, which gets qp 0 that is never used.
        kind: role of the tensor.
        bits: 1..31; everything but weights gets at least 8.
        qp_density: 0..7.
        reference: give the signed tensors of bit depth 1 a qp so low that the quantiser raises it, as the reference
            encoder does (the result is of no use), instead of refusing them.
        name: for errors.

    Returns:
        The qp, within the codable range for a base qp of 0; all-zero and empty tensors get 0.

    Raises:
        InvalidConfig: ``bits`` is out of range, or is 1 for a weight with negative values (one bit has no level for
            them; the message names the tensor).

    Source: integer-aligned bit depth of the reference encoder.
    """
    bits = effective_bits(bits, kind)
    low, high = qp_range(qp_density)
    if not is_quantised(value):
        return 0
    magnitudes = np.sort(np.abs(value.astype(np.float32, copy=False)), axis=None)
    unsigned = not _has_negative(value)
    denominator = 2**bits - 1 if unsigned else 2 ** (bits - 1) - 1
    if denominator == 0:
        if reference:
            return _BELOW_ALL_STEPS
        raise InvalidConfig(f"tensor {name!r}: a bit depth of 1 cannot hold its negative values")
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


def _has_negative(value: npt.NDArray[Any]) -> bool:
    """Whether any element is below 0."""
    return bool(np.any(np.less(value, 0)))
