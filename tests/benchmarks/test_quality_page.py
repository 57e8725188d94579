"""Comparisons of the quality benchmark, on rows whose answers are known."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pages import quality as tables


def row(codec: str, label: str, *points: tuple[int, float, float]) -> dict[str, Any]:
    return {
        "codec": codec,
        "label": label,
        "points": [{"qp": 0, "bytes": n, "divergence": d, "metric": m, "seconds": 1.0} for n, d, m in points],
    }


def test_bytes_at_a_divergence_are_interpolated_on_logarithms() -> None:
    halving = row("netpress", "a", (4000, 0.01, 90.0), (1000, 0.04, 88.0))
    assert tables.bytes_at(halving, 0.02) == pytest.approx(2000)
    assert math.isnan(tables.bytes_at(halving, 0.05))
    assert math.isnan(tables.bytes_at(halving, 0.009))
    beaten = row("netpress", "a", (4000, 0.01, 90.0), (4500, 0.015, 90.0), (1000, 0.04, 88.0))
    assert tables.bytes_at(beaten, 0.02) == pytest.approx(2000)


def test_transparent_point_is_where_the_loss_first_passes_the_tolerance() -> None:
    result = {"direction": "max", "baseline": 90.0, "tolerance": 0.5}
    # The metric recovers by chance at 500 bytes: that does not count.
    noisy = row("netpress", "a", (4000, 0.01, 90.0), (1000, 0.04, 89.0), (500, 0.1, 90.0))
    assert tables.transparent_bytes(noisy, result) == (pytest.approx(2000), False)
    assert tables.transparent_bytes(row("netpress", "a", (900, 0.1, 89.9)), result) == (pytest.approx(900), True)
    assert math.isnan(tables.transparent_bytes(row("netpress", "a", (900, 0.1, 80.0)), result)[0])
    falling = {"direction": "min", "baseline": 2.0, "tolerance": 0.1}
    up = row("netpress", "a", (4000, 0.01, 2.0), (1000, 0.04, 2.2))
    assert tables.transparent_bytes(up, falling) == (pytest.approx(2000), False)


def test_transparent_divergence_comes_from_all_rows() -> None:
    assert tables.isotonic([1.0, 3.0, 2.0, 2.5, 4.0]).tolist() == [1.0, 2.5, 2.5, 2.5, 4.0]
    rows = [
        row("NNCodec", "a", (4000, 0.01, 90.0), (1000, 0.08, 88.0)),
        row("netpress", "b", (3000, 0.02, 89.9), (800, 0.04, 89.1)),
    ]
    result = {"direction": "max", "baseline": 90.0, "tolerance": 0.5, "rows": rows}
    assert tables.transparent_divergence(result) == pytest.approx(0.02 * 2**0.5)
    assert math.isnan(tables.transparent_divergence({**result, "tolerance": 5.0}))


def test_best_of_each_codec() -> None:
    result = {
        "rows": [
            row("NNCodec", "a", (4000, 0.01, 90.0), (1000, 0.04, 88.0)),
            row("NNCodec", "b", (3000, 0.01, 90.0), (750, 0.04, 88.0)),
            row("netpress", "c", (1600, 0.01, 90.0), (400, 0.04, 88.0)),
        ]
    }
    assert tables.best_at(result, "NNCodec", 0.02) == pytest.approx(1500)
    assert tables.best_at(result, "netpress", 0.02) == pytest.approx(800)
    assert math.isnan(tables.best_at(result, "NNCodec", 0.5))


def test_geometric_mean_of_changes_leaves_out_what_was_not_measured() -> None:
    assert tables.mean_change([-0.5, 1.0, math.nan]) == pytest.approx(0)
    assert math.isnan(tables.mean_change([math.nan]))


def test_ablation() -> None:
    rows = [
        row("netpress", "everything", (4000, 0.01, 90.0), (1000, 0.1, 88.0)),
        row("netpress", "nothing", (8000, 0.01, 90.0), (2000, 0.1, 88.0)),
    ]
    lines = tables.ablation_table({"a": {"rows": rows}, "b": {"rows": rows[:1]}})
    assert "+100.0 % | +100.0 % | +100.0 % | - | - | - |" in lines[-1]
    assert "bytes" in lines[-2]
