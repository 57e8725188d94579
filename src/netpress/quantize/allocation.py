"""Steps of the weights of a model beside each other: by their sizes, without data, or by their sensitivities.

Source: docs/notes/rate-distortion.md, steps without data; docs/notes/calibrated-quantisation.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.step_size import qp_for_step, qp_range, step_size

__all__ = ["qps_by_sensitivity", "qps_by_size"]

# No step differs from that of the main qp by more.
_LARGEST_FACTOR = 8.0
_SMALLEST_FACTOR = 1 / 64


def qps_by_size(parameters: Sequence[Parameter], *, qp: int, qp_density: int, base_qp: int = 0) -> dict[str, int]:
    """Return qps of weights whose steps are proportional to the square root of their number of values.

    Independent errors of layers that matter alike add up at the output, and a layer spreads its share over all of its
    values: the more it has, the less each matters. Depthwise and first layers get fine steps so.

    Args:
        parameters: the model; values are not loaded. Weights are those of kind weight with two or more dimensions.
        qp: the mean of the logarithms of the steps, over all values of the weights, is that of this qp.
        qp_density: 0..7.
        base_qp: the qp that coded values are relative to.

    Returns:
        Name -> qp of the weights, codable; factors between steps and that of ``qp`` are at most 8 and at least 1/64.

    Source: netpress's own.
    """
    sizes = {
        p.name: p.size
        for p in parameters
        if p.kind is ParameterKind.WEIGHT and not p.is_integer and len(p.shape) > 1 and p.size
    }
    if not sizes:
        return {}
    low, high = qp_range(qp_density, base_qp)
    mean = sum(n * math.log(n) for n in sizes.values()) / sum(sizes.values())
    qps = {}
    for name, size in sizes.items():
        factor = min(max(math.exp((math.log(size) - mean) / 2), _SMALLEST_FACTOR), _LARGEST_FACTOR)
        nearest = round(qp_for_step(step_size(qp, qp_density) * factor, qp_density))
        qps[name] = min(max(nearest, low), high)
    return qps


def qps_by_sensitivity(
    densities: Mapping[str, float], sizes: Mapping[str, int], *, qp: int, qp_density: int, exponent: float = 1.0
) -> dict[str, int]:
    """Return the qp of each weight: the square of the step is inverse to what an error of one of its values does.

    Args:
        densities: name -> divergence per squared error of one value, at least 0.
        sizes: name -> number of values.
        qp: that of the mean of the logarithms of the steps, over all values.
        qp_density: 0..7.
        exponent: share of the differences of the logarithms that is made; 0 gives all the same step.
    """
    low, high = qp_range(qp_density)
    usable = {name: math.log(density) for name, density in densities.items() if density > 0 and sizes[name]}
    if not usable or not exponent:
        return dict.fromkeys(densities, min(max(qp, low), high))
    mean = sum(sizes[name] * value for name, value in usable.items()) / sum(sizes[name] for name in usable)
    qps = {}
    for name, density in densities.items():
        # Outputs that do not depend on a weight on these data: at most _LARGEST_FACTOR times the average step.
        ratio = mean - math.log(density) if density > 0 else math.inf
        log_factor = min(max(exponent * ratio / 2, math.log(_SMALLEST_FACTOR)), math.log(_LARGEST_FACTOR))
        step = step_size(qp, qp_density) * math.exp(log_factor)
        qps[name] = min(max(round(qp_for_step(step, qp_density)), low), high)
    return qps
