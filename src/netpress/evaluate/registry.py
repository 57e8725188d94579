"""Tasks by name: entry points of installed packages, and functions in files of the user."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import os
import platform
import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from netpress import InvalidConfig, Task

__all__ = ["GROUP", "installed_tasks", "load", "tasks"]

GROUP = "netpress.tasks"
"""Group of the entry points. Each names a Task, or a function that returns one and may take ``data``."""

_ZOO = "pip install netpress-zoo adds 36; from the sources, pip install ./zoo"


def tasks() -> list[str]:
    """Return the names of the installed tasks, sorted.

    Example:
        >>> tasks() == sorted(tasks())
        True
    """
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def installed_tasks() -> str:
    """Return a line with the names of the installed tasks, or how to get some."""
    names = ", ".join(tasks())
    return f"tasks are {names}" if names else f"no tasks are installed ({_ZOO})"


def load(name: str, data: str | os.PathLike[str] | None = None, **options: Any) -> Task:
    """Return a task.

    Args:
        name: one of :func:`tasks`, or ``"my_file.py:attribute"``: a :class:`Task` in a Python file, or a function
            that returns one. The file is executed.
        data: the folder with the weights and the data of all tasks, one folder for each family of tasks. A task that
            needs it and misses something says which files it wants.
        options: further arguments of the function of the task. Tasks that have test samples should take ``limit``:
            how many of them to evaluate; a fixed random choice, so that a quick run is still fair.

    Raises:
        InvalidConfig: there is no such task or option, or data or a library is missing.

    The description of a task that a function returns tells the environment too: versions and the machine.
    """
    try:
        return _load(name, data, options)
    except ModuleNotFoundError as error:
        install = "pip install 'netpress[evaluate]' installs what the evaluation needs"
        raise InvalidConfig(f"task {name!r} needs the package {error.name!r}; {install}") from error


def _load(name: str, data: str | os.PathLike[str] | None, options: dict[str, Any]) -> Task:
    target, where = _target(name)
    if isinstance(target, Task):
        if data is not None or options:
            raise InvalidConfig(f"task {name!r} is complete; it takes neither data nor options")
        return target
    if not callable(target):
        raise InvalidConfig(f"{where} is {type(target).__name__}, neither a Task nor a function that returns one")
    task = target(**_arguments(name, target, data, options))
    if not isinstance(task, Task):
        raise InvalidConfig(f"{where} returned {type(task).__name__}, not a Task")
    return dataclasses.replace(task, description={"environment": _environment(), **task.description})


def _environment() -> str:
    """Versions of Python and of the framework, if one is loaded, and the kind of machine."""
    parts = [f"Python {platform.python_version()}", f"{platform.system()} on {platform.machine()}"]
    torch = sys.modules.get("torch")
    if torch is not None:
        parts.insert(1, f"PyTorch {torch.__version__}")
    return ", ".join(parts)


def _target(name: str) -> tuple[Any, str]:
    """The object that a name stands for, and where it comes from."""
    path, separator, attribute = name.rpartition(":")
    if separator and path.endswith(".py"):
        return _attribute_of_file(Path(path), attribute), f"{attribute} in {path}"
    found: list[EntryPoint] = [entry for entry in entry_points(group=GROUP) if entry.name == name]
    if not found:
        raise InvalidConfig(f"there is no task {name!r}; {installed_tasks()}, or my_file.py:attribute")
    if len({entry.value for entry in found}) > 1:
        values = " and ".join(entry.value for entry in found)
        raise InvalidConfig(f"several packages have a task {name!r}: {values}")
    return found[0].load(), found[0].value


def _attribute_of_file(path: Path, attribute: str) -> Any:
    if not path.is_file():
        raise InvalidConfig(f"there is no file {path} with a task {attribute!r}")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None  # a path that ends in .py has a loader
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise InvalidConfig(f"{path} has no {attribute!r}") from None


def _arguments(name: str, function: Any, data: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Match what the user gave against what the function of a task takes."""
    parameters = inspect.signature(function).parameters
    takes_all = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    given = dict(options) if data is None else {"data": Path(data), **options}
    unknown = [] if takes_all else [option for option in given if option not in parameters]
    if unknown:
        known = ", ".join(parameters) or "none"
        raise InvalidConfig(f"task {name!r} does not take {', '.join(unknown)}; its options are: {known}")
    if "data" in parameters and parameters["data"].default is inspect.Parameter.empty and data is None:
        raise InvalidConfig(f"task {name!r} needs data: the folder that holds its weights and data")
    return given
