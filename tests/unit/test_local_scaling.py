from __future__ import annotations

import numpy as np
import pytest

from netpress.errors import InvalidModel
from netpress.transforms.local_scaling import apply_scaling


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 2, 2), (4, 0)])
@pytest.mark.parametrize("column", [False, True])
def test_rows_are_scaled(shape: tuple[int, ...], column: bool) -> None:
    rng = np.random.default_rng(0)
    weight, scaling = rng.random(shape, np.float32), rng.random(4, np.float32)
    before = weight.copy()
    result = apply_scaling(weight, scaling.reshape(4, 1) if column else scaling)
    assert result.dtype == np.float32
    assert result.shape == shape
    for row, old, factor in zip(result, before, scaling, strict=True):
        assert np.array_equal(row, old * factor)
    assert np.array_equal(weight, before)


@pytest.mark.parametrize("shape", [(), (3, 2)])
def test_wrong_length(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidModel, match="'w'"):
        apply_scaling(np.ones(shape, np.float32), np.ones(4, np.float32), name="w")
