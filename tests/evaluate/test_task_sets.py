"""What packages tell about their tasks before these are loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from netpress import InvalidConfig, Task
from netpress.evaluate import TaskFacts
from netpress.evaluate.task_sets import facts_of, known_facts
from netpress.evaluate.use_cases import USE_CASES, tolerance, use_case_of


def test_facts(package: None) -> None:
    names = list(known_facts())
    assert names.index("stars") < names.index("galaxies")
    assert facts_of("stars") == TaskFacts(samples=50, quick_samples=5, use_case="detection", cost=3)
    assert facts_of("planets") == TaskFacts()


def test_row_of_a_task(package: None) -> None:
    case = use_case_of(Task(name="stars"))
    assert case is not None
    assert case.name == "detection"
    assert "stars" in case.tasks
    assert not any("galaxies" in case.tasks for case in USE_CASES)


@pytest.mark.parametrize(("direction", "expected"), [("max", 2.3), ("min", 0.1)])
def test_tolerance_of_a_fidelity(package: None, direction: str, expected: float) -> None:
    task = Task(name="galaxies", unit="dB", direction=direction)
    assert tolerance(task, 40.0) == pytest.approx(expected)
    assert tolerance(task, 37.0) == pytest.approx(0.1 if direction == "max" else 0.7)


def test_plans_ask_for_them(package: None) -> None:
    pytest.importorskip("torch")
    from netpress.evaluate.plans import FULL, QUICK, starting_order

    assert (QUICK.samples("stars"), FULL.samples("stars")) == (5, 50)
    assert (QUICK.samples("mine"), FULL.samples("mine")) == (None, None)
    assert starting_order(["galaxies", "mine", "stars"]) == ["stars", "galaxies", "mine"]


def test_an_entry_point_of_something_else(package: None, tmp_path: Path) -> None:
    (file,) = tmp_path.glob("*/entry_points.txt")
    file.write_text("[netpress.task_sets]\nsky = sky_tasks:stars\n", encoding="utf-8")
    with pytest.raises(InvalidConfig, match=r"sky_tasks:stars, an entry point of netpress\.task_sets, does not map"):
        facts_of("stars")
