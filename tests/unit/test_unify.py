"""Weight unification."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from netpress import InvalidConfig, InvalidModel
from netpress.recipe.unify.blocks import unify

SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4))
WEIGHTS = arrays(np.float32, SHAPES, elements=st.floats(-50, 50, width=32))


@settings(deadline=None, max_examples=60)
@given(WEIGHTS, st.integers(1, 5), st.integers(1, 5), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_what_holds_for_all_weights(weight: np.ndarray, rows: int, columns: int, share: float) -> None:
    result = unify(weight, block=(rows, columns), share=share)
    assert result.values.shape == weight.shape
    assert result.values.dtype == np.float32
    assert int(result.unified.sum()) == int(share * result.unified.size + 1e-9)
    matrix, values = weight.reshape(len(weight), -1), result.values.reshape(len(weight), -1)
    errors = {}
    for (i, j), is_unified in np.ndenumerate(result.unified):
        part = np.s_[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns]
        old, new = matrix[part].astype(np.float64), values[part]
        magnitude = np.abs(old[old != 0]).mean() if np.any(old) else 0.0
        errors[i, j] = np.where(old != 0, (np.abs(old) - magnitude) ** 2, 0).mean()
        if is_unified:
            np.testing.assert_allclose(new, np.sign(old) * magnitude, rtol=1e-6, atol=1e-30)
        else:
            np.testing.assert_array_equal(new, old)
    chosen = [e for key, e in errors.items() if result.unified[key]]
    others = [e for key, e in errors.items() if not result.unified[key]]
    assert max(chosen, default=0) <= min(others, default=np.inf) * (1 + 1e-9) + 1e-12
    assert result.threshold == pytest.approx(max(chosen, default=0), rel=1e-9, abs=1e-12)
    change = np.sum((values.astype(np.float64) - matrix) ** 2)
    assert result.squared_error == pytest.approx(change, rel=1e-9, abs=1e-12)


def test_each_super_block_gets_its_share() -> None:
    weight = np.random.default_rng(0).normal(size=(8, 16)).astype(np.float32)
    weight[:4, :8] = 1  # without super-blocks, all unified blocks would lie here
    everywhere = unify(weight, block=(2, 2), share=0.25)
    assert everywhere.unified[:2, :4].all()
    assert everywhere.unified.sum() == 8
    spread = unify(weight, block=(2, 2), super_block=(4, 8), share=0.25).unified
    assert [int(spread[i : i + 2, j : j + 4].sum()) for i in (0, 2) for j in (0, 4)] == [2, 2, 2, 2]


def test_threshold_finds_the_same_blocks() -> None:
    weight = np.random.default_rng(1).normal(size=(12, 12)).astype(np.float32)
    by_share = unify(weight, block=(3, 4), share=0.5)
    np.testing.assert_array_equal(unify(weight, block=(3, 4), threshold=by_share.threshold).unified, by_share.unified)
    assert not unify(weight, block=(3, 4), threshold=0).unified.any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"share": 0.5, "threshold": 1.0},
        {"share": 1.5},
        {"threshold": -1.0},
        {"threshold": float("nan")},
        {"share": 0.5, "block": (0, 2)},
        {"share": 0.5, "super_block": (3, 4), "block": (2, 2)},
        {"share": 0.5, "super_block": (0, 4), "block": (2, 2)},
    ],
)
def test_options_are_checked(options: dict) -> None:
    with pytest.raises(InvalidConfig):
        unify(np.ones((4, 4)), **options)


@pytest.mark.parametrize("weight", [np.ones(4), np.ones((0, 3)), np.array([[1.0, np.inf]]), np.array([[np.nan]])])
def test_weights_that_cannot_be_unified(weight: np.ndarray) -> None:
    with pytest.raises(InvalidModel, match="'w'"):
        unify(weight, share=0.5, name="w")
