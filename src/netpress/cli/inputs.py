"""From words of the command line to files, models and settings."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import typer

import netpress
from netpress.formats import open_source

__all__ = [
    "STANDARD_STREAM",
    "check_output",
    "display_name",
    "load_model",
    "parse_dimensions",
    "parse_limits",
    "read_json_object",
    "stem",
    "stream_file",
]

STANDARD_STREAM = "-"


@contextlib.contextmanager
def stream_file(name: str) -> Iterator[Path]:
    """Yield the path of the stream to read; standard input, named ``-``, is first copied to a temporary file."""
    if name != STANDARD_STREAM:
        yield Path(name)
        return
    if sys.stdin.isatty():
        raise typer.BadParameter("standard input is a terminal; give a file or pipe a stream in")
    with tempfile.TemporaryDirectory(prefix="netpress-") as folder:
        path = Path(folder) / "stdin.nnc"
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield path


@contextlib.contextmanager
def output_file(target: str) -> Iterator[Path]:
    """Yield the path to write; for standard output a temporary file, whose bytes are passed on at the end."""
    if target != STANDARD_STREAM:
        yield Path(target)
        return
    with tempfile.TemporaryDirectory(prefix="netpress-") as folder:
        path = Path(folder) / "stdout.nnc"
        yield path
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def display_name(name: str, standard_stream: str = "standard output") -> str:
    """What to call a file in a message."""
    return standard_stream if name == STANDARD_STREAM else name


def load_model(name: str) -> Mapping[str, npt.NDArray[Any]]:
    """Read a model from a model file or directory, or from a stream, told by its extension .nnc."""
    if name.lower().endswith(".nnc"):
        return netpress.load(name)
    source = open_source(name)
    return {tensor: source.load(tensor) for tensor in source.names}


def stem(name: str) -> Path:
    """Path of a model or stream without the extension that tells its format."""
    path = Path(name)
    if path.is_dir():
        return path.resolve()
    lower = path.name.lower()
    for suffix in (".safetensors.index.json", path.suffix.lower()):
        if suffix and lower.endswith(suffix):
            return path.with_name(path.name[: -len(suffix)])
    return path


def check_output(output: str, *, force: bool, inputs: Sequence[str | None]) -> None:
    """Refuse an output that is one of the inputs, or that exists unless ``force``, before any work is done."""
    if output == STANDARD_STREAM:
        if sys.stdout.isatty():
            raise typer.BadParameter("refusing to write a binary file to the terminal; give a file or a pipe")
        return
    if not Path(output).is_file():
        return
    if any(name and Path(name).is_file() and Path(name).samefile(output) for name in inputs):
        raise typer.BadParameter(f"{output} is an input; give another output with -o")
    if not force:
        raise FileExistsError(errno.EEXIST, "exists already; --force overwrites it, -o names another file", output)


def parse_dimensions(text: str | None) -> dict[str, tuple[int, ...]] | None:
    """Read shapes from JSON, given as text or as the name of a file."""
    if text is None:
        return None
    content = read_json_object(text)
    for name, shape in content.items():
        if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
            raise typer.BadParameter(f"the shape of {name!r} is not a list of sizes: {shape!r}")
    return {name: tuple(shape) for name, shape in content.items()}


def read_json_object(text: str) -> dict[str, Any]:
    """Read a JSON object, given as text that starts with a brace or as the name of a file."""
    is_inline = text.lstrip().startswith("{")
    try:
        content = json.loads(text if is_inline else Path(text).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{'the text' if is_inline else text} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise typer.BadParameter(f"{text} is not a JSON object")
    return content


def parse_limits(words: Sequence[str] | None) -> netpress.DecodeLimits | None:
    """Read bounds given as NAME=VALUE; None when there are none."""
    if not words:
        return None
    known = [field.name for field in dataclasses.fields(netpress.DecodeLimits)]
    limits: dict[str, int] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in known:
            raise typer.BadParameter(f"there is no limit {name!r}, only {', '.join(known)}")
        limits[name] = _whole_number(name, value)
    return netpress.DecodeLimits(**limits)


def _whole_number(name: str, text: str) -> int:
    """A number of at least 0; powers of ten such as 2e11 are allowed."""
    try:
        number = int(text) if text.strip().isdecimal() else float(text)
    except ValueError:
        number = -1
    if not np.isfinite(number) or number < 0 or number != int(number):
        raise typer.BadParameter(f"the limit {name} needs a whole number, not {text!r}")
    return int(number)
