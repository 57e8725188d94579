"""Tensors that one linear step does not suit: their integers, chosen so that nothing that matters becomes zero.

Three kinds, each with a rule of its own; all give :class:`QuantizedTensor`, which any decoder of the standard reads:

- *exact* values: masks, constants, positions, few distinct values. The step is a power of two, and all values are
  multiples of it;
- *ratios*: tensors without a negative value over many decades, such as second moments of an optimiser, and vectors
  over many. Integers keep six significant bits of a matrix, twelve of a vector, so that the relative error is bounded;
- *rows* of different size: small rows use a step that is finer by a power of two, the others multiples of it.

Codebooks make such integers cheap, as most of the numbers between them do not occur.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.quantize.step_size import qp_for_step, qp_range, step_size
from netpress.quantize.tensor import QuantizedTensor

__all__ = [
    "exact_integers",
    "floor_qp",
    "has_small_values",
    "is_ratio",
    "ratio_integers",
    "row_integers",
    "sample",
    "smallest_power",
]

Array = npt.NDArray[Any]

MAX_LEVEL = 2**30
# Distinct values of a tensor that is coded exactly, and how often each occurs on average at least.
_MAX_DISTINCT, _MIN_REPETITION = 256, 8
_SAMPLED = 4096
# Integers beyond this are no longer all exact in float32.
_MAX_WHOLE = 2.0**24
# Second moments need few; vectors are gains and variances of norms, which do as much as all weights of a row.
_MATRIX_BITS, _VECTOR_BITS = 6, 12
# Vectors without a negative value have a step that suits the smallest one as long as it is within this of the largest.
_MAX_LINEAR_RANGE = 2.0**16
# Rows matter down to this part of the largest: 1e-6, and what chance makes of it.
_SMALLEST_ROW = 2.5e-7
# Below the first signal-to-noise ratio nothing is left of a row, below the second little.
_LOST_ROW_DB, _POOR_ROW_DB = -3.0, 10.0
# What rows get at least: where poor ones are common, and where they are rare.
_ROW_DB, _RARE_ROW_DB = 30.0, 10.0
# From this number of values on, the trial of a code without codebook is not worth its time.
_LISTED_SIZE = 1 << 14
# A row is live if what a batch norm makes of it is at least this part of the median.
_LIVE_ROW = 0.1
# Poor rows are common where they are at least this part of the rows that matter; a few are usually dead filters.
_COMMON = 3 / 16
_UNIFORM_NOISE = 1 / 12


def floor_qp(step: float, qp_density: int) -> int:
    """Return the largest qp whose step is at most ``step``.

    >>> floor_qp(1.0, 2), floor_qp(1.3, 2)
    (0, 1)
    """
    qp = math.floor(qp_for_step(step, qp_density)) + 1
    while step_size(qp, qp_density) > step:
        qp -= 1
    return qp


def sample(value: Array, count: int = _SAMPLED) -> Array:
    """Return about ``count`` values of a tensor, spread evenly over it and over the places in its rows, as a vector.

    Args:
        value: any shape; all of it is returned where it has no more than ``count`` values.
        count: at least 1.
    """
    flat = value.reshape(-1)
    stride = flat.size // count
    if stride < 2:
        return flat
    columns = flat.size // value.shape[0]
    while math.gcd(stride, columns) > 1:
        stride += 1
    return flat[::stride]


def exact_integers(value: Array, *, qp_density: int = 2, base_qp: int = 0) -> QuantizedTensor | None:
    """Return the integers of a tensor whose values are to come back exactly, None if it is none, or they cannot.

    These are tensors of integers (below 2**24), constants, single values too, and tensors of at most 256 distinct
    values that occur eight times each on average.

    Args:
        value: finite float32 of any shape.
        qp_density, base_qp: of the stream.

    Source: netpress's own; the steps of powers of two are those of the standard.
    """
    if not value.size or not (_is_whole(value) or _has_few_values(value)):
        return None
    distinct = np.unique(value)
    if not distinct.any():
        return None
    exponent = _common_exponent(distinct)
    low, high = qp_range(qp_density, base_qp)
    limit = MAX_LEVEL * 2.0
    largest = float(np.max(np.abs(distinct)))
    qp = min(exponent << qp_density, high >> qp_density << qp_density)
    if qp < low or largest >= limit * step_size(qp, qp_density):
        return None
    levels = (value.astype(np.float64) / step_size(qp, qp_density)).astype(np.int32)
    return QuantizedTensor(levels, qp)


def _is_whole(value: Array) -> bool:
    """Whether all values are integers that float32 tells from their neighbours."""
    return all(
        bool(np.all(part == np.rint(part))) and float(np.max(np.abs(part))) < _MAX_WHOLE
        for part in (sample(value), value)
    )


def _has_few_values(value: Array) -> bool:
    """Whether a tensor has few distinct values, each of them often."""
    most = min(_MAX_DISTINCT, max(value.size // _MIN_REPETITION, 1))
    return all(len(np.unique(part)) <= most for part in (sample(value), value))


def _common_exponent(values: Array) -> int:
    """Return the largest ``e`` such that all values are multiples of ``2**e``; one at least is not zero."""
    mantissas, exponents = np.frexp(values[values != 0].astype(np.float64))
    whole = np.abs(np.ldexp(mantissas, 53)).astype(np.int64)
    lowest_bits = np.log2((whole & -whole).astype(np.float64)).astype(np.int64)
    return int(np.min(lowest_bits + exponents)) - 53


def is_ratio(value: Array, *, is_matrix: bool) -> bool:
    """Whether the ratios of the values of a tensor matter, and no linear step of usual fineness keeps them.

    It has no negative value, and either is a matrix (weights have values of both signs, second moments of an optimiser
    have not), or its values span a factor of more than 2**16.

    Args:
        value: finite float32 of any shape.
        is_matrix: whether it has rows and columns and would be coded as a weight.
    """
    if not value.size or float(value.min()) < 0:
        return False
    largest = float(value.max())
    if is_matrix:
        return largest > 0
    return largest > _MAX_LINEAR_RANGE * float(np.min(value, where=value > 0, initial=np.inf))


def has_small_values(value: Array, step: float, noise: float) -> bool:
    """Whether a step leaves little of 3/16 of the values of a vector (a signal-to-noise ratio below 10 dB).

    Values below 2.5e-7 of the largest do not count. Means of a batch norm whose channels differ in scale are such.

    Args:
        value: finite float32 of any shape, not empty.
        step: of the tensor.
        noise: power of the quantiser that ``step`` is for, over the squared step.
    """
    magnitudes = np.abs(value)
    matters = magnitudes[magnitudes > _SMALLEST_ROW * float(magnitudes.max())]
    poor = matters < step * math.sqrt(noise * 10 ** (_POOR_ROW_DB / 10))
    return bool(poor.sum() >= max(_COMMON * len(matters), 1))


def ratio_integers(value: Array, *, qp_density: int = 2, base_qp: int = 0) -> QuantizedTensor:
    """Return integers of six significant bits of a matrix, a relative error of 1/64 at most, or of twelve of a vector.

    What is below 2**-25 of the largest value has a larger one, as the integers end at 2**30; what is not zero stays so.

    Args:
        value: finite float32 of any shape, not all zero.
        qp_density, base_qp: of the stream.

    Source: netpress's own.
    """
    magnitudes = np.abs(value)
    largest = float(magnitudes.max())
    smallest = float(np.min(magnitudes, where=magnitudes > 0, initial=np.inf))
    bits = _MATRIX_BITS if sum(n > 1 for n in value.shape) > 1 else _VECTOR_BITS
    step = max(smallest / (1 << bits - 1), largest / MAX_LEVEL)
    low, high = qp_range(qp_density, base_qp)
    qp = min(max(floor_qp(step, qp_density), low), high)
    if largest > MAX_LEVEL * step_size(qp, qp_density):
        qp = min(qp + 1, high)
    real = magnitudes.astype(np.float64) / step_size(qp, qp_density)
    exponents = np.maximum(np.frexp(real)[1] - bits, 0)
    levels = np.ldexp(np.rint(np.ldexp(real, -exponents)), exponents)
    np.maximum(levels, 1, out=levels, where=magnitudes > 0)
    signed = np.copysign(np.minimum(levels, 2**31 - 1), value).astype(np.int32)
    return QuantizedTensor(signed, qp, codebook=_surely_listed(value))


def row_integers(
    value: Array,
    step: float,
    noise: float,
    *,
    qp_density: int = 2,
    base_qp: int = 0,
    like: Array | None = None,
    factors: Array | None = None,
) -> QuantizedTensor | None:
    """Return integers with finer steps for the small rows of a weight, None if the step of the tensor suits all rows.

    A row matters if its root mean square is at least 2.5e-7 of that of the largest row, or 1e-2 of the median. Where
    the step leaves little of 3/16 of these rows (a signal-to-noise ratio below 10 dB), all that have less than
    30 dB get steps that are finer by powers of two and leave them that. Where such rows are rarer, but the step leaves
    nothing of one (below -3 dB), those below 10 dB get that; the others then have a step that is one qp coarser, so
    that a few dead filters of a network cost next to nothing. ``factors`` tell dead from live: a row that is not small
    after its factor gets 30 dB wherever one of them has less than 10 dB.

    Args:
        value: finite float32 of two or more dimensions; a row is a slice along the first.
        step: of the tensor.
        noise: power of the quantiser that ``step`` is for, over the squared step.
        qp_density, base_qp: of the stream.
        like: what the size of the rows is taken from; None: ``value``.
        factors: what rows are multiplied by in the network, shape ``(rows,)``; None: not known.

    Source: netpress's own; it does what local scaling by powers of two would, in one tensor.
    """
    count = value.shape[0]
    rows = (value if like is None else like).reshape(count, -1)
    powers = np.einsum("ij,ij->i", rows, rows, dtype=np.float64) / rows.shape[1]
    matters = powers >= smallest_power(powers)

    def below(ratio_db: float) -> Array:
        return np.asarray(matters & (powers < 10 ** (ratio_db / 10) * noise * step**2))

    is_live = np.zeros(count, bool) if factors is None else _is_live(powers * factors**2)
    is_common = below(_POOR_ROW_DB).sum() >= max(_COMMON * matters.sum(), 1)
    is_needed = bool((is_live & below(_POOR_ROW_DB)).any())
    if not (is_common or is_needed or below(_LOST_ROW_DB).any()):
        return None
    fine = below(_ROW_DB) & (is_live | is_common)
    small = fine | below(_POOR_ROW_DB)
    low, high = qp_range(qp_density, base_qp)
    qp = min(max(floor_qp(step * math.sqrt(noise / _UNIFORM_NOISE), qp_density) + (not fine.any()), low), high)
    coarse = step_size(qp, qp_density)
    wanted = np.sqrt(powers[small] / 10 ** (np.where(fine[small], _ROW_DB, _RARE_ROW_DB) / 10) / _UNIFORM_NOISE)
    largest = float(np.max(np.abs(value)))
    finest = min((qp - low) >> qp_density, int(math.log2(max(MAX_LEVEL * coarse / max(largest, 1e-45), 1))))
    halvings = np.zeros(len(powers), np.int64)
    halvings[small] = np.clip(np.ceil(np.log2(coarse / wanted)), 0, finest).astype(np.int64)
    most = int(halvings.max())
    per_row = halvings[:, None]
    real = np.ldexp(value.reshape(count, -1).astype(np.float64) / coarse, per_row)
    levels = np.ldexp(np.rint(real), most - per_row).astype(np.int32)
    return QuantizedTensor(levels.reshape(value.shape), qp - (most << qp_density), codebook=_surely_listed(value))


def _surely_listed(value: Array) -> bool | None:
    """Return True where a codebook is the smaller code without a trial, None where a trial has to tell."""
    return True if value.size >= _LISTED_SIZE else None


def _is_live(powers: Array) -> Array:
    """Whether rows are not small beside the others, by their mean squares in the network."""
    used = powers[powers > 0]
    return np.asarray(powers >= _LIVE_ROW**2 * float(np.median(used))) if used.size else np.zeros(len(powers), bool)


def smallest_power(powers: Array) -> float:
    """Return the mean square of the smallest row that matters, of those of all rows; infinite if all are zero."""
    used = powers[powers > 0]
    if not used.size:
        return math.inf
    return min(_SMALLEST_ROW**2 * float(used.max()), 1e-4 * float(np.median(used)))
