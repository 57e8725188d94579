from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.errors import InvalidModel
from netpress.transforms.decompose import decompose, recompose


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 9))
def test_full_rank_restores(rows: int, columns: int, seed: int) -> None:
    weight = np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)
    rank = min(rows, columns)
    g, h = decompose(weight, rank)
    assert (g.shape, h.shape) == ((rows, rank), (rank, columns))
    assert g.dtype == h.dtype == np.float32
    assert np.allclose(recompose(g, h, weight.shape), weight, atol=1e-5)
    assert (g[np.argmax(np.abs(g), axis=0), np.arange(rank)] >= 0).all()


def test_truncation_is_optimal() -> None:
    weight = np.random.default_rng(1).standard_normal((10, 4, 3, 3)).astype(np.float32)
    before = weight.copy()
    g, h = decompose(weight, 5)
    error = np.sum((recompose(g, h, weight.shape) - weight).astype(float) ** 2)
    singular = np.linalg.svd(weight.reshape(10, -1).astype(float), compute_uv=False)
    assert error == pytest.approx(np.sum(singular[5:] ** 2), rel=1e-5)
    assert np.linalg.norm(g) == pytest.approx(np.linalg.norm(h), rel=1e-5)
    assert np.array_equal(weight, before)


def test_rows_of_g_need_not_be_the_first_dimension() -> None:
    g, h = np.arange(12, dtype=np.float32).reshape(6, 2), np.ones((2, 4), np.float32)
    assert np.array_equal(recompose(g, h, (3, 8)), (g @ h).reshape(3, 8))


@pytest.mark.parametrize("rank", [0, 4])
def test_bad_rank(rank: int) -> None:
    with pytest.raises(InvalidModel, match=r"'w'.*rank"):
        decompose(np.ones((3, 5), np.float32), rank, name="w")


@pytest.mark.parametrize("weight", [np.ones(3), np.ones((0, 3)), np.full((2, 2), np.nan)])
def test_bad_weight(weight: Any) -> None:
    with pytest.raises(InvalidModel):
        decompose(weight, 1)


@pytest.mark.parametrize(("g", "h", "dims"), [((2, 3), (2, 4), (2, 4)), ((2, 3), (3, 4), (2, 5)), ((6,), (6, 1), (6,))])
def test_factors_that_do_not_fit(g: tuple[int, ...], h: tuple[int, ...], dims: tuple[int, ...]) -> None:
    with pytest.raises(InvalidModel):
        recompose(np.ones(g, np.float32), np.ones(h, np.float32), dims)
