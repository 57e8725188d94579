"""Every error that netpress raises on bad input.

All of them derive from :class:`NetpressError`; a caller that catches that class never sees a traceback for bad data.
"""

from __future__ import annotations

import enum

__all__ = [
    "BaseMismatch",
    "EvaluationFailed",
    "InvalidBitstream",
    "InvalidConfig",
    "InvalidModel",
    "LimitExceeded",
    "NetpressError",
    "Reason",
    "RecipeError",
    "UnsupportedBitstream",
]


class Reason(enum.Enum):
    """Why the entropy coder or a quantiser gave up; for programs, as the message is for people."""

    TRUNCATED = "truncated"
    """The payload ends before its last integer."""
    BAD_START = "bad_start"
    """The payload does not start like a codeword."""
    BAD_TERMINATION = "bad_termination"
    """The payload does not end where its codeword ends."""
    VALUE_OUT_OF_RANGE = "value_out_of_range"
    """A coded integer does not fit 32 bits."""
    RESERVED_FLAG = "reserved_flag"
    """A flag that is always 0 is 1."""
    INDEX_OUT_OF_RANGE = "index_out_of_range"
    """A codebook index is outside the codebook."""
    BAD_PARAMETER = "bad_parameter"
    """A coding parameter is outside its range."""
    LEVEL_OUT_OF_RANGE = "level_out_of_range"
    """A value is too large for the syntax, or for every step size."""


class NetpressError(Exception):
    """Base class of all errors that netpress raises on bad input.

    ``reason`` is a :class:`Reason` where the entropy coder or a quantiser gave up, else None.
    """

    reason: Reason | None = None


class _LocatedError(NetpressError):
    """An error at a place in a bitstream.

    ``unit`` is the index of the NNR unit (0 is the first), ``offset`` the byte offset in the stream; each is None where
    it does not apply.
    """

    def __init__(
        self, message: str, *, unit: int | None = None, offset: int | None = None, reason: Reason | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.unit = unit
        self.offset = offset
        self.reason = reason

    def __str__(self) -> str:
        place = []
        if self.unit is not None:
            place.append(f"unit {self.unit}")
        if self.offset is not None:
            place.append(f"byte {self.offset}")
        return f"{self.message} ({', '.join(place)})" if place else self.message


class InvalidBitstream(_LocatedError):
    """The stream is truncated, corrupt or inconsistent."""


class UnsupportedBitstream(_LocatedError):
    """The stream is legal but uses syntax that netpress does not implement; the message names it."""


class LimitExceeded(_LocatedError):
    """The stream asks for more than :class:`netpress.DecodeLimits` allows; ``limit`` names the field to raise."""

    def __init__(self, message: str, *, limit: str, unit: int | None = None, offset: int | None = None) -> None:
        super().__init__(message, unit=unit, offset=offset)
        self.limit = limit


class BaseMismatch(NetpressError):
    """An update does not fit the base model, or the state, that it is applied to."""


class InvalidModel(NetpressError):
    """A model cannot be encoded; ``tensor`` names the offending tensor where there is one."""

    def __init__(self, message: str, *, tensor: str | None = None, reason: Reason | None = None) -> None:
        super().__init__(message if tensor is None else f"tensor {tensor!r}: {message}")
        self.tensor = tensor
        self.reason = reason


class InvalidConfig(NetpressError):
    """An option has an unknown name or an impossible value."""


class EvaluationFailed(NetpressError):
    """The caller's ``evaluate`` raised an exception, which is the cause; ``curve`` holds the trials until then."""

    def __init__(self, message: str, *, curve: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.curve = curve


class RecipeError(NetpressError):
    """A stage of a recipe cannot run, or failed; ``stage`` and ``layer`` name where, each None where it does not apply.

    The caller's network is unchanged.
    """

    def __init__(self, message: str, *, stage: str | None = None, layer: str | None = None) -> None:
        place = [f"stage {stage}"] if stage is not None else []
        place += [f"layer {layer!r}"] if layer is not None else []
        super().__init__(f"{', '.join(place)}: {message}" if place else message)
        self.message = message
        self.stage = stage
        self.layer = layer
