"""Reports of results: pages to read, plots, and files for other programs.

    results = netpress.evaluate.store.Store("results.sqlite").results()
    netpress.evaluate.report.write(results, "report")

The folder then has index.html, a page for each task, and the same as JSON, CSV and Markdown. Every page is a file of
its own, with its plots and styles in it: it can be sent by mail, and opens without a network. Jinja2 and matplotlib
make them; ``pip install netpress[evaluate]`` installs both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from netpress import InvalidConfig
from netpress.evaluate.report import files
from netpress.evaluate.report.canvas import FILE_FORMATS
from netpress.evaluate.report.findings import Findings
from netpress.evaluate.report.pages import Book, Page
from netpress.evaluate.report.text import file_stem
from netpress.evaluate.results import TaskResults

__all__ = ["write"]

_RESERVED_NAMES = ("index", "overview", "measurements", "results", "figures")  # names of files that belong to no task
_INDEX, _JSON = "index.html", "results.json"


def write(
    results: Iterable[TaskResults],
    folder: str | os.PathLike[str],
    *,
    figures: Sequence[str] = (),
    force: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    """Write the report of some tasks.

    Args:
        results: of each task; the book keeps their order.
        folder: made if it does not exist; the files of an earlier report in it are replaced.
        figures: kinds of files for the plots, besides those in the pages: "svg", "png". They go to ``figures/``.
        force: write into a folder that has other files too.
        progress: called with tasks done, tasks in all and the name of the next one.

    Returns:
        The path of the first page: index.html.

    Raises:
        InvalidConfig: there are no results, ``figures`` has an unknown kind, jinja2 or matplotlib is missing, or the
            folder has files that are not a report.
        OSError: the files cannot be written.
    """
    tasks = [Findings(result) for result in results]
    if not tasks:
        raise InvalidConfig("there are no results to report")
    unknown = [kind for kind in figures if kind not in FILE_FORMATS]
    if unknown:
        raise InvalidConfig(f"plots are written as {' or '.join(FILE_FORMATS)}, not {unknown[0]!r}")
    target = Path(folder)
    if not force and not _is_free(target):
        raise InvalidConfig(f"{target} has files that are not a report of netpress")
    target.mkdir(parents=True, exist_ok=True)
    stems = set(_RESERVED_NAMES)
    pages = []
    for place, found in enumerate(tasks):
        if progress is not None:
            progress(place, len(tasks), found.summary.name)
        page = Page.of(found, file_stem(found.summary.name, stems))
        _write_figures(page, target / "figures", figures)
        pages.append(page)
    book = Book(pages)
    for place, page in enumerate(pages):
        _write(target / f"{page.stem}.html", book.task(place))
        _write(target / f"{page.stem}.md", files.task_markdown(page.found))
    _write(target / "overview.md", files.overview_markdown(tasks, [f"{page.stem}.md" for page in pages]))
    _write(target / "overview.csv", files.overview_csv(tasks))
    _write(target / "measurements.csv", files.measurements_csv(tasks))
    _write(target / _JSON, files.json_text(tasks))
    _write(target / _INDEX, book.index())
    if progress is not None:
        progress(len(tasks), len(tasks), "")
    return target / _INDEX


def _is_free(folder: Path) -> bool:
    """Whether the folder can take a report: it is empty, does not exist, or has one."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return True
    marker = folder / _JSON
    if not marker.is_file():
        return False
    with marker.open("rb") as file:
        return f'"format": "{files.FORMAT}"'.encode() in file.read(200)


def _write(path: Path, content: str) -> None:
    # Names may hold halves of surrogate pairs, which UTF-8 has no bytes for.
    path.write_bytes(content.encode("utf-8", "backslashreplace"))


def _write_figures(page: Page, folder: Path, kinds: Sequence[str]) -> None:
    for drawing in [*page.drawings, *page.histograms] if kinds else []:
        folder.mkdir(exist_ok=True)
        for kind in kinds:
            drawing.write(folder / f"{page.stem}-{drawing.key}.{kind}")
