"""The rows of the verification report, and what counts as transparent."""

from __future__ import annotations

import pytest

from netpress import InvalidConfig, Task
from netpress.evaluate.use_cases import USE_CASES, counted_loss, tolerance, use_case_of


def test_rows() -> None:
    assert len(USE_CASES) == len({case.name for case in USE_CASES}) == 15
    for case in USE_CASES:
        assert bool(case.model) == bool(case.rate) == (case.range is not None)
        if case.range is not None:
            low, high = case.range
            assert 0 < low <= high < 1
            assert f"{100 * high:.0f} %" in case.rate


def test_row_of_a_task() -> None:
    def row(name: str, words: str = "") -> str | None:
        case = use_case_of(Task(name=name, description={"use case": words}))
        return None if case is None else case.name

    assert row("mine", "detection") == "detection"
    assert row("mine", "detection of stars") is None


@pytest.mark.parametrize(
    ("name", "unit", "words", "expected"),
    [
        ("a", "%", {}, 0.5),
        ("a", "dB", {}, 0.1),
        ("a", "", {}, 0.2),
        ("a", "%", {"tolerance": "2.5"}, 2.5),
    ],
)
def test_tolerance(name: str, unit: str, words: dict[str, str], expected: float) -> None:
    assert tolerance(Task(name=name, unit=unit, description=words), 40.0) == pytest.approx(expected)
    assert tolerance(Task(name="a"), -40.0) == pytest.approx(0.2)
    with pytest.raises(InvalidConfig, match="a number from 0, not 'much'"):
        tolerance(Task(name="a", description={"tolerance": "much"}), 40.0)


def test_losses_that_count_both_ways() -> None:
    one_way, both_ways = Task(name="a"), Task(name="a", description={"both ways": "why"})
    assert (counted_loss(one_way, -0.3), counted_loss(one_way, 0.3)) == (-0.3, 0.3)
    assert (counted_loss(both_ways, -0.3), counted_loss(both_ways, 0.3)) == (0.3, 0.3)
