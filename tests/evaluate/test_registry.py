"""Finding tasks by name, in entry points and in files."""

from __future__ import annotations

from pathlib import Path

import pytest

import netpress.evaluate
from netpress import InvalidConfig

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


def test_names() -> None:
    assert "cifar10-resnet20" in netpress.evaluate.tasks()
    assert netpress.evaluate.tasks() == sorted(set(netpress.evaluate.tasks()))


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


def test_unknown_task() -> None:
    with pytest.raises(InvalidConfig, match=r"no task 'cifar'.*cifar10-resnet20"):
        netpress.evaluate.load("cifar")
    with pytest.raises(InvalidConfig, match=r"no file absent\.py"):
        netpress.evaluate.load("absent.py:task")
