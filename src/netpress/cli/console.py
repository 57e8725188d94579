"""What every verb says and how: results on stdout, everything else on stderr."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

import numpy as np
import rich.box
import rich.console
import rich.progress
import rich.table
import rich.text
import typer

import netpress

__all__ = [
    "clear_errors",
    "counted",
    "display_number",
    "human_bytes",
    "make_table",
    "print_json",
    "print_line",
    "print_table",
    "printable",
    "progress",
    "shape_text",
]

Progress = Callable[[int, int, str], None]

_WIDE = 100_000  # columns of a table that goes to a file or pipe: nothing is cut or folded there


@contextlib.contextmanager
def clear_errors(*, verbose: bool = False, quiet: bool = False) -> Iterator[None]:
    """Turn what a verb raises into one line on stderr and an exit code: 1 for bad input, 130 for Ctrl-C.

    Warnings and log records become lines on stderr too, unless ``quiet``. ``verbose`` adds the traceback of an error.
    """
    with _warnings_as_lines(quiet=quiet):
        try:
            yield
        except BrokenPipeError:  # the reader of our output has gone: nobody is left to tell
            _discard_stdout()
            raise typer.Exit(1) from None
        except (netpress.NetpressError, OSError, MemoryError) as error:
            if verbose:
                traceback.print_exc()
            _say(f"netpress: error: {_describe(error)}")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            _say("netpress: interrupted")
            raise typer.Exit(130) from None


@contextlib.contextmanager
def progress(description: str, *, quiet: bool = False) -> Iterator[Progress | None]:
    """Show a progress bar on stderr while the block runs; yields the callback that moves it.

    Yields None, and shows nothing, when ``quiet`` or when stderr is not a terminal.
    """
    if quiet or not sys.stderr.isatty():
        yield None
        return
    bar = rich.progress.Progress(
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn("{task.fields[tensor]}", markup=False),
        console=rich.console.Console(file=sys.stderr),
        transient=True,
    )
    with bar:
        task = bar.add_task(description, total=None, tensor="")

        def advance(done: int, total: int, tensor: str) -> None:
            bar.update(task, completed=done, total=total, tensor=printable(tensor))

        yield advance


def print_line(text: str, *, file: TextIO | None = None) -> None:
    """Print one line, with nothing in it that could move a terminal's cursor or change its colours."""
    print(printable(text), file=file or sys.stdout)


def print_json(value: Any) -> None:
    """Print a result for machines; bytes become hexadecimal text, numbers that are not finite become null."""
    print(json.dumps(_as_json(value), indent=2, allow_nan=False))


def make_table(*columns: str, left: tuple[str, ...] = ("name",)) -> rich.table.Table:
    """Make an empty table; numbers are aligned to the right, the columns in ``left`` to the left."""
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        is_text = column in left
        table.add_column(column, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    return table


def print_table(table: rich.table.Table) -> None:
    """Print a table on stdout: as wide as the terminal, or as wide as needed where there is none."""
    width = None if sys.stdout.isatty() else _WIDE
    rich.console.Console(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False).print(table)


def counted(count: int, noun: str) -> str:
    """Write a count with its noun, in the plural where there is not exactly one."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def printable(text: str) -> str:
    """Replace line breaks by spaces, and every other character that cannot be shown by its escape sequence."""
    return "".join(
        character if character.isprintable() else " " if character in "\r\n" else _escape(character)
        for character in text
    )


def display_number(value: float) -> str:
    """A measured number, short; nothing for what was not measured."""
    return "" if math.isnan(value) else f"{value:.4g}"


def human_bytes(count: float) -> str:
    """Write a number of bytes with three significant digits and a decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _as_json(value: Any) -> Any:
    """The same value in the types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): _as_json(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(entry) for entry in value]
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, np.generic):
        return _as_json(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _say(text: str) -> None:
    print_line(text, file=sys.stderr)


def shape_text(shape: tuple[int, ...]) -> str:
    """Write a shape for a table."""
    return " x ".join(map(str, shape)) or "scalar"


def _describe(error: BaseException) -> str:
    """One line that says what went wrong; the name of a file comes first."""
    if isinstance(error, OSError) and error.strerror is not None:
        return error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"not enough memory ({error})" if str(error) else "not enough memory"
    return str(error) or type(error).__name__


def _discard_stdout() -> None:
    """Let the interpreter flush stdout at its end without an error, after its reader has gone."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def _warnings_as_lines(*, quiet: bool) -> Iterator[None]:
    """Print warnings and log records of the library as single lines on stderr, or drop them when ``quiet``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("netpress: %(levelname)s: %(message)s"))
    handler.setLevel(logging.CRITICAL + 1 if quiet else logging.WARNING)
    logger = logging.getLogger("netpress")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not quiet:
                warnings.simplefilter("default", UserWarning)
                warnings.showwarning = _show_warning
            yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _say(f"netpress: warning: {message}")
