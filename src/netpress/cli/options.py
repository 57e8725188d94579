"""Options that several verbs share, and those that follow from the settings of an encoder."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection
from typing import Annotated, Any

import typer

import netpress

__all__ = [
    "PANELS",
    "Base",
    "Dimensions",
    "Force",
    "Input",
    "Json",
    "Limits",
    "Quiet",
    "Verbose",
    "option",
    "with_config",
]

PANELS = {"recipe": "Recipe", "quality": "Quality", "tools": "Tools", "updates": "Updates", "stream": "Stream"}
"""Headings of ``--help`` by the group of an option."""

Input = Annotated[str, typer.Argument(metavar="IN.nnc", help="The stream to read; - reads standard input.")]
Base = Annotated[
    str | None,
    typer.Option(
        metavar="OLD", help="The model that the stream updates: a model file, or a stream (.nnc).", show_default=False
    ),
]
Dimensions = Annotated[
    str | None,
    typer.Option(
        metavar="JSON",
        help='Shapes of tensors whose stream does not carry them, as {"name": [2, 3]} or a file that holds it.',
        show_default=False,
    ),
]
Limits = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=VALUE",
        help="Raise or lower a bound of netpress.DecodeLimits, e.g. max_elements=2e11. Can be repeated.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Overwrite the output if it exists.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print the traceback of an error.")]


def option(metavar: str, text: str, group: str) -> Any:
    """Return the description of an option that takes a text, under the heading of a group."""
    return typer.Option(metavar=metavar, help=text, rich_help_panel=PANELS[group], show_default=False)


def with_config(
    *, without: Collection[str] = (), defaults: dict[str, Any] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb the options of :class:`netpress.EncodeConfig` that have a flag.

    The verb gets those that were used in its argument ``settings``, a dictionary by the name of the field; in
    ``--help`` they stand where that argument does.

    Args:
        without: fields that are not offered.
        defaults: values of fields where they differ from those of the class.
    """
    fields: dict[str, str] = {}
    parameters = []
    for name, described in netpress.EncodeConfig.options().items():
        if name in without:
            continue
        default = (defaults or {}).get(name)
        for argument, flag in ((name, described.flag), (f"old_{name}", described.old_flag)):
            if flag is not None:
                fields[argument] = name
                parameters.append(_parameter(argument, flag, described, default if argument == name else None))

    def decorated(verb: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(verb)
        def run(**arguments: Any) -> None:
            settings: dict[str, Any] = {}
            for name, field in fields.items():
                value = arguments.pop(name)
                if value is None:
                    continue
                if field in settings:
                    raise typer.BadParameter(f"{_flags(field)} are two names of one option; give one")
                settings[field] = value
            verb(**arguments, settings=settings)

        signature = inspect.signature(verb, eval_str=True)
        own = list(signature.parameters.values())
        at = [parameter.name for parameter in own].index("settings")
        own[at : at + 1] = parameters
        run.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in own}
        del run.__wrapped__
        return run

    return decorated


def _flags(field: str) -> str:
    described = netpress.EncodeConfig.options()[field]
    return " and ".join(str(flag).partition("/")[0] for flag in (described.flag, described.old_flag))


def _parameter(name: str, flag: str, described: Any, default: Any) -> inspect.Parameter:
    """Return the parameter of a verb for one field of the settings; names in use before are not shown."""
    low, high = described.fixed_range or (None, None)
    kind = {"int": int, "float": float, "bool": bool, "str": str}[described.kind]
    shown = described.default if default is None else default
    info: Any = typer.Option(
        flag,
        help=described.help if not shown or kind is bool else f"{described.help[:-1]} (default: {shown}).",
        hidden=name.startswith("old_"),
        max=None if high is None or high > 1e6 else high,
        metavar=described.metavar,
        min=low,
        rich_help_panel=PANELS[described.group],
        show_default=False,
    )
    annotation: Any = Annotated[kind | None, info]
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
