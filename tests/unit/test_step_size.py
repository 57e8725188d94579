from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.errors import InvalidConfig
from netpress.quantize.step_size import qp_for_step, qp_range, step_size

DENSITIES = st.integers(0, 7)


@pytest.mark.parametrize(
    ("qp", "step"),
    [(-38, 0.00146484375), (-32, 0.00390625), (-75, 1.25 * 2.0**-19), (-18, 0.046875), (0, 1.0), (4, 2.0)],
)
def test_values_of_the_specification(qp: int, step: float) -> None:
    assert step_size(qp, 2) == step


@given(DENSITIES, st.integers(-1000, 1000))
def test_steps_rise_and_double(density: int, qp: int) -> None:
    assert step_size(qp + (1 << density), density) == 2 * step_size(qp, density)
    assert step_size(qp + 1, density) > step_size(qp, density)


@given(DENSITIES, st.data())
def test_inverse(density: int, data: st.DataObject) -> None:
    qp = data.draw(st.integers(*qp_range(density)))
    assert qp_for_step(step_size(qp, density), density) == qp


@given(DENSITIES, st.floats(1e-300, 1e300))
def test_inverse_lies_between_neighbours(density: int, step: float) -> None:
    qp = qp_for_step(step, density)
    assert step_size(math.floor(qp - 1e-6), density) <= step <= step_size(math.ceil(qp + 1e-6), density)


def test_subnormal_step() -> None:
    assert qp_for_step(2.0**-1073, 2) == -1073 * 4


def test_extreme_qps_do_not_raise() -> None:
    assert step_size(2**31 - 1, 0) == math.inf
    assert step_size(-(2**31), 0) == 0.0


def test_range() -> None:
    assert qp_range(2) == (-128, 127)
    assert qp_range(0) == (-32, 31)
    assert qp_range(7, base_qp=-10) == (-4106, 4085)


@pytest.mark.parametrize("density", [-1, 8])
def test_bad_density(density: int) -> None:
    with pytest.raises(InvalidConfig, match="qp_density"):
        step_size(0, density)
    with pytest.raises(InvalidConfig, match="qp_density"):
        qp_range(density)


@pytest.mark.parametrize("step", [0.0, -1.0, math.inf, math.nan])
def test_bad_step(step: float) -> None:
    with pytest.raises(InvalidConfig, match="positive"):
        qp_for_step(step, 2)
