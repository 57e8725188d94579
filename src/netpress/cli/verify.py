"""netpress verify: decode everything and compare."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

import netpress
from netpress.cli import options
from netpress.cli.console import (
    clear_errors,
    counted,
    make_table,
    print_json,
    print_line,
    print_table,
    printable,
    progress,
    shape_text,
)
from netpress.cli.inputs import display_name, load_model, parse_dimensions, parse_limits, stream_file

__all__ = ["verify"]

_CHUNK = 1 << 20  # values compared at a time, so that no copy of a tensor in float64 is needed
_SHOWN_PROBLEMS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class TensorError:
    """How far a decoded tensor is from the original; ``snr_db`` is None where nothing or everything is lost."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    original_dtype: str
    exact: bool
    max_abs_error: float
    rms_error: float
    snr_db: float | None


@dataclasses.dataclass(slots=True)
class Report:
    """What was decoded and what is wrong with it."""

    tensors: int = 0
    values: int = 0
    errors: list[TensorError] = dataclasses.field(default_factory=list)
    problems: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def verify(
    stream: options.Input,
    against: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Compare with this model, a model file or a stream.", show_default=False),
    ] = None,
    base: options.Base = None,
    dimensions: options.Dimensions = None,
    limit: options.Limits = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Decode everything, check the structure and, with --against, measure the error of every tensor.

    The exit code is 1 when the stream is damaged or when it does not hold the names and shapes of the model.
    """
    with clear_errors(verbose=verbose, quiet=quiet):
        arguments = {
            "base": None if base is None else load_model(base),
            "dimensions": parse_dimensions(dimensions),
            "limits": parse_limits(limit),
        }
        original = None if against is None else load_model(against)
        try:
            report = _check(stream, original, arguments, quiet)
        except netpress.NetpressError as error:
            if as_json:
                print_json({"ok": False, "problems": [str(error)], "tensors": []})
            raise
        if as_json:
            tensors = [dataclasses.asdict(error) for error in report.errors]
            ok = not report.problems
            print_json({"ok": ok, "problems": report.problems, "notes": report.notes, "tensors": tensors})
        elif not quiet:
            if original is not None:
                _print_errors(report.errors)
            counts = f"{counted(report.tensors, 'tensor')}, {counted(report.values, 'value')} decoded"
            end = "" if report.problems else ", all in order"
            print_line(f"{display_name(stream, 'standard input')}: {counts}{end}")
            for note in report.notes:
                print_line(note)
        if report.problems:
            more = len(report.problems) - _SHOWN_PROBLEMS
            shown = report.problems[:_SHOWN_PROBLEMS] + ([f"and {more} more"] if more > 0 else [])
            raise netpress.InvalidModel("; ".join(shown))


def _check(
    stream: str, original: Mapping[str, npt.NDArray[Any]] | None, arguments: dict[str, Any], quiet: bool
) -> Report:
    """Decode tensor by tensor and compare."""
    report = Report()
    with stream_file(stream) as path, netpress.open(path, **arguments) as lazy:
        names = list(lazy)
        report.notes = _notes(lazy.info())
        if original is not None:
            report.problems += [f"tensor {name!r} is not in the stream" for name in original if name not in lazy]
            report.problems += [f"tensor {name!r} is not in the model" for name in names if name not in original]
        with progress("verifying", quiet=quiet) as advance:
            for done, name in enumerate(names):
                if advance is not None:
                    advance(done, len(names), name)
                decoded = lazy[name]
                report.tensors += 1
                report.values += decoded.size
                if original is None or name not in original:
                    continue
                expected = original[name]
                if decoded.shape == expected.shape:
                    report.errors.append(measure(name, expected, decoded))
                else:
                    report.problems.append(f"tensor {name!r} has shape {decoded.shape} instead of {expected.shape}")
    return report


def _notes(info: netpress.StreamInfo) -> list[str]:
    """What other decoders cannot do with the stream."""
    notes = []
    decomposed = sum("decomposed" in tensor.tools for tensor in info.tensors)
    if decomposed:
        parts = counted(decomposed, "tensor")
        notes.append(f"note: {parts} of decomposed weights: standard syntax, but NNCodec 2.1.3 fails on them")
    if info.rebuilt:
        notes.append(
            f"note: {counted(len(info.rebuilt), 'tensor')} of the original network only netpress puts together "
            "(decode --into torch); other decoders give the parts"
        )
    return notes


def measure(name: str, original: npt.NDArray[Any], decoded: npt.NDArray[Any]) -> TensorError:
    """Compare two arrays of one shape, value by value; NaN equals NaN."""
    largest = squares = signal = 0.0
    exact = True
    flat, other = original.reshape(-1), decoded.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        ours, theirs = other[start : start + _CHUNK], flat[start : start + _CHUNK]
        x, y = theirs.astype(np.float64), ours.astype(np.float64)
        exact = exact and bool(np.all((ours == theirs) | ((x != x) & (y != y))))
        with np.errstate(invalid="ignore", over="ignore"):
            difference = np.where((x == y) | ((x != x) & (y != y)), 0.0, y - x)
            largest = max(largest, float(np.abs(difference).max()))
            squares += float(np.dot(difference, difference))
            signal += float(np.dot(x, x))
    rms = math.sqrt(squares / flat.size) if flat.size else 0.0
    has_snr = 0 < squares < math.inf and 0 < signal < math.inf
    snr = 10 * math.log10(signal / squares) if has_snr else None
    return TensorError(name, decoded.shape, decoded.dtype.name, original.dtype.name, exact, largest, rms, snr)


def _print_errors(errors: list[TensorError]) -> None:
    table = make_table("name", "shape", "type", "max error", "RMS error", "SNR dB", left=("name", "type"))
    for error in errors:
        kind = error.dtype if error.dtype == error.original_dtype else f"{error.original_dtype} -> {error.dtype}"
        if error.exact:
            measured = ["exact", "", ""]
        else:
            snr = "" if error.snr_db is None else f"{error.snr_db:.1f}"
            measured = [f"{error.max_abs_error:.3g}", f"{error.rms_error:.3g}", snr]
        table.add_row(printable(error.name), shape_text(error.shape), kind, *measured)
    print_table(table)
