"""netpress report: pages and files from stored results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import netpress
from netpress.cli import options
from netpress.cli.console import clear_errors, counted, print_line, progress

__all__ = ["report"]


def report(
    store: Annotated[
        str, typer.Option("--store", metavar="FILE", help="Results of netpress evaluate, a SQLite file.")
    ] = "netpress-results.db",
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="DIR", help="Folder to write; an earlier report in it is replaced."),
    ] = "report",
    task: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Report this task only. Can be repeated.", show_default=False),
    ] = None,
    figures: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="Write the plots as files too, svg or png. Can be repeated.", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Write into a folder with other files.")] = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Make pages of stored results: one for each task and an overview, with JSON, CSV and Markdown next to them.

    The pages need no network: each has its plots in it.
    """
    with clear_errors(verbose=verbose, quiet=quiet):
        results = _results(store, task)
        from netpress.evaluate.report import write

        with progress("drawing", quiet=quiet) as advance:
            page = write(results, output, figures=figures or (), force=force, progress=advance)
        if not quiet:
            failed = sum(result.error is not None for result in results)
            end = f", {failed} failed" if failed else ""
            print_line(f"{page}: {counted(len(results), 'task')}{end}")


def _results(path: str, names: list[str] | None) -> list[Any]:
    """Read the results of some tasks, or of all."""
    if not Path(path).is_file():
        raise netpress.InvalidConfig(f"there is no file {path} with results; netpress evaluate makes one")
    try:
        from netpress.evaluate.store import Store
    except ModuleNotFoundError as error:
        install = "pip install 'netpress[evaluate]'"
        raise netpress.InvalidConfig(f"reports need the package {error.name!r}; {install}") from error
    with Store(path) as store:
        results = store.results()
    if not names:
        if not results:
            raise netpress.InvalidConfig(f"{path} has no results yet")
        return results
    by_name = {result.summary.name: result for result in results}
    absent = [name for name in names if name not in by_name]
    if absent:
        known = ", ".join(by_name) or "none"
        raise netpress.InvalidConfig(f"{path} has no results of {', '.join(absent)}; it has {known}")
    return [by_name[name] for name in names]
