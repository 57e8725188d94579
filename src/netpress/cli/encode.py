"""netpress encode: a model becomes a stream."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

import netpress
from netpress.cli import options
from netpress.cli.console import clear_errors, human_bytes, print_json, print_line, progress
from netpress.cli.inputs import STANDARD_STREAM, check_output, display_name, load_model, read_json_object, stem
from netpress.cli.recipes import RecipeOptions, encode_with_recipe

__all__ = ["encode"]

_QUALITY = "Quality"
_TOOLS = "Tools"
_STREAM = "Stream"
_RECIPE = "Recipe"


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
    effort: Annotated[
        int | None,
        typer.Option(
            min=1, max=9, help="1 is fastest, 9 smallest (default: 5).", rich_help_panel=_QUALITY, show_default=False
        ),
    ] = None,
    qp: Annotated[
        int | None,
        typer.Option(
            help="Quality: lower is finer, and four less halve the steps (default: fine, and chosen for each tensor).",
            rich_help_panel=_QUALITY,
            show_default=False,
        ),
    ] = None,
    nonweight_qp: Annotated[
        int | None,
        typer.Option(
            help="Quality of biases, norms and other parameters that are no weights.",
            rich_help_panel=_QUALITY,
            show_default=False,
        ),
    ] = None,
    bit_depth: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=31,
            help="Code weights as integers of at most this many bits, instead of --qp.",
            rich_help_panel=_QUALITY,
            show_default=False,
        ),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Keep the outputs of the network instead of its weights: what netpress.calibrate saved. Needs --qp.",
            rich_help_panel=_QUALITY,
            show_default=False,
        ),
    ] = None,
    sparsity: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of weights to set to zero, from 0 to 1.",
            rich_help_panel=_QUALITY,
            show_default=False,
        ),
    ] = None,
    struct_spars_factor: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --sparsity: set rows to zero whose mean is below this share of the tensor's.",
            rich_help_panel=_QUALITY,
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.toml",
            help="Run the stages of a recipe on a network first; see netpress.Recipe.",
            rich_help_panel=_RECIPE,
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="Network and data for the recipe: my_file.py:attribute, or the name of an installed task "
            "(default: what the recipe says).",
            rich_help_panel=_RECIPE,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Folder with the data of the task.", rich_help_panel=_RECIPE, show_default=False
        ),
    ] = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Keep the state after each stage here, and go on from it. Use a folder that only you can write to.",
            rich_help_panel=_RECIPE,
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="OLD",
            help="Code the change from this older model, a model file or a stream (.nnc).",
            rich_help_panel=_STREAM,
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="reference",
            help="reference: decide as the standard's reference software does.",
            rich_help_panel=_STREAM,
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Settings as JSON, the fields of netpress.EncodeConfig; options overrule it.",
            rich_help_panel=_STREAM,
            show_default=False,
        ),
    ] = None,
    profile: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=1,
            help="Profile of the standard; 0 is its first edition (default: 1).",
            rich_help_panel=_STREAM,
            show_default=False,
        ),
    ] = None,
    use_dq: Annotated[
        bool | None,
        typer.Option(
            "--dq/--no-dq", help="Dependent quantisation (trellis).", rich_help_panel=_TOOLS, show_default=False
        ),
    ] = None,
    lambda_scale: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Weight of the rate against the error; 0 looks at the error only.",
            rich_help_panel=_TOOLS,
            show_default=False,
        ),
    ] = None,
    allocation: Annotated[
        str | None,
        typer.Option(
            metavar="equal|size",
            help="size: coarser steps for weights with more values, with --qp as the mean.",
            rich_help_panel=_TOOLS,
            show_default=False,
        ),
    ] = None,
    optimize_qp: Annotated[
        bool | None,
        typer.Option(
            "--optimize-qp/--no-optimize-qp",
            help="Choose the qp of every tensor by its sensitivity.",
            rich_help_panel=_TOOLS,
            show_default=False,
        ),
    ] = None,
    fold_batch_norm: Annotated[
        bool | None,
        typer.Option(
            "--fold-batch-norm/--no-fold-batch-norm",
            help="Merge batch norms into the layers before them.",
            rich_help_panel=_TOOLS,
            show_default=False,
        ),
    ] = None,
    batch_norm_epsilon: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="EPS",
            help="Epsilon of the batch norms to merge, which a file does not tell (PyTorch: 1e-5, Keras: 1e-3).",
            rich_help_panel=_TOOLS,
            show_default=False,
        ),
    ] = None,
    codebook: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2,
            help="Codebooks: 0 never, 1 always, 2 where they pay.",
            rich_help_panel=_TOOLS,
            show_default=False,
        ),
    ] = None,
    row_skipping: Annotated[
        bool | None,
        typer.Option(
            "--row-skipping/--no-row-skipping", help="Signal rows of zeros.", rich_help_panel=_TOOLS, show_default=False
        ),
    ] = None,
    param_opt: Annotated[
        bool | None,
        typer.Option(
            "--param-opt/--no-param-opt",
            help="Search the parameters of the entropy coder's contexts.",
            rich_help_panel=_TOOLS,
            show_default=False,
        ),
    ] = None,
    qp_density: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=7,
            help="2 to this power steps of qp double the step size (default: 2).",
            rich_help_panel=_TOOLS,
            show_default=False,
        ),
    ] = None,
    scan_order: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=4,
            help="Scan of the values: 0 by rows, 1 to 4 in blocks of 8 to 64 rows.",
            rich_help_panel=_TOOLS,
            show_default=False,
        ),
    ] = None,
    unary_length: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=256,
            help="Length of the unary part of a coded magnitude (default: 11).",
            rich_help_panel=_TOOLS,
            show_default=False,
        ),
    ] = None,
    force: options.Force = False,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Compress a model.

    Without further options the stream keeps the model's quality; --effort and --qp are the two that matter.
    """
    given = {
        "effort": effort,
        "qp": qp,
        "nonweight_qp": nonweight_qp,
        "bit_depth": bit_depth,
        "sparsity": sparsity,
        "struct_spars_factor": struct_spars_factor,
        "profile": profile,
        "use_dq": use_dq,
        "lambda_scale": lambda_scale,
        "allocation": allocation,
        "optimize_qp": optimize_qp,
        "fold_batch_norm": fold_batch_norm,
        "batch_norm_epsilon": batch_norm_epsilon,
        "codebook_mode": codebook,
        "row_skipping": row_skipping,
        "param_opt": param_opt,
        "qp_density": qp_density,
        "scan_order": scan_order,
        "cabac_unary_length_minus1": None if unary_length is None else unary_length - 1,
    }
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    with clear_errors(verbose=verbose, quiet=quiet):
        if model == STANDARD_STREAM:
            raise typer.BadParameter("a model is read from a file, not from standard input")
        if model is None and recipe is None:
            raise typer.BadParameter("there is no MODEL; give one, or a --recipe")
        if recipe is None and (task or data or checkpoints):
            raise typer.BadParameter("--task, --data and --checkpoints belong to --recipe")
        target = output or f"{stem(str(model or recipe))}.nnc"
        if target == STANDARD_STREAM and as_json:
            raise typer.BadParameter("--json and the stream cannot both go to standard output")
        check_output(target, force=force, inputs=(model, base, config, recipe, calibration))
        if recipe is not None:
            if base or preset or config or calibration:
                raise typer.BadParameter("--recipe excludes --base, --preset, --config and --calibration")
            options_of_run = RecipeOptions(recipe, task, data, checkpoints, model, settings)
            encode_with_recipe(options_of_run, target, as_json=as_json, quiet=quiet)
            return
        encode_config, settings = _make_config(preset, config, settings)
        start = time.perf_counter()
        with _output_file(target) as path:
            with progress("encoding", quiet=quiet) as report:
                old = None if base is None else load_model(base)
                known = None if calibration is None else netpress.Calibration.load(calibration)
                netpress.save(str(model), path, encode_config, base=old, calibration=known, progress=report, **settings)
            seconds = time.perf_counter() - start
            summary = _summarise(path, target, old, seconds)
        if as_json:
            print_json(summary)
        elif not quiet:
            print_line(_summary_line(summary), file=sys.stderr if target == STANDARD_STREAM else None)


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


@contextlib.contextmanager
def _output_file(target: str) -> Iterator[Path]:
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


def _summarise(path: Path, target: str, old: Mapping[str, Any] | None, seconds: float) -> dict[str, Any]:
    """Sizes before and after, from the headers of the stream."""
    with netpress.open(path, base=old) as stream:
        info = stream.info()
    values, before = info.elements, info.original_bytes
    return {
        "output": target,
        "tensors": len(info.tensors),
        "values": values,
        "bytes_before": before,
        "bytes": info.bytes,
        "ratio": before / info.bytes,
        "bits_per_weight": 8 * info.bytes / values if values else None,
        "seconds": seconds,
    }


def _summary_line(summary: dict[str, Any]) -> str:
    sizes = f"{human_bytes(summary['bytes_before'])} -> {human_bytes(summary['bytes'])}"
    bits = summary["bits_per_weight"]
    details = [f"{summary['ratio']:.3g}x smaller"] if summary["ratio"] > 1 else []
    details += [] if bits is None else [f"{bits:.2f} bits per weight"]
    details += [f"{summary['seconds']:.1f} s"]
    return f"{display_name(summary['output'])}: {sizes} ({', '.join(details)})"
