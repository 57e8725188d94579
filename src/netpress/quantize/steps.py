"""Which step each tensor of a stream gets: the one place that decides it.

:func:`assign_steps` gives every tensor a rule before any is coded. Some rules are a qp, others find one in the values,
which are loaded only when the tensor is coded. From the strongest down:

1. integers that are given quantised bring their qp;
2. ``bit_depth`` finds the step whose levels fill the bits;
3. ``qp_per_tensor``;
4. ``nonweight_qp`` for everything that is not a weight;
5. with ``qp``: weights get it, or one by their size if ``allocation`` says so, and everything else a finer one;
6. without: each tensor gets a step that suits its own values, or integers of its own where no single step does
   (``special.py``).

In an update, steps follow from the new values, not from the differences: an update is as fine as the new model alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from netpress.config import DEFAULT_NONWEIGHT_QP, QUALITIES, EncodeConfig, Quality
from netpress.errors import InvalidConfig
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.allocation import qps_by_size
from netpress.quantize.automatic_steps import (
    TRELLIS_PERIOD,
    automatic_qp,
    is_matrix,
    is_quantised,
    mean_weight_size,
    quantiser_noise,
)
from netpress.quantize.reference_steps import assign_qps, bit_depth_qp
from netpress.quantize.special import (
    MAX_LEVEL,
    exact_integers,
    floor_qp,
    has_small_values,
    is_ratio,
    ratio_integers,
    row_integers,
)
from netpress.quantize.step_size import qp_for_step, qp_range, step_size
from netpress.quantize.tensor import QuantizedTensor

__all__ = [
    "FixedStep",
    "StepRule",
    "assign_steps",
    "default_nonweight_qp",
    "may_be_variance",
    "suitable_base_qp",
    "vector_qp",
]

Array = npt.NDArray[Any]

# How much finer the steps of vectors are than that of the weights, where steps follow sizes or sensitivities.
_FINER_OCTAVES = 3.5
# A tensor whose largest value is at least this has the steps that it needs with any base_qp of 0 or less.
_LARGE_ENOUGH = 2.0**-8
# So has one without a negative value whose smallest is at least this, whatever its largest.
_SMALL_RATIO = 2.0**-16
# No step is finer than 2 to the power of minus this: it is to be a normal number of binary32.
_FINEST_OCTAVE = 126
# Of variances where a qp is given.
_BESIDE_QP = Quality(QUALITIES["default"].weights, 54.0)
# Largest step of the difference of a variance, relative to the smallest of the new ones.
_VARIANCE_SHARE = 1 / 8


class StepRule(Protocol):
    """Gives a tensor its qp, or integers where one step does not suit it."""

    def qp(self, value: Array, new: Array | None = None, name: str = "") -> int:
        """Return the qp.

        Args:
            value: what is coded, float32 of any shape.
            new: the new value of the tensor, where ``value`` is its difference to that of a base model.
            name: for errors.
        """

    def choose(self, value: Array, new: Array | None = None, name: str = "") -> int | QuantizedTensor:
        """Return the qp, or the integers of a tensor that no single step suits.

        Args:
            value, new, name: as for :meth:`qp`.
        """
        return self.qp(value, new, name)

    def replaces(self, new: Array) -> bool:
        """Whether an update holds the new value of such a tensor, as a difference does not keep what matters of it."""
        return False


@dataclasses.dataclass(frozen=True, slots=True)
class FixedStep(StepRule):
    """The same qp for any values."""

    fixed: int

    def qp(self, value: Array, new: Array | None = None, name: str = "") -> int:
        """See :class:`StepRule`."""
        return self.fixed


@dataclasses.dataclass(frozen=True, slots=True)
class _BitDepthStep(StepRule):
    kind: ParameterKind
    bits: int
    qp_density: int
    reference: bool

    def qp(self, value: Array, new: Array | None = None, name: str = "") -> int:
        return bit_depth_qp(
            value, self.kind, bits=self.bits, qp_density=self.qp_density, reference=self.reference, name=name
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _AutomaticStep(StepRule):
    kind: ParameterKind
    mean_size: float
    qp_density: int
    dependent: bool
    base_qp: int
    quality: Quality
    row_factors: Array | None = None

    def qp(self, value: Array, new: Array | None = None, name: str = "") -> int:
        return automatic_qp(
            value if new is None else new,
            self.kind,
            mean_size=self.mean_size,
            qp_density=self.qp_density,
            dependent=self.dependent,
            base_qp=self.base_qp,
            quality=self.quality,
            name=name,
        )

    def choose(self, value: Array, new: Array | None = None, name: str = "") -> int | QuantizedTensor:
        """See :class:`StepRule`: integers of exact values, ratios, rows of different size, in this order."""
        whole = value if new is None else new
        qp = self.qp(value, new, name)
        if not is_quantised(value):
            return qp
        stream = {"qp_density": self.qp_density, "base_qp": self.base_qp}
        exact = exact_integers(value, **stream)
        if exact is not None:
            return qp if self._is_exact_already(value, new, qp) else exact
        if new is None and self._is_ratio(value):
            return ratio_integers(value, **stream)
        is_weight = is_matrix(value.shape, self.kind)
        if not is_weight and (new is not None or float(value.min()) >= 0):
            return qp
        step = step_size(qp, self.qp_density)
        noise = quantiser_noise(dependent=self.dependent)
        if is_weight:
            rows = row_integers(value, step, noise, like=whole, factors=self.row_factors, **stream)
            return qp if rows is None else rows
        return ratio_integers(value, **stream) if has_small_values(value, step, noise) else qp

    def replaces(self, new: Array) -> bool:
        """See :class:`StepRule`."""
        stream = {"qp_density": self.qp_density, "base_qp": self.base_qp}
        return is_quantised(new) and (self._is_ratio(new) or exact_integers(new, **stream) is not None)

    def _is_ratio(self, value: Array) -> bool:
        return is_ratio(value, is_matrix=is_matrix(value.shape, self.kind))

    def _is_exact_already(self, value: Array, new: Array | None, qp: int) -> bool:
        """Whether a constant is a multiple of the step that it would get, and of what the trellis repeats."""
        constant = float(value.flat[0])
        if new is not None or np.any(value != constant):
            return False
        unit = (TRELLIS_PERIOD if self.dependent else 1) * step_size(qp, self.qp_density)
        return constant % unit == 0


@dataclasses.dataclass(frozen=True, slots=True)
class _VectorStep(StepRule):
    """Finer than the weights; variances, which span many octaves, are as fine as their smallest values need."""

    finer: int
    automatic: _AutomaticStep

    def qp(self, value: Array, new: Array | None = None, name: str = "") -> int:
        if not may_be_variance(value if new is None else new, self.automatic.kind):
            return self.finer
        return min(self.finer, self.automatic.qp(value, new, name))


@dataclasses.dataclass(frozen=True, slots=True)
class _UpdateStep(StepRule):
    """For differences: where that of a variance is coded coarsely, the new variance can become negative."""

    rule: StepRule
    kind: ParameterKind
    qp_density: int
    base_qp: int

    def qp(self, value: Array, new: Array | None = None, name: str = "") -> int:
        qp = self.rule.qp(value, new, name)
        whole = value if new is None else new
        above = whole[whole > 0] if may_be_variance(whole, self.kind) else whole[:0]
        if not above.size:
            return qp
        low, high = qp_range(self.qp_density, self.base_qp)
        step = max(float(above.min()), 1e-30) * _VARIANCE_SHARE
        limit = math.floor(qp_for_step(step, self.qp_density))
        return min(qp, max(low, min(high, limit)))

    def choose(self, value: Array, new: Array | None = None, name: str = "") -> int | QuantizedTensor:
        """See :class:`StepRule`."""
        chosen = self.rule.choose(value, new, name)
        return self.qp(value, new, name) if isinstance(chosen, int) else chosen

    def replaces(self, new: Array) -> bool:
        """See :class:`StepRule`."""
        return self.rule.replaces(new)


def assign_steps(
    parameters: Sequence[Parameter],
    config: EncodeConfig,
    *,
    given: Mapping[str, QuantizedTensor] | None = None,
    uniform: Collection[str] = (),
    decomposed: Mapping[str, tuple[str, str]] | None = None,
    is_update: bool = False,
    row_factors: Mapping[str, Array] | None = None,
) -> dict[str, StepRule]:
    """Give every tensor of a model the rule of its step.

    Args:
        parameters: the model, in coding order. Values are loaded only for ``optimize_qp``.
        config: the settings, with the names that tensors have in the stream.
        given: integers of tensors that are quantised already, by name.
        uniform: names of tensors that are quantised without the trellis though the settings say otherwise.
        decomposed: weight name -> names of its factors ``(G, H)``.
        row_factors: weight name -> what its rows are multiplied by in the network, by batch norms.
        is_update: whether the values are differences to those of a base model, whose new values are known.

    Returns:
        Name -> rule, for all parameters; those of integer tensors are never asked.

    Raises:
        InvalidConfig: a qp cannot be coded, or is given for a tensor that the model does not have; names the tensor.

    Source: netpress's own, but for the steps of ``assign_qps`` and ``bit_depth_qp``.
    """
    given = given or {}
    _check_names(parameters, config)
    rules = _rules(parameters, config, uniform, decomposed or {}, row_factors or {})
    if is_update and config.bit_depth is None:
        own = config.qp_per_tensor or {}
        for p in parameters:
            if not p.is_integer and p.name not in own:
                rules[p.name] = _UpdateStep(rules[p.name], p.kind, config.qp_density, config.base_qp)
    rules.update({name: FixedStep(tensor.qp) for name, tensor in given.items()})
    _check_range(parameters, rules, config)
    return rules


def _rules(
    parameters: Sequence[Parameter],
    config: EncodeConfig,
    uniform: Collection[str],
    decomposed: Mapping[str, tuple[str, str]],
    row_factors: Mapping[str, Array],
) -> dict[str, StepRule]:
    """Rules 2 to 6."""
    if config.bit_depth is not None:
        scale = (config.bit_depth, config.qp_density, config.is_reference)
        return {p.name: _BitDepthStep(p.kind, *scale) for p in parameters}
    mean = mean_weight_size(parameters)

    def automatic(p: Parameter) -> _AutomaticStep:
        dependent = config.use_dq and p.name not in uniform
        factors = row_factors.get(p.name)
        quality = QUALITIES[config.quality] if config.qp is None else _BESIDE_QP
        return _AutomaticStep(p.kind, mean, config.qp_density, dependent, config.base_qp, quality, factors)

    own = config.qp_per_tensor or {}
    if config.qp is None:
        fixed = {p.name: config.nonweight_qp for p in parameters if p.kind is not ParameterKind.WEIGHT}
        return {
            p.name: automatic(p) if (qp := own.get(p.name, fixed.get(p.name))) is None else FixedStep(qp)
            for p in parameters
        }
    other = default_nonweight_qp(config) if config.nonweight_qp is None else config.nonweight_qp
    qps = assign_qps(
        parameters,
        qp=config.qp,
        nonweight_qp=other,
        qp_per_tensor=own,
        optimize_qp=config.optimize_qp,
        decomposed=decomposed,
    )
    if config.allocation == "equal":
        return {name: FixedStep(qp) for name, qp in qps.items()}
    by_size = qps_by_size(parameters, qp=config.qp, qp_density=config.qp_density, base_qp=config.base_qp)
    qps.update({name: qp for name, qp in by_size.items() if name not in own})
    finer = vector_qp(config.qp, config.qp_density, config.base_qp)
    return {
        p.name: FixedStep(qps[p.name])
        if p.kind is ParameterKind.WEIGHT or config.nonweight_qp is not None or p.name in own
        else _VectorStep(finer, dataclasses.replace(automatic(p), mean_size=1.0))
        for p in parameters
    }


def suitable_base_qp(
    parameters: Sequence[Parameter], config: EncodeConfig, *, given: Mapping[str, QuantizedTensor] | None = None
) -> int:
    """Return the base_qp of a stream: that of the settings, or a lower one where tensors of small values need it.

    Only where each tensor gets a step of its own (no ``qp``) and ``base_qp`` is 0. The field of a tensor's qp spans 64
    octaves; they are moved down as far as the finest step asks for, unless the largest value of another tensor would
    then be too large for every step.

    Args:
        parameters: the model; all values are loaded, one tensor at a time.
        config: the settings, with the names that tensors have in the stream.
        given: integers of tensors that are quantised already, by name.

    Source: netpress's own; mps_quantization_parameter of the standard.
    """
    if config.qp is not None or config.bit_depth is not None or config.base_qp:
        return config.base_qp
    density, octaves = config.qp_density, 32 << config.qp_density
    usual = finest = qp_range(density)[0]
    fixed = {name: tensor.qp for name, tensor in (given or {}).items()} | dict(config.qp_per_tensor or {})
    largest = 0.0
    bases = (-octaves, octaves - (_FINEST_OCTAVE << density))
    lower: list[dict[str, StepRule]] = []
    lows = [qp_range(density, base)[0] for base in bases]
    for p in parameters:
        new = None if p.is_integer else p.new
        value: Array = p.value if new is None else new
        if p.is_integer or p.name in fixed or not is_quantised(value):
            continue
        smallest, top = float(value.min()), float(value.max())
        largest = max(largest, top, -smallest)
        has_small = smallest >= 0 and float(np.min(value, where=value > 0, initial=np.inf)) < _SMALL_RATIO
        if has_small or max(top, -smallest) < _LARGE_ENOUGH:
            lower = lower or [
                assign_steps(
                    parameters,
                    EncodeConfig(qp_density=density, use_dq=config.use_dq, base_qp=base, quality=config.quality),
                )
                for base in bases
            ]
            finest = min(finest, _wanted_qp([rules[p.name] for rules in lower], lows, value, p.name))
    if finest == usual:
        return 0
    highest = [floor_qp(largest / MAX_LEVEL, density) + 1, *fixed.values()]
    if config.nonweight_qp is not None:
        highest.append(config.nonweight_qp)
    return min(max(finest, max(highest) + 1 - 2 * octaves) + octaves, 0)


def _wanted_qp(rules: Sequence[StepRule], lows: Sequence[int], value: Array, name: str) -> int:
    """Return the qp of the first rule whose range does not end above it; the last one has the last word."""
    for rule, low in zip(rules, lows, strict=True):
        chosen = rule.choose(value, name=name)
        qp = chosen if isinstance(chosen, int) else chosen.qp
        if qp > low and (chosen is qp or rule.qp(value, name=name) > low):
            break
    return qp


def default_nonweight_qp(config: EncodeConfig) -> int:
    """Return the qp of non-weights when only ``qp`` is given: the step of -75 at density 2, if it can be coded."""
    low, high = qp_range(config.qp_density, config.base_qp)
    wanted = round(DEFAULT_NONWEIGHT_QP * math.ldexp(1, config.qp_density - 2))
    return min(max(wanted, low), high)


def vector_qp(qp: int, qp_density: int = 2, base_qp: int = 0) -> int:
    """Return the qp of vectors beside weights whose steps follow sizes or sensitivities: 3.5 octaves finer.

    Args:
        qp: that of the weights.
        qp_density: 0..7.
        base_qp: the qp that coded values are relative to; the result is codable.

    >>> vector_qp(-20)
    -34
    """
    low, high = qp_range(qp_density, base_qp)
    return min(max(qp - round(_FINER_OCTAVES * (1 << qp_density)), low), high)


def may_be_variance(value: Array, kind: ParameterKind) -> bool:
    """Whether a tensor is the running variance of a batch norm, or one without a negative value whose role is unknown.

    Roles are known from a torch module only, not from a dictionary or a file.
    """
    if kind is ParameterKind.BN_VAR:
        return True
    if kind is not ParameterKind.UNSPECIFIED or not np.issubdtype(value.dtype, np.floating):
        return False
    return value.size > 0 and float(value.min()) >= 0


def _check_names(parameters: Sequence[Parameter], config: EncodeConfig) -> None:
    if config.is_reference:
        return
    known = {p.name for p in parameters}
    for name in config.qp_per_tensor or {}:
        if name not in known:
            raise InvalidConfig(f"qp_per_tensor names {name!r}, which the model does not have")


def _check_range(parameters: Sequence[Parameter], rules: Mapping[str, StepRule], config: EncodeConfig) -> None:
    """Refuse a qp that the stream cannot carry (the reference wraps it silently). Source: width of the qp field."""
    low, high = qp_range(config.qp_density, config.base_qp)
    for p in parameters:
        rule = rules[p.name]
        rule = rule.rule if isinstance(rule, _UpdateStep) else rule
        if isinstance(rule, FixedStep) and not p.is_integer and not low <= rule.fixed <= high:
            raise InvalidConfig(
                f"tensor {p.name!r}: qp {rule.fixed} is outside {low}..{high}, "
                f"the range of qp_density {config.qp_density}"
            )
