"""netpress encode: a model becomes a stream."""

from __future__ import annotations

import dataclasses
import sys
import time
from typing import Annotated, Any

import typer

import netpress
from netpress.cli import options
from netpress.cli.checks import checked_stream
from netpress.cli.console import clear_errors, print_json, print_line, progress
from netpress.cli.inputs import STANDARD_STREAM, check_output, load_model, output_file, read_json_object, stem
from netpress.cli.options import option
from netpress.cli.recipes import RecipeOptions, encode_with_recipe
from netpress.cli.summary import summarise, summary_line

__all__ = ["encode"]


@options.with_config()
def encode(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL]",
            help="A .safetensors, .safetensors.index.json, .npz, .pt, .pth or .bin file, or a directory with one. "
            "With --recipe it may be left out: the task tells the network.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT.nnc",
            help="The stream to write; - writes standard output (default: MODEL with the extension .nnc).",
            show_default=False,
        ),
    ] = None,
    settings: dict[str, Any] = {},  # noqa: B006, the decorator fills it in
    calibration: Annotated[
        str | None,
        option(
            "FILE", "Keep the outputs instead of the weights: what netpress.calibrate saved. Needs --qp.", "quality"
        ),
    ] = None,
    check: Annotated[
        str | None,
        option(
            "FILE.npz",
            "Inputs of the network of --task: run it before and after, and use finer steps where its outputs change.",
            "quality",
        ),
    ] = None,
    recipe: Annotated[
        str | None, option("FILE.toml", "Run the stages of a recipe on a network first; see netpress.Recipe.", "recipe")
    ] = None,
    task: Annotated[
        str | None,
        option("TASK", "Network and data for --recipe or --check: FILE.py:ATTRIBUTE or a task's name.", "recipe"),
    ] = None,
    data: Annotated[str | None, option("DIR", "Folder with the data of the task.", "recipe")] = None,
    checkpoints: Annotated[
        str | None,
        option("DIR", "Keep the state after each stage here and go on from it; only you may write to it.", "recipe"),
    ] = None,
    base: Annotated[
        str | None, option("OLD", "Code the change from this older model, a model file or a stream (.nnc).", "stream")
    ] = None,
    preset: Annotated[str | None, option("reference", netpress.EncodeConfig.options()["preset"].help, "stream")] = None,
    config: Annotated[
        str | None,
        option("FILE", "Settings as JSON, the fields of netpress.EncodeConfig; options overrule it.", "stream"),
    ] = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Compress a model.

    Without further options the stream keeps the model's quality; --effort and --qp are the two that matter.
    """
    with clear_errors(verbose=verbose, quiet=quiet):
        if model == STANDARD_STREAM:
            raise typer.BadParameter("a model is read from a file, not from standard input")
        if model is None and recipe is None:
            raise typer.BadParameter("there is no MODEL; give one, or a --recipe")
        if recipe is None and (checkpoints or (not check and (task or data))):
            raise typer.BadParameter("--task and --data belong to --recipe or --check, --checkpoints to --recipe")
        target = output or f"{stem(str(model or recipe))}.nnc"
        if target == STANDARD_STREAM and as_json:
            raise typer.BadParameter("--json and the stream cannot both go to standard output")
        check_output(target, force=force, inputs=(model, base, config, recipe, calibration, check))
        if recipe is not None:
            if base or preset or config or calibration or check:
                raise typer.BadParameter("--recipe excludes --base, --preset, --config, --calibration and --check")
            options_of_run = RecipeOptions(recipe, task, data, checkpoints, model, settings)
            encode_with_recipe(options_of_run, target, as_json=as_json, quiet=quiet)
            return
        encode_config, settings = _make_config(preset, config, settings)
        found: netpress.CheckResult | None = None
        start = time.perf_counter()
        with output_file(target) as path:
            with progress("encoding", quiet=quiet) as report:
                old = None if base is None else load_model(base)
                known = None if calibration is None else netpress.Calibration.load(calibration)
                more: dict[str, Any] = {"base": old, "calibration": known, "progress": report, **settings}
                if check is None:
                    netpress.save(str(model), path, encode_config, **more)
                else:
                    more = {"checksums": True, **more}
                    stream = checked_stream(str(model), check, task, data, config=encode_config, **more)
                    stream.save(path)
                    found = stream.check
            seconds = time.perf_counter() - start
            summary = summarise(path, target, old, seconds)
            if found is not None:
                summary["check"] = dataclasses.asdict(found)
        if as_json:
            print_json(summary)
        elif not quiet:
            for line in [summary_line(summary), *([] if found is None else [str(found)])]:
                print_line(line, file=sys.stderr if target == STANDARD_STREAM else None)


def _make_config(
    preset: str | None, config: str | None, settings: dict[str, Any]
) -> tuple[netpress.EncodeConfig | None, dict[str, Any]]:
    """The configuration that preset or file give, and the options that are still to be applied to it."""
    if preset not in (None, "default", "reference"):
        raise typer.BadParameter(f"there is no preset {preset!r}, only 'reference' and 'default'")
    if preset == "reference":
        if config is not None:
            raise typer.BadParameter("--preset reference and --config exclude each other")
        return netpress.EncodeConfig.reference(**settings), {}
    if config is not None:
        return netpress.EncodeConfig.from_dict(read_json_object(config)), settings
    return None, settings
