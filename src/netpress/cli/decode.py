"""netpress decode: a stream becomes a model file."""

from __future__ import annotations

import contextlib
import difflib
import math
import sys
import time
from typing import Annotated, Any

import numpy.typing as npt
import typer

import netpress
from netpress.cli import options
from netpress.cli.console import clear_errors, counted, human_bytes, print_json, print_line, progress
from netpress.cli.inputs import (
    STANDARD_STREAM,
    check_output,
    display_name,
    load_model,
    parse_dimensions,
    parse_limits,
    stem,
    stream_file,
)
from netpress.formats import output_format, save_tensors, write_tensors

__all__ = ["decode"]


def decode(
    stream: options.Input,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="The model to write: .safetensors, .npz, .pt or .pth; - writes safetensors to standard output "
            "(default: IN with the extension .safetensors).",
            show_default=False,
        ),
    ] = None,
    into: Annotated[
        str | None,
        typer.Option(
            metavar="torch",
            help="torch: write the state dictionary of the original network (a .pt file): factors and scalings "
            "multiplied into the weights, and what a recipe changed undone.",
            show_default=False,
        ),
    ] = None,
    base: options.Base = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Decode this tensor only. Can be repeated.", show_default=False),
    ] = None,
    dimensions: options.Dimensions = None,
    limit: options.Limits = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Restore a model."""
    with clear_errors(verbose=verbose, quiet=quiet):
        if output is None and stream == STANDARD_STREAM:
            raise typer.BadParameter("reading standard input needs an output; give one with -o")
        if into not in (None, "torch"):
            raise typer.BadParameter(f"there is no --into {into!r}, only torch")
        if into and only:
            raise typer.BadParameter("--into torch gives whole networks; it excludes --only")
        target = output or f"{stem(stream)}{'.pt' if into else '.safetensors'}"
        if target == STANDARD_STREAM and as_json:
            raise typer.BadParameter("--json and the model cannot both go to standard output")
        file_format = "safetensors" if target == STANDARD_STREAM else output_format(target)
        check_output(target, force=force, inputs=(stream, base, dimensions))
        arguments: dict[str, Any] = {
            "base": None if base is None else load_model(base),
            "dimensions": parse_dimensions(dimensions),
            "limits": parse_limits(limit),
        }
        start = time.perf_counter()
        with (
            stream_file(stream) as path,
            progress("decoding", quiet=quiet) as report,
            contextlib.ExitStack() as stack,
        ):
            if into:
                tensors: Any = netpress.load(path, progress=report, reconstruct=True, **arguments)
                descriptions = [(value.shape, value.dtype) for value in tensors.values()]
            else:
                opened = stack.enter_context(netpress.open(path, **arguments))
                tensors = _chosen(opened, only) if only else opened.lazily(progress=report)
                descriptions = [opened.description(name) for name in (only or opened)]
            if target == STANDARD_STREAM:
                write_tensors(tensors, sys.stdout.buffer, file_format)
                sys.stdout.buffer.flush()
            else:
                save_tensors(tensors, target)
        size = sum(math.prod(shape) * dtype.itemsize for shape, dtype in descriptions)
        count, seconds = len(descriptions), time.perf_counter() - start
        if as_json:
            print_json({"output": target, "tensors": count, "bytes": size, "seconds": seconds})
        elif not quiet:
            line = f"{display_name(target)}: {counted(count, 'tensor')}, {human_bytes(size)} ({seconds:.1f} s)"
            print_line(line, file=sys.stderr if target == STANDARD_STREAM else None)


def _chosen(stream: netpress.Stream, only: list[str]) -> dict[str, npt.NDArray[Any]]:
    """Decode the tensors that are asked for, in the order of the stream."""
    for name in only:
        if name not in stream:
            raise netpress.InvalidConfig(f"there is no tensor {name!r}{_suggest(name, list(stream))}")
    return {name: stream[name] for name in stream if name in only}


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"; is it {' or '.join(map(repr, close))}?" if close else ""
