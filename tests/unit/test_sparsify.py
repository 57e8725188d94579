from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.errors import InvalidConfig
from netpress.parameters import Parameter, ParameterKind
from netpress.transforms.sparsify import sparsify, sparsify_structured, sparsify_unstructured, sparsity_of


def model(seed: int = 0) -> list[Parameter]:
    rng = np.random.default_rng(seed)
    return [
        Parameter("a.weight", rng.standard_normal((20, 30)).astype(np.float32), ParameterKind.WEIGHT, 0),
        Parameter("a.bias", rng.standard_normal(20).astype(np.float32), ParameterKind.BIAS, 1),
        Parameter("b.weight", (0.1 * rng.standard_normal((8, 4, 3, 3))).astype(np.float32), ParameterKind.WEIGHT, 2),
        Parameter("b.weight_scaling", np.full((8, 1, 1, 1), 1e-9, np.float32), ParameterKind.LOCAL_SCALING, 3),
        Parameter("ids", np.arange(12, dtype=np.int32).reshape(3, 4), ParameterKind.UNSPECIFIED, 4),
    ]


@given(st.floats(0, 0.95), st.integers(0, 20))
def test_reaches_the_target_and_keeps_the_rest(sparsity: float, seed: int) -> None:
    before = model(seed)
    copies = [p.value.copy() for p in before]
    after = sparsify_unstructured(before, steps=2.0**-10, sparsity=sparsity)
    assert sparsity_of(after) >= sparsity
    for old, copy, new in zip(before, copies, after, strict=True):
        assert np.array_equal(old.value, copy)
        assert new.value.dtype == copy.dtype
        assert np.array_equal(new.value[new.value != 0], copy[new.value != 0])
        if new.name not in ("a.weight", "b.weight"):
            assert new is old


def test_half_a_step_is_kept() -> None:
    values = np.array([[0.5, -0.5, 0.499, -0.499, 3.0]], np.float32)
    (new,) = sparsify_unstructured([Parameter("w", values, ParameterKind.WEIGHT, 0)], steps=1.0, sparsity=0)
    assert new.value.tolist() == [[0.5, -0.5, 0.0, 0.0, 3.0]]


def test_steps_per_tensor() -> None:
    (a, *_, b, _, _) = sparsify_unstructured(model(), steps={"a.weight": 100.0, "b.weight": 1e-9}, sparsity=0)
    assert not a.value.any()
    assert b.value.any()
    with pytest.raises(InvalidConfig, match=r"'b\.weight'"):
        sparsify_unstructured(model(), steps={"a.weight": 1.0}, sparsity=0)


def test_unreachable_target_ends() -> None:
    after = sparsify_unstructured(model(), steps=1e-3, sparsity=1.0)
    assert not after[0].value.any()
    assert after[1].value.all()


def test_weak_rows_go() -> None:
    values = np.ones((6, 4), np.float32)
    values[[1, 4]] = 0.1
    (new,) = sparsify_structured([Parameter("w", values, ParameterKind.WEIGHT, 0)], gain=0.9)
    assert np.flatnonzero(~new.value.any(axis=1)).tolist() == [1, 4]
    assert values.all()


def test_structured_count_is_truncated() -> None:
    rows = 49  # 1 / 49 * 49 is just below 1 in binary64
    assert int(1 / rows * rows) == 0
    values = np.ones((rows, 2), np.float32)
    values[7] = 0.1
    parameter = Parameter("w", values, ParameterKind.WEIGHT, 0)
    assert sparsify_structured([parameter])[0] is parameter


def test_nothing_to_do() -> None:
    before = model()
    assert sparsify(before, steps=10.0, sparsity=0) == before
    assert sparsity_of([]) == 0


@pytest.mark.parametrize("sparsity", [-0.1, 1.1, float("nan")])
def test_bad_sparsity(sparsity: float) -> None:
    with pytest.raises(InvalidConfig, match="sparsity"):
        sparsify(model(), steps=1.0, sparsity=sparsity)


def test_bad_gain() -> None:
    with pytest.raises(InvalidConfig, match="gain"):
        sparsify_structured(model(), gain=-1)
