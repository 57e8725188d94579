"""The step size that belongs to a quantisation parameter, and back.

Notation: ``d`` is ``qp_density``, ``K = 2**d`` the number of qps per octave. A qp of 0 gives step 1, each further ``K``
doubles the step, and within an octave the step grows linearly.
"""

from __future__ import annotations

import math

from netpress.errors import InvalidConfig

__all__ = ["MAX_QP_DENSITY", "qp_for_step", "qp_range", "step_size"]

MAX_QP_DENSITY = 7
"""Largest ``qp_density`` that the syntax can carry (3 bits)."""


def _steps_per_octave(qp_density: int) -> int:
    """Return ``K = 2**qp_density`` after checking the density."""
    if not 0 <= qp_density <= MAX_QP_DENSITY:
        raise InvalidConfig(f"qp_density must be 0..{MAX_QP_DENSITY}, not {qp_density}")
    return 1 << qp_density


def step_size(qp: int, qp_density: int) -> float:
    """Return the quantisation step of ``qp``.

    Args:
        qp: the quantisation parameter, any integer (the codable ones are given by :func:`qp_range`).
        qp_density: ``d``, 0..7.

    Returns:
        ``(K + (qp mod K)) * 2**(floor(qp / K) - d)`` as binary64; exact, save that it becomes 0.0 or infinity where
        binary64 cannot hold it (never for a codable qp). The quantisers use its binary32 value.

    Raises:
        InvalidConfig: ``qp_density`` is out of range.

    Source: step size of the standard's dequantisation process.

    >>> step_size(-38, 2), step_size(0, 2)
    (0.00146484375, 1.0)
    """
    k = _steps_per_octave(qp_density)
    qp = int(qp)
    mantissa = k + (qp & (k - 1))
    try:
        return math.ldexp(mantissa, (qp >> qp_density) - qp_density)
    except OverflowError:
        return math.inf


def qp_for_step(step: float, qp_density: int) -> float:
    """Return the real-valued quantisation parameter whose step is ``step``.

    Args:
        step: the wanted step, finite and above 0.
        qp_density: ``d``, 0..7.

    Returns:
        ``b + (step * K / 2**(b / K) - K)`` with ``b = K * floor(log2(step))``, in binary64 and in this order. It is
        the inverse of :func:`step_size` at integers and linear in the step between them.

    Raises:
        InvalidConfig: ``step`` is not a positive finite number or ``qp_density`` is out of range.

    Source: inverse of the step size; used by the integer-aligned bit depth of the reference encoder.

    >>> qp_for_step(0.00146484375, 2)
    -38.0
    """
    k = _steps_per_octave(qp_density)
    step = float(step)
    if not (step > 0.0 and math.isfinite(step)):
        raise InvalidConfig(f"a step size must be positive and finite, not {step}")
    octave = math.floor(math.log2(step))
    if octave < -1022:  # 2.0**octave would lose bits or be zero
        step, shift = math.ldexp(step, 1000), -1000 * k
        octave += 1000
    else:
        shift = 0
    base = float(octave * k)
    return shift + (base + (step * k / math.pow(2.0, base / k) - k))


def qp_range(qp_density: int, base_qp: int = 0) -> tuple[int, int]:
    """Return the smallest and the largest qp that a data unit can carry.

    A unit holds ``qp - base_qp`` as a signed integer of ``6 + d`` bits.

    Args:
        qp_density: ``d``, 0..7.
        base_qp: the qp of the model parameter set that the coded value is relative to.

    Returns:
        ``(base_qp - 2**(5 + d), base_qp + 2**(5 + d) - 1)``.

    Raises:
        InvalidConfig: ``qp_density`` is out of range.

    Source: ``iae(6 + qp_density)`` of the data unit header.

    >>> qp_range(2)
    (-128, 127)
    """
    half = 32 * _steps_per_octave(qp_density)
    return base_qp - half, base_qp + half - 1
