"""Every error that netpress raises on bad input.

All of them derive from :class:`NetpressError`; a caller that catches that class never sees a traceback for bad data.
"""

from __future__ import annotations

__all__ = [
    "BaseMismatch",
    "EvaluationFailed",
    "InvalidBitstream",
    "InvalidConfig",
    "InvalidModel",
    "LimitExceeded",
    "NetpressError",
    "RecipeError",
    "UnsupportedBitstream",
]


class NetpressError(Exception):
    """Base class of all errors that netpress raises on bad input."""


class _LocatedError(NetpressError):
    """An error at a place in a bitstream.

    ``unit`` is the index of the NNR unit (0 is the first), ``offset`` the byte offset in the stream; each is None where
    it does not apply.
    """

    def __init__(self, message: str, *, unit: int | None = None, offset: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.unit = unit
        self.offset = offset

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

    def __init__(self, message: str, *, tensor: str | None = None) -> None:
        super().__init__(message if tensor is None else f"tensor {tensor!r}: {message}")
        self.tensor = tensor


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
