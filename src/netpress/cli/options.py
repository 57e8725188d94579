"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Base", "Dimensions", "Force", "Input", "Json", "Limits", "Quiet", "Verbose"]

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
