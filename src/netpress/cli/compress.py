"""netpress compress: the smallest stream at a promised quality."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Annotated, Any

import typer

import netpress
from netpress.cli import options
from netpress.cli.console import (
    clear_errors,
    display_number,
    human_bytes,
    make_table,
    print_json,
    print_line,
    print_table,
)
from netpress.cli.console import progress as progress_bar
from netpress.cli.inputs import check_output, display_name
from netpress.cli.recipes import load_task

__all__ = ["compress"]


@options.with_config(
    without=(
        "qp",
        "quality",
        "bit_depth",
        "allocation",
        "optimize_qp",
        "fold_batch_norm",
        "batch_norm_epsilon",
        "profile",
    ),
    defaults={"effort": 8},
)
def compress(
    task: Annotated[
        str,
        typer.Option(
            metavar="TASK",
            help="Network, calibration data and metric: my_file.py:attribute, or the name of an installed task.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT.nnc",
            help="The stream to write (default: the task's name with .nnc).",
            show_default=False,
        ),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(help="How much worse the metric may get: a number, or a share such as 0.5%.", show_default=False),
    ] = None,
    max_bytes: Annotated[
        int | None, typer.Option(min=1, help="Instead: the best metric in so many bytes.", show_default=False)
    ] = None,
    budget: Annotated[str, typer.Option(help="Most evaluations, or a time such as 10min.")] = "12",
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.999, help="How sure the promise has to be, if the metric has samples.")
    ] = 0.8,
    verify: Annotated[
        float,
        typer.Option(min=0.0, max=0.9, help="Share of the samples kept apart for a last look at what was chosen."),
    ] = 0.0,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder with the data of the task.", show_default=False)
    ] = None,
    settings: dict[str, Any] = {},  # noqa: B006, the decorator fills it in
    plot: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="Draw all trials into a .png, .svg or .pdf file.", show_default=False),
    ] = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Find the smallest stream that keeps a promise about the quality.

    The exit code is 1 if the promise cannot be kept; the best that was tried is written all the same.
    """
    with clear_errors(verbose=verbose, quiet=quiet):
        if (max_drop is None) == (max_bytes is None):
            raise typer.BadParameter("give either --max-drop or --max-bytes")
        loaded = load_task(task, data)
        target = output or f"{loaded.name}.nnc"
        check_output(target, force=force, inputs=())
        start = time.perf_counter()
        with progress_bar("compressing", quiet=quiet) as report:
            result = netpress.compress(
                task=loaded,
                max_drop=_number(max_drop),
                max_bytes=max_bytes,
                budget=int(budget) if budget.isdecimal() else budget,
                confidence=confidence,
                verify=verify,
                **settings,
                progress=report,
            )
        seconds = time.perf_counter() - start
        result.save(target)
        if plot is not None:
            result.plot(plot)
        if as_json:
            content = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
            del content["data"]
            for name in ("curve", "band"):
                content[name] = [dataclasses.asdict(entry) for entry in content[name]]
            for name in ("change", "verification"):
                content[name] = content[name] and dataclasses.asdict(content[name])
            content["limit"] = result.limit if math.isfinite(result.limit) else None
            print_json({"output": target, "bytes": len(result.data), **content, "seconds": seconds})
        elif not quiet:
            _print(result, target, seconds)
        if not result.met:
            what = f"the promise cannot be kept: {result.promise}; {target} is the best that was tried"
            raise netpress.InvalidConfig(what)


def _number(text: str | None) -> float | str | None:
    """A drop as a number, or as the share that it is."""
    if text is None or text.strip().endswith("%"):
        return text
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"--max-drop is a number, or a share such as 0.5%, not {text!r}") from None


def _print(result: netpress.CompressionResult, target: str, seconds: float) -> None:
    table = make_table("qp", "bytes", result.metric_name, "drop", "expected", "margin", "kept", left=("kept",))
    for trial in sorted(result.curve, key=lambda trial: trial.bytes):
        table.add_row(
            str(trial.qp),
            str(trial.bytes),
            display_number(trial.metric),
            display_number(trial.drop),
            display_number(trial.expected),
            display_number(trial.margin),
            "yes" if trial.kept else "no",
        )
    print_table(table)
    sizes = f"{human_bytes(result.float_bytes)} -> {human_bytes(len(result.data))}"
    metrics = f"{result.metric_name} {result.baseline:.6g} -> {result.metric:.6g} {result.unit}".rstrip()
    print_line(f"{display_name(target)}: {sizes}, {metrics} ({seconds:.1f} s)")
    for line in result.notes():
        print_line(line)
