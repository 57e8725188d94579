"""The rival with 8 bits per weight."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("zstandard")

from rivals import int8

TENSORS = {
    "weight": np.random.default_rng(0).normal(size=(4, 6, 3)).astype(np.float32),
    "bias": np.float32([0.1, 0.2, 0.3]),
    "one row": np.float32([[0.1, 0.2, 0.3]]),
    "zeros": np.zeros((2, 3), np.float32),
}


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_each_output_channel_has_a_scale(axis: int) -> None:
    size, found = int8.compress(TENSORS, {"weight": axis})
    wanted, given = (
        np.moveaxis(value["weight"], axis, 0).reshape(TENSORS["weight"].shape[axis], -1) for value in (TENSORS, found)
    )
    steps = np.abs(wanted).max(1, keepdims=True) / 127
    assert (np.abs(given - wanted) <= steps * 0.5001).all()
    np.testing.assert_allclose(np.abs(given).max(1), np.abs(wanted).max(1), rtol=1e-6)
    assert 0 < size < sum(value.nbytes for value in TENSORS.values())


def test_vectors_and_zeros_are_kept() -> None:
    _, found = int8.compress(TENSORS)
    for name in ("bias", "one row", "zeros"):
        np.testing.assert_array_equal(found[name], TENSORS[name])
