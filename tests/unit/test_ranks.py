"""Ranks of decomposed weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.recipe.low_rank.ranks import Spectrum, rank_for_energy, rank_for_error, ranks_for_budget

VALUES = st.lists(st.floats(0, 1e3), min_size=1, max_size=12).map(lambda v: np.sort(np.array(v))[::-1])


@given(VALUES, st.floats(0, 1))
def test_energy_is_kept_by_no_less(values: np.ndarray, energy: float) -> None:
    spectrum = Spectrum(values, 20, 12)
    rank = rank_for_energy(spectrum, energy)
    assert 1 <= rank <= len(values)
    assert 1 - spectrum.error(rank) >= energy - 1e-9
    if rank > 1:
        assert 1 - spectrum.error(rank - 1) < energy + 1e-9


@given(VALUES, st.floats(0, 1e3))
def test_error_is_kept_by_no_less(values: np.ndarray, error: float) -> None:
    spectrum = Spectrum(values, 20, 12)
    rank = rank_for_error(spectrum, error)
    tail = float(np.square(values[rank:]).sum())
    assert tail <= error * spectrum.full_cost * (1 + 1e-9)
    if rank > 1:
        assert float(np.square(values[rank - 1 :]).sum()) > error * spectrum.full_cost * (1 - 1e-9)


@given(st.lists(VALUES, min_size=1, max_size=5), st.integers(0, 3000))
def test_budget_is_kept(spectra: list[np.ndarray], budget: int) -> None:
    named = {str(i): Spectrum(values, 30, 12) for i, values in enumerate(spectra)}
    ranks = ranks_for_budget(named, budget)
    used = sum(s.full_cost if ranks[n] is None else ranks[n] * s.cost for n, s in named.items())
    least = sum(s.cost if s.break_even else s.full_cost for s in named.values())
    assert used <= max(budget, least)
    assert ranks.keys() == named.keys()


def test_budget_goes_where_it_helps_most() -> None:
    steep = Spectrum(np.array([10.0, 0.1, 0.1, 0.1]), 40, 40)
    flat = Spectrum(np.array([5.0, 5.0, 5.0, 5.0]), 40, 40)
    assert ranks_for_budget({"steep": steep, "flat": flat}, 5 * 80) == {"steep": 1, "flat": 4}


def test_all_of_the_budget_keeps_the_weights_whole() -> None:
    spectrum = Spectrum(np.linspace(5, 1, 12), 30, 12)
    assert ranks_for_budget({"w": spectrum}, spectrum.full_cost) == {"w": None}
    assert ranks_for_budget({"w": Spectrum(np.ones(1), 1, 9)}, 0) == {"w": None}


@pytest.mark.parametrize(("rows", "columns", "rank"), [(10, 10, 4), (1, 9, 0), (3, 100, 2), (64, 576, 57)])
def test_break_even(rows: int, columns: int, rank: int) -> None:
    spectrum = Spectrum(np.ones(min(rows, columns)), rows, columns)
    assert spectrum.break_even == rank
    assert rank * (rows + columns) < rows * columns
