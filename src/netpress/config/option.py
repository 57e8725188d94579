"""One description of an option: what values it takes, for whom it is, and how it is called on the command line.

Validation, the options of the commands, the tables of the reference and the hint at the nearest name follow from it.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from netpress.errors import InvalidConfig

__all__ = ["GROUPS", "Option", "as_tuple", "check_value", "describe", "integer", "option", "unknown_option"]

GROUPS = {
    "quality": "What most people set",
    "tools": "Tools of the encoder",
    "updates": "Updates of a model",
    "stream": "What the stream carries",
}
"""Groups of options, by name, with their headings in the reference."""

Range = tuple[float, float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """What is known about a field of the settings.

    ``range`` is that of a number, both ends included, or a function of the settings that returns it. ``choices`` are
    the words that a text may be. ``flag`` is the name on the command line (None: it has no such option), with ``/``
    between those that switch on and off; ``old_flag`` works too. ``help`` is one sentence for the command line.
    ``items`` is the type of what a tuple holds, or of the values of a mapping by name. ``effort`` names what the option
    overrules in the table of effort. ``kind`` is the type of the values, such as ``"int"``, ``may_be_none``
    whether None is one too, ``default`` what the field is where nothing is said.
    """

    group: str
    help: str
    kind: str = ""
    may_be_none: bool = False
    default: Any = None
    range: Range | Callable[[Any], Range] | None = None
    choices: tuple[str, ...] = ()
    items: type | None = None
    effort: tuple[str, ...] = ()
    flag: str | None = None
    old_flag: str | None = None
    metavar: str | None = None

    @property
    def fixed_range(self) -> Range | None:
        """The range, if it does not depend on other options."""
        return self.range if isinstance(self.range, tuple) else None


def option(default: Any, **description: Any) -> Any:
    """Return a field of a dataclass with its default and the fields of its :class:`Option`."""
    return dataclasses.field(default=default, metadata={"option": Option(**description)})


def describe(field: dataclasses.Field[Any]) -> Option:
    """Return what is known about a field of the settings, with what its declaration says."""
    described: Option = field.metadata["option"]
    kind = str(field.type).removesuffix(" | None")
    return dataclasses.replace(described, kind=kind, may_be_none=kind != field.type, default=field.default)


def unknown_option(name: str, known: Iterable[str], other_names: dict[str, str]) -> InvalidConfig:
    """Return the error for an option that does not exist, with the nearest one that does.

    Args:
        name: what was asked for.
        known: the options.
        other_names: what options are called elsewhere -> their name here.
    """
    close = difflib.get_close_matches(name, [*known, *other_names], n=1, cutoff=0.5)
    nearest = other_names.get(close[0], close[0]) if close else None
    hint = f": did you mean {nearest!r}?" if nearest else "; the reference lists the fields of netpress.EncodeConfig"
    return InvalidConfig(f"unknown option {name!r}{hint}")


def check_value(name: str, described: Option, settings: Any) -> None:
    """Check type and range of one option.

    Args:
        name: the field of the settings.
        described: what is known about it.
        settings: where its value is.

    Raises:
        InvalidConfig: the value is of another type, or outside the range.
    """
    value, kind, may_be_none = getattr(settings, name), described.kind, described.may_be_none
    if value is None and may_be_none:
        return
    if kind == "bool":
        if not isinstance(value, bool):
            raise InvalidConfig(f"{name} is True{', False or None' if may_be_none else ' or False'}, not {value!r}")
    elif kind == "str":
        if value not in described.choices:
            *first, last = map(repr, described.choices)
            raise InvalidConfig(f"{name} is {', '.join(first)} or {last}, not {value!r}")
    elif described.items is not None:
        _check_items(name, value, described.items)
    elif described.range is not None:
        low, high = described.range(settings) if callable(described.range) else described.range
        if kind == "int":
            if not low <= integer(name, value) <= high:
                raise InvalidConfig(f"{name} is {value}, outside {low:g}..{high:g}")
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise InvalidConfig(f"{name} is {value!r}, not a number from {low:g} to {high:g}")


def as_tuple(name: str, value: Any) -> tuple[Any, ...]:
    """Return what any iterable but a text holds.

    Raises:
        InvalidConfig: the value is something else.
    """
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        return tuple(value)
    except TypeError:
        raise InvalidConfig(f"{name} is {value!r}, not a list") from None


def _check_items(name: str, value: Any, kind: type) -> None:
    if isinstance(value, Mapping):
        for key, item in value.items():
            integer(f"{name}[{key!r}]", item)
    elif not isinstance(value, tuple):
        raise InvalidConfig(f"{name} is {value!r}, not a mapping of names to integers")
    else:
        for item in value:
            if not isinstance(item, kind):
                raise InvalidConfig(f"{name} holds {item!r}, which is not a {kind.__name__}")


def integer(name: str, value: Any) -> int:
    """Return an integer of any type as int.

    Raises:
        InvalidConfig: the value is not an integer, or a boolean.
    """
    if not isinstance(value, bool):
        try:
            return int(value.__index__())
        except AttributeError:
            pass
    raise InvalidConfig(f"{name} is {value!r}, not an integer")
