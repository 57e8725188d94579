"""netpress encode --recipe: stages that change a network before it is coded."""

from __future__ import annotations

import dataclasses
import importlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netpress
from netpress.cli.console import counted, human_bytes, make_table, print_json, print_line, print_table, progress
from netpress.cli.inputs import STANDARD_STREAM, display_name, load_model

if TYPE_CHECKING:
    from netpress import Recipe, RecipeResult, Task

__all__ = ["RecipeOptions", "encode_with_recipe", "load_task"]


@dataclasses.dataclass(frozen=True)
class RecipeOptions:
    """What the command line says about a recipe; ``settings`` are fields of EncodeConfig."""

    file: str
    task: str | None
    data: str | None
    checkpoints: str | None
    model: str | None
    settings: dict[str, Any]


def encode_with_recipe(options: RecipeOptions, target: str, *, as_json: bool, quiet: bool) -> None:
    """Run a recipe, write its stream, and say what each stage did."""
    recipe, task_name, data = _read(options)
    task = load_task(task_name, data)
    module = task.model() if task.model is not None else None
    if module is None:
        raise netpress.InvalidConfig(f"task {task_name!r} has no model")
    if options.model is not None:
        _load_weights(module, options.model)
    start = time.perf_counter()
    with progress("recipe", quiet=quiet) as report:
        result = recipe.run(module, task, folder=options.checkpoints, progress=report)
    seconds = time.perf_counter() - start
    if target == STANDARD_STREAM:
        sys.stdout.buffer.write(result.data)
        sys.stdout.buffer.flush()
    else:
        result.save(target)
    if as_json:
        print_json(_as_dict(result, target, seconds))
    elif not quiet:
        _print(result, target, seconds)


def _read(options: RecipeOptions) -> tuple[Recipe, str, str | None]:
    """Return recipe, name of the task and folder of its data; paths in the file count from where it lies."""
    tomllib = _tomllib()
    path = Path(options.file)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise netpress.InvalidConfig(f"{path} is not TOML: {error}") from None
    task, data = content.pop("task", None), content.pop("data", None)
    for key, value in (("task", task), ("data", data)):
        if value is not None and not isinstance(value, str):
            raise netpress.InvalidConfig(f"{path}: {key} is not text")
    recipe = netpress.Recipe.from_dict(content)
    if options.settings:
        recipe = netpress.Recipe(recipe.stages, recipe.config.replace(**options.settings))
    if task is not None and ".py:" in task:
        task = str(path.parent / task)
    if options.task is None and task is None:
        raise netpress.InvalidConfig(f"{path} names no task, and there is no --task")
    folder = options.data if options.data is not None else None if data is None else str(path.parent / data)
    return recipe, options.task or task, folder


def _tomllib() -> Any:
    """The reader of TOML, which Python has from 3.11 on."""
    return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")


def load_task(name: str, data: str | None) -> Task:
    """Return a task of a file or of an installed package."""
    try:
        from netpress import evaluate
    except ImportError as error:
        raise netpress.InvalidConfig(f"a task needs netpress[recipe]: {error}") from None
    task: Task = evaluate.load(name, data=data)
    return task


def _load_weights(module: Any, path: str) -> None:
    import torch

    state = {name: torch.from_numpy(value.copy()) for name, value in load_model(path).items()}
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise netpress.InvalidModel(f"{path} does not fit the network of the task: {error}") from None


def _as_dict(result: RecipeResult, target: str, seconds: float) -> dict[str, Any]:
    return {
        "output": target,
        "bytes": len(result.data),
        "metric": result.metric_name,
        "unit": result.unit,
        "baseline": result.baseline,
        "stages": [dataclasses.asdict(report) for report in result.reports],
        "seconds": seconds,
    }


def _print(result: RecipeResult, target: str, seconds: float) -> None:
    table = make_table("stage", "parameters", "bytes", result.metric_name, "seconds", left=("stage",))
    baseline = "" if result.baseline is None else f"{result.baseline:.4g}"
    first = result.reports[0]
    table.add_row("float network", str(first.parameters), str(4 * first.parameters), baseline, "")
    for report in result.reports:
        metric = "" if report.metric is None else f"{report.metric:.4g}"
        table.add_row(report.stage, str(report.parameters), str(report.bytes), metric, f"{report.seconds:.1f}")
    if target != STANDARD_STREAM:
        print_table(table)
    stages = counted(len(result.reports) - 1, "stage")
    line = f"{display_name(target)}: {human_bytes(len(result.data))} after {stages} ({seconds:.1f} s)"
    print_line(line, file=sys.stderr if target == STANDARD_STREAM else None)
