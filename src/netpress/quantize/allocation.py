"""Steps of weights that follow from their sizes, without data.

Source: docs/notes/rate-distortion.md, steps without data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.assign import automatic_qp
from netpress.quantize.step_size import qp_for_step, qp_range, step_size

__all__ = ["may_be_variance", "nonweight_qps_beside", "qps_by_size"]

# No step differs from that of the main qp by more.
_LARGEST_FACTOR = 8.0
_SMALLEST_FACTOR = 1 / 64
_FINER_OCTAVES = 3.5


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
        found = round(qp_for_step(step_size(qp, qp_density) * factor, qp_density))
        qps[name] = min(max(found, low), high)
    return qps


def nonweight_qps_beside(
    parameters: Sequence[Parameter], *, qp: int, qp_density: int, dependent: bool = True, base_qp: int = 0
) -> dict[str, int]:
    """Return qps of everything that is no weight: steps 3.5 octaves finer than that of the weights.

    Variances of batch norms, which span many octaves, get finer ones still where their smallest values need them; see
    :func:`~netpress.quantize.assign.automatic_qps`.

    Args:
        parameters: the model; variances, and what is of unknown role, are loaded.
        qp: that of the weights.
        qp_density: 0..7.
        dependent: whether the trellis will be used.
        base_qp: the qp that coded values are relative to.

    Returns:
        Name -> qp, codable.

    Raises:
        InvalidModel: a variance is infinite or undefined.
    """
    low, high = qp_range(qp_density, base_qp)
    finer = min(max(qp - round(_FINER_OCTAVES * 2**qp_density), low), high)
    qps = {}
    for p in parameters:
        if p.kind is ParameterKind.WEIGHT or p.is_integer:
            continue
        qps[p.name] = finer
        if may_be_variance(p):
            own = automatic_qp(
                p.value,
                p.kind,
                mean_size=1.0,
                qp_density=qp_density,
                dependent=dependent,
                base_qp=base_qp,
                name=p.name,
            )
            qps[p.name] = min(finer, own)
    return qps


def may_be_variance(parameter: Parameter) -> bool:
    """Whether a tensor is the running variance of a batch norm, or one without a negative value whose role is unknown.

    Roles are known from a torch module only, not from a dictionary or a file.
    """
    if parameter.kind is ParameterKind.BN_VAR:
        return True
    if parameter.kind is not ParameterKind.UNSPECIFIED or parameter.is_integer:
        return False
    return bool(parameter.value.size) and float(parameter.value.min()) >= 0
