"""Finding tasks by name, in entry points and in files."""

from __future__ import annotations

from pathlib import Path

import pytest

import netpress.evaluate
from netpress import InvalidConfig
from netpress.evaluate import registry

SOURCE = """
from netpress import Task

ready = Task(name="ready")

def made():
    return Task(name="made")

def with_data(data, limit=None):
    return Task(name=f"{data.name} {limit}")

def wrong():
    return 3

def needy():
    import no_such_package

number = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "my_tasks.py"
    path.write_text(SOURCE, encoding="utf-8")
    return str(path)


def test_tasks_of_a_package(package: None) -> None:
    """Any package can offer tasks, by the same entry points as netpress-zoo."""
    assert {"stars", "galaxies"} <= set(netpress.evaluate.tasks())
    assert netpress.evaluate.tasks() == sorted(set(netpress.evaluate.tasks()))
    assert netpress.evaluate.load("stars").name == "stars"
    with pytest.raises(InvalidConfig, match=r"no task 'star'; tasks are .*stars.*, or my_file\.py:attribute"):
        netpress.evaluate.load("star")


def test_without_any_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    with pytest.raises(InvalidConfig, match=r"no tasks are installed \(pip install netpress-zoo adds 36"):
        netpress.evaluate.load("cifar10-resnet20")


def test_file(file: str) -> None:
    assert netpress.evaluate.load(f"{file}:ready").name == "ready"
    assert netpress.evaluate.load(f"{file}:made").name == "made"
    assert netpress.evaluate.load(f"{file}:with_data", "some/folder", limit=4).name == "folder 4"


@pytest.mark.parametrize(
    ("attribute", "data", "options", "message"),
    [
        ("absent", None, {}, "has no 'absent'"),
        ("ready", "folder", {}, "takes neither data"),
        ("made", "folder", {}, "does not take data"),
        ("with_data", None, {}, "needs data"),
        ("with_data", "folder", {"size": 3}, "does not take size; its options are: data, limit"),
        ("wrong", None, {}, "returned int, not a Task"),
        ("number", None, {}, "is int, neither a Task"),
    ],
)
def test_file_errors(file: str, attribute: str, data: str | None, options: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        netpress.evaluate.load(f"{file}:{attribute}", data, **options)


def test_environment(file: str) -> None:
    assert netpress.evaluate.load(f"{file}:made").description["environment"].startswith("Python 3")
    assert netpress.evaluate.load(f"{file}:ready").description == {}


def test_missing_package(file: str) -> None:
    with pytest.raises(InvalidConfig, match=r"needs the package 'no_such_package'; pip install 'netpress\[evaluate\]'"):
        netpress.evaluate.load(f"{file}:needy")


def test_missing_file() -> None:
    with pytest.raises(InvalidConfig, match=r"no file absent\.py"):
        netpress.evaluate.load("absent.py:task")
