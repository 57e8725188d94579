"""The settings of a federation: how finely updates are coded, and which part of them is sent."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from netpress.errors import InvalidConfig

__all__ = ["FederatedConfig", "Sparsification"]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sparsification:
    """Which weights of an update are set to zero before it is coded. The parts are taken in the order given here.

    The quantiser already drops what is not worth its bits; this is for those who want a known share of zeros. Only
    float tensors of two dimensions or more are touched.

    Raises:
        InvalidConfig: a value is outside its range.

    Source: sparsification of the coding tools.
    """

    deviations: float | None = None
    """Zero what lies within this many standard deviations of each tensor's mean, >= 0."""
    share: float = 0.0
    """Raise the threshold, in deviations of each tensor, until this share of the update is zero, 0..1."""
    keep: float = 1.0
    """Keep only this share of the weights, the largest of the whole update, 0..1."""
    rows: float = 0.0
    """Zero the output channels whose mean magnitude is below this factor of the mean of their tensor, >= 0."""

    def __post_init__(self) -> None:
        _check("share", self.share, 0, 1)
        _check("keep", self.keep, 0, 1)
        _check("rows", self.rows, 0, 1e9)
        if self.deviations is not None:
            _check("deviations", self.deviations, 0, 1e9)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class FederatedConfig:
    """How updates travel. Server and clients may differ: each setting concerns the one who sends.

    Raises:
        InvalidConfig: a value is outside its range.

    Example:
        >>> FederatedConfig(carried=0.3).effort
        7
    """

    size: float = 0.008
    """Bytes that the weights of an update may take, relative to those of the plain model, 0..1. More is finer and
    arrives earlier."""
    carried: float = 0.05
    """Share of the power of the changes of weights that are due which an update carries even if it gets larger then,
    0.01..0.9999."""
    vectors_carried: float = 0.9
    """The same for biases, norms and all other float vectors, which are few."""
    statistics_step: float = 0.03
    """Step of running means in deviations of their channel, and of running variances relative to them, 1e-4..1. Coarse
    ones cost more quality than coarse weights do."""
    rate_weight: float = 3.0
    """Weight of the rate in the quantiser, >= 0; see ``lambda_scale`` of :class:`netpress.EncodeConfig`. Small weights
    let coarse steps overshoot, round after round."""
    effort: int = 7
    """1 (fastest) to 9 (smallest), as for :class:`netpress.EncodeConfig`."""
    temporal: bool = False
    """Use temporal contexts and histories of the updates before where that makes an update smaller."""
    accumulate: bool = True
    """Clients keep what coding left out: their next training starts from the model of the server with it."""
    memory: float = 0.85
    """Share of what a message left out that is due in the next one, 0..1. Training learns some of it anew, and what a
    client owes for long leads away from what the others learn. Rounds of a few steps may want more, 0.95; where
    training does not go on 1 keeps everything."""
    sparsification: Sparsification | None = None
    """None: only the quantiser decides what becomes zero."""
    model_qp: int | None = None
    """Quantisation parameter of the whole model that a new client gets. None: the default steps of ``encode``."""
    largest_weight: float = 1e9
    """Server: refuse an update that claims more samples than this, > 0."""

    def __post_init__(self) -> None:
        _check("size", self.size, 0, 1)
        _check("carried", self.carried, 0.01, 0.9999)
        _check("vectors_carried", self.vectors_carried, 0.01, 0.9999)
        _check("statistics_step", self.statistics_step, 1e-4, 1)
        _check("rate_weight", self.rate_weight, 0, 1e9)
        _check("memory", self.memory, 0, 1)
        _check("largest_weight", self.largest_weight, 1e-9, 1e300)
        if type(self.effort) is not int or not 1 <= self.effort <= 9:
            raise InvalidConfig(f"effort is {self.effort!r}, not a whole number from 1 to 9")
        if self.model_qp is not None and (type(self.model_qp) is not int or not -128 <= self.model_qp <= 127):
            raise InvalidConfig(f"model_qp is {self.model_qp!r}, not a whole number from -128 to 127")
        for name in ("temporal", "accumulate"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidConfig(f"{name} is True or False, not {getattr(self, name)!r}")
        if isinstance(self.sparsification, Mapping):
            object.__setattr__(self, "sparsification", _made(Sparsification, self.sparsification))
        if self.sparsification is not None and not isinstance(self.sparsification, Sparsification):
            raise InvalidConfig(f"sparsification is {type(self.sparsification).__name__}, not Sparsification")

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FederatedConfig:
        """Inverse of :meth:`to_dict`.

        Raises:
            InvalidConfig: a key is unknown, or a value is out of range.
        """
        made: FederatedConfig = _made(cls, values)
        return made


def _made(kind: Any, values: Mapping[str, Any]) -> Any:
    known = {field.name for field in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InvalidConfig(f"unknown option {unknown[0]!r}; known are {', '.join(sorted(known))}")
    return kind(**values)


def _check(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidConfig(f"{name} is {value!r}, not a number from {low:g} to {high:g}")
