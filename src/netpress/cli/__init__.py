"""The command ``netpress``; one module for each verb.

Exit codes: 0 done, 1 bad input (one line on stderr says what), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import io
import signal
import sys
from typing import Annotated, Any, NoReturn

import typer

import netpress
from netpress.cli import chain, compress, decode, demo, encode, evaluate, info, report, verify

__all__ = ["app", "main"]

app = typer.Typer(
    name="netpress",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_VERBS = (
    encode.encode,
    compress.compress,
    decode.decode,
    info.info,
    verify.verify,
    demo.demo,
    evaluate.evaluate,
    report.report,
)
for _verb in _VERBS:
    app.command()(_verb)
app.add_typer(chain.app, name="chain")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"netpress {netpress.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Compress neural networks into standard ISO/IEC 15938-17 (NNC) streams, and back.

    Start with: netpress demo
    """


def main() -> NoReturn:
    """Run the command line; does not return."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a tensor may have any name
    app(prog_name="netpress")
    sys.exit(0)


def _terminate(number: int, _: Any) -> NoReturn:
    """End as on an exception, so that temporary files are removed."""
    sys.exit(128 + number)
