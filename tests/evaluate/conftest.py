"""What several tests of the evaluation share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import report_samples as samples


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of all kinds of tasks."""
    from netpress.evaluate import report

    path = tmp_path_factory.mktemp("report")
    assert report.write(samples.book(), path) == path / "index.html"
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with two tasks is installed."""
    (tmp_path / "sky_tasks.py").write_text(
        """
from netpress import Task
from netpress.evaluate import TaskFacts

FACTS = {
    "stars": TaskFacts(samples=50, quick_samples=5, use_case="detection", cost=3),
    "galaxies": TaskFacts(cost=1, transparent_metric=37.7),
}
stars = Task(name="stars")

def galaxies(data):
    return Task(name="galaxies")
""",
        encoding="utf-8",
    )
    about = tmp_path / "sky_tasks-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: sky-tasks\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text(
        "[netpress.tasks]\nstars = sky_tasks:stars\ngalaxies = sky_tasks:galaxies\n"
        "[netpress.task_sets]\nsky = sky_tasks:FACTS\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "sky_tasks", raising=False)
