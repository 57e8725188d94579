"""Sparsification: zero the weights that matter least, one by one or by whole rows.

One-dimensional tensors, tensors that are entirely zero, those whose names contain ``.weight_scaling`` and integers are
left alone in all steps (the reference also zeroes integers, which must stay exact); all of them count in the sparsity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig
from netpress.parameters import Parameter

__all__ = [
    "sparsify",
    "sparsify_deviations",
    "sparsify_largest",
    "sparsify_structured",
    "sparsify_unstructured",
    "sparsity_of",
]

_MAX_ROUNDS = 501


def sparsity_of(parameters: Sequence[Parameter]) -> float:
    """Return the share of zero elements over all tensors, 0..1 (0 for a model without elements).

    Source: sparsification of the reference encoder.
    """
    total = sum(p.value.size for p in parameters)
    return sum(p.value.size - int(np.count_nonzero(p.value)) for p in parameters) / total if total else 0.0


def sparsify(
    parameters: Sequence[Parameter],
    *,
    steps: float | Mapping[str, float],
    sparsity: float,
    structured_gain: float = 0.9,
) -> list[Parameter]:
    """Zero small weights until the model has the wanted sparsity, then zero the weakest rows.

    Args:
        parameters: the model; its arrays are not changed.
        steps: see :func:`sparsify_unstructured`.
        sparsity: wanted share of zeros, 0..1; 0 does nothing at all.
        structured_gain: see :func:`sparsify_structured`; 0 leaves rows alone.

    Returns:
        New parameters; unchanged ones are the same objects.

    Raises:
        InvalidConfig: an option is out of range.

    Source: sparsification of the reference encoder's front-ends.
    """
    if sparsity == 0:
        return list(parameters)
    sparse = sparsify_unstructured(parameters, steps=steps, sparsity=sparsity)
    return sparsify_structured(sparse, gain=structured_gain) if structured_gain > 0 else sparse


def sparsify_unstructured(
    parameters: Sequence[Parameter], *, steps: float | Mapping[str, float], sparsity: float
) -> list[Parameter]:
    """Zero weights by magnitude.

    Everything below half a step goes first (it would quantise to zero anyway). Then a threshold per tensor, at
    ``delta`` standard deviations from its mean, rises for all tensors together until the model is sparse enough.

    Args:
        parameters: the model; its arrays are not changed.
        steps: the quantisation step, or name -> step.
        sparsity: wanted share of zeros over all elements, 0..1. May not be reached, as exempt tensors count too.

    Returns:
        New parameters; unchanged ones are the same objects.

    Raises:
        InvalidConfig: ``sparsity`` is outside 0..1 or a tensor has no step.

    Source: unstructured sparsification of the reference encoder; the search for ``delta`` is its own.
    """
    if not 0 <= sparsity <= 1:
        raise InvalidConfig(f"sparsity must be 0..1, not {sparsity}")
    halves = {p.name: _step_of(steps, p.name) / 2 for p in parameters if _is_eligible(p)}
    base = [_threshold(p, halves[p.name]) if p.name in halves else p for p in parameters]
    # What the first step made all zero is left alone from here on.
    moments = {p.name: _moments(p.value) for p in base if _is_eligible(p)}
    current, delta, increment = base, 0.25, 0.2
    for _ in range(_MAX_ROUNDS):
        gap = sparsity - sparsity_of(current)
        if gap <= 0:
            break
        increment = 0.01 if gap < 0.05 else 0.05 if gap < 0.10 else 0.10 if gap < 0.30 else increment
        delta += increment
        current = [
            _threshold(p, _spread_threshold(*moments[p.name], delta, halves[p.name])) if p.name in moments else p
            for p in base
        ]
    return current


def sparsify_deviations(parameters: Sequence[Parameter], deviations: float) -> list[Parameter]:
    """Zero the weights that lie near the mean of their tensor.

    Args:
        parameters: the model or the update; its arrays are not changed.
        deviations: the threshold is the larger distance from zero of mean plus and minus this many population standard
            deviations, zeros included; 0 or more.

    Returns:
        New parameters; unchanged ones are the same objects.

    Raises:
        InvalidConfig: ``deviations`` is negative or not finite.

    Source: unstructured sparsification of the coding tools, for a given delta.
    """
    if not (np.isfinite(deviations) and deviations >= 0):
        raise InvalidConfig(f"the deviations of sparsification must be 0 or more, not {deviations}")
    return [
        _threshold(p, _spread_threshold(*_moments(p.value), deviations, 0.0)) if _is_eligible(p) else p
        for p in parameters
    ]


def sparsify_largest(parameters: Sequence[Parameter], share: float) -> list[Parameter]:
    """Keep the weights of the largest magnitude of all tensors together.

    Args:
        parameters: the model or the update; its arrays are not changed.
        share: of the weights that may be sparsified, 0..1; the number that is kept is rounded up. Ties at the
            threshold are all kept.

    Returns:
        New parameters; unchanged ones are the same objects.

    Raises:
        InvalidConfig: ``share`` is outside 0..1.
    """
    if not 0 <= share <= 1:
        raise InvalidConfig(f"the share of weights to keep must be 0..1, not {share}")
    eligible = {p.name: p for p in parameters if _is_eligible(p)}
    if share == 1 or not eligible:
        return list(parameters)
    magnitudes = np.concatenate([np.abs(p.value).reshape(-1) for p in eligible.values()])
    count = math.ceil(share * magnitudes.size)
    limit = np.inf if count == 0 else float(np.partition(magnitudes, magnitudes.size - count)[magnitudes.size - count])
    return [_threshold(p, limit) if p.name in eligible else p for p in parameters]


def sparsify_structured(parameters: Sequence[Parameter], *, gain: float = 0.9) -> list[Parameter]:
    """Zero the rows whose mean magnitude falls below ``gain`` times that of the tensor.

    Args:
        parameters: the model; its arrays are not changed. A row is a slice along the first dimension.
        gain: factor of the mean of the row means, 0 or more.

    Returns:
        New parameters; unchanged ones are the same objects.

    Raises:
        InvalidConfig: ``gain`` is negative or not finite.

    Source: structured sparsification of the reference encoder, including the truncated count of rows.
    """
    if not (np.isfinite(gain) and gain >= 0):
        raise InvalidConfig(f"the gain of structured sparsification must be 0 or more, not {gain}")
    return [_drop_rows(p, gain) if _is_eligible(p) else p for p in parameters]


def _is_eligible(parameter: Parameter) -> bool:
    """Whether a tensor may be sparsified at all."""
    value = parameter.value
    return (
        value.ndim > 1
        and np.issubdtype(value.dtype, np.floating)
        and ".weight_scaling" not in parameter.name
        and bool(np.any(value))
    )


def _step_of(steps: float | Mapping[str, float], name: str) -> float:
    """Return the step of one tensor."""
    if not isinstance(steps, Mapping):
        return float(steps)
    if name not in steps:
        raise InvalidConfig(f"tensor {name!r} has no step size")
    return float(steps[name])


def _moments(value: npt.NDArray[Any]) -> tuple[float, float]:
    """Return mean and population standard deviation, taken in binary32 by NumPy and widened."""
    return float(np.mean(value)), float(np.std(value))


def _spread_threshold(mean: float, deviation: float, delta: float, smallest: float) -> float:
    """Return the larger distance from zero of ``mean`` plus and minus ``delta`` deviations, at least ``smallest``."""
    return max(abs(mean - delta * deviation), abs(mean + delta * deviation), smallest)


def _threshold(parameter: Parameter, threshold: float) -> Parameter:
    """Keep the values at or beyond plus and minus a threshold, rounded to binary32, and zero the others."""
    value = parameter.value
    limit = np.float32(threshold)
    keep = (value >= limit) | (value <= -limit)
    if keep.all():
        return parameter
    return parameter.with_value(np.where(keep, value, value.dtype.type(0)))


def _drop_rows(parameter: Parameter, gain: float) -> Parameter:
    """Zero the weakest rows of one tensor."""
    value = parameter.value
    means = np.mean(np.abs(value), axis=tuple(range(1, value.ndim)))
    weak = int(np.count_nonzero(means < np.float32(gain * float(np.mean(means)))))
    rows = value.shape[0]
    drop = int(weak / rows * rows)  # may be one less than `weak`, as in the reference
    if drop == 0:
        return parameter
    sparse = value.copy()
    sparse[np.argsort(means / np.max(means))[:drop]] = 0
    return parameter.with_value(sparse)
