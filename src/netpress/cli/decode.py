"""netpress decode: a stream becomes a model file."""

from __future__ import annotations

import difflib
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
        target = output or f"{stem(stream)}.safetensors"
        if target == STANDARD_STREAM and as_json:
            raise typer.BadParameter("--json and the model cannot both go to standard output")
        file_format = "safetensors" if target == STANDARD_STREAM else output_format(target)
        check_output(target, force=force, inputs=(stream, base, dimensions))
        arguments = {
            "base": None if base is None else load_model(base),
            "dimensions": parse_dimensions(dimensions),
            "limits": parse_limits(limit),
        }
        start = time.perf_counter()
        tensors = _decode(stream, only, arguments, quiet)
        if target == STANDARD_STREAM:
            write_tensors(tensors, sys.stdout.buffer, file_format)
            sys.stdout.buffer.flush()
        else:
            save_tensors(tensors, target)
        size = sum(tensor.nbytes for tensor in tensors.values())
        seconds = time.perf_counter() - start
        if as_json:
            print_json({"output": target, "tensors": len(tensors), "bytes": size, "seconds": seconds})
        elif not quiet:
            line = f"{display_name(target)}: {counted(len(tensors), 'tensor')}, {human_bytes(size)} ({seconds:.1f} s)"
            print_line(line, file=sys.stderr if target == STANDARD_STREAM else None)


def _decode(stream: str, only: list[str] | None, arguments: dict[str, Any], quiet: bool) -> dict[str, npt.NDArray[Any]]:
    """Decode all tensors, or those that are asked for, in the order of the stream."""
    with stream_file(stream) as path, progress("decoding", quiet=quiet) as report:
        if not only:
            return netpress.load(path, progress=report, **arguments)
        with netpress.open(path, **arguments) as lazy:
            for name in only:
                if name not in lazy:
                    raise netpress.InvalidConfig(f"there is no tensor {name!r}{_suggest(name, list(lazy))}")
            return {name: lazy[name] for name in lazy if name in only}


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"; is it {' or '.join(map(repr, close))}?" if close else ""
