"""The split of the networks, and what must hold of them."""

from __future__ import annotations

from typing import Any

import pytest

for package in ("torch", "scipy", "platformdirs", "netpress_zoo"):
    pytest.importorskip(package)

import default_quality  # noqa: E402
from netpress_zoo.facts import FACTS  # noqa: E402
from pages.default_quality import RIVAL, bars, geometric_mean, metric_table, network_table, summary_lines  # noqa: E402


def test_no_network_is_in_both_sets_and_all_of_the_zoo_are_in_one() -> None:
    judged, development = set(default_quality.JUDGED), set(default_quality.DEVELOPMENT)
    assert not judged & development
    assert {name for name in FACTS if not name.endswith("-rate")} <= judged | development


def row(agreement: float | None, error: float, size: int) -> dict[str, Any]:
    return {
        "bytes": size,
        "encode_seconds": 1.0,
        "inputs": 100,
        "decisions": 100,
        "agreement": agreement,
        "interval": None if agreement is None else (agreement - 0.01, 1.0),
        "interval_method": "Wilson",
        "relative_error": error,
        "kl": None,
        "float_metric": 80.0,
        "metric": 79.0,
        "metric_standard_error": 0.5,
    }


def network(agreement: float | None, error: float, size: int) -> dict[str, Any]:
    tools = {"netpress": row(agreement, error, size), RIVAL: row(0.9, 0.1, 1000)}
    return {"float_bytes": 4000, "decides": "top-1", "metric": "top-1 accuracy", "unit": "%", "tools": tools}


def test_bars_that_hold_and_bars_that_fail() -> None:
    good = {"a": network(1.0, 0.04, 800), "b": network(None, 0.05, 840)}
    assert [holds for _, _, holds in bars(good)] == [True] * 5
    bad = {**good, "c": network(0.97, 0.09, 1000)}
    assert [holds for _, _, holds in bars(bad)] == [False, False, False, True, False]
    text = "\n".join(summary_lines(bad))
    assert "c 97.00 %" in text
    assert "**fails**" in text


def test_the_time_is_judged_where_another_release_was_measured() -> None:
    networks = {"a": {**network(1.0, 0.04, 800), "seconds": [1.5, 1.0]}, "b": network(1.0, 0.04, 800)}
    assert bars(networks)[-1][1:] == ("1.50, all 1 networks together", False)


def test_tables_have_a_row_for_each_tool() -> None:
    networks = {"a": network(1.0, 0.04, 800), "b": network(None, 0.05, 840)}
    assert len(network_table(networks)) == 3 + 4
    assert len(metric_table(networks)) == 3 + 2


def test_a_setting_is_a_tool() -> None:
    assert list(default_quality.TOOLS) == [*default_quality.SETTINGS, RIVAL]
    assert geometric_mean([1, 4]) == pytest.approx(2)
