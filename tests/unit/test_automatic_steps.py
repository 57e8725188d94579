from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from netpress.config import Quality
from netpress.errors import InvalidModel
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.automatic_steps import automatic_qp, mean_weight_size
from netpress.quantize.step_size import qp_range, step_size

W, B = ParameterKind.WEIGHT, ParameterKind.BIAS


def parameter(name: str, value: Any, kind: ParameterKind = W) -> Parameter:
    return Parameter(name, np.asarray(value, np.float32), kind, 0)


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> npt.NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def automatic_qps(parameters: list[Parameter], **options: Any) -> dict[str, int]:
    mean = mean_weight_size(parameters)
    return {p.name: automatic_qp(p.value, p.kind, mean_size=mean, name=p.name, **options) for p in parameters}


def automatic(value: Any, kind: ParameterKind = W, **options: Any) -> tuple[int, float]:
    (qp,) = automatic_qps([parameter("t", value, kind)], **options).values()
    return qp, step_size(qp, options.get("qp_density", 2))


def test_automatic_reaches_the_ratio() -> None:
    w = normal(64, 64, scale=0.05)
    _, step = automatic(w, dependent=False, quality=Quality(30.0, 54.0))
    noise = w - np.round(w / step) * step
    snr = 10 * np.log10(np.mean(w.astype(float) ** 2) / np.mean(noise**2))
    assert 29.8 < snr < 32.2  # at most one qp finer, and rows differ a little
    assert automatic(w)[1] < automatic(w, dependent=False)[1]


def test_automatic_is_coarser_for_large_weights() -> None:
    model = [parameter("a", normal(200, 200)), parameter("b", normal(20, 20))]
    qps = automatic_qps(model)
    assert step_size(qps["a"], 2) == pytest.approx(10 * step_size(qps["b"], 2), rel=0.25)


def test_automatic_is_not_led_by_an_outlier() -> None:
    w = normal(64, 64)
    plain = automatic(w)[0]
    w[3, 3] = 1e4
    assert automatic(w)[0] - plain <= 20  # the root mean square grows by 44 dB, which would be 29


def test_automatic_keeps_small_variances() -> None:
    var = np.array([1e-3, 0.5, 2.0, 8.0])
    _, step = automatic(var, ParameterKind.BN_VAR)
    assert step / 2 < 0.02 * var.min()


@pytest.mark.parametrize("value", [1.0, -0.3, 0.1, 1e-5, 3.14159, 12345.678, 1e9])
@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("density", [0, 2, 7])
def test_automatic_constants(value: float, dependent: bool, density: int) -> None:
    constant = float(np.float32(value))
    qp, step = automatic(np.full(9, constant), dependent=dependent, qp_density=density)
    unit = 4 * step if dependent else step
    low, _ = qp_range(density)
    error = abs(round(constant / unit) * unit - constant) / abs(constant)
    assert error <= 1e-6 or qp == low
    assert abs(constant) / step < 2**31


def test_automatic_ones_are_cheap() -> None:
    assert automatic(np.ones(16), dependent=False) == (0, 1.0)
    assert automatic(np.ones(16)) == (-8, 0.25)


def test_automatic_special_tensors() -> None:
    model = [
        parameter("zero", np.zeros((3, 3))),
        parameter("empty", np.empty((0, 3))),
        Parameter("int", np.arange(4, dtype=np.int32), B, 0),
    ]
    assert automatic_qps(model) == {"zero": 0, "empty": 0, "int": 0}
    assert automatic_qps(model, base_qp=200) == {"zero": 72, "empty": 72, "int": 72}
    with pytest.raises(InvalidModel, match="'t'"):
        automatic([[1, np.nan], [0, 1]])


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5), elements=FLOATS),
    st.sampled_from(list(ParameterKind)),
    st.integers(0, 7),
    st.booleans(),
)
def test_automatic_is_always_codable(
    value: npt.NDArray[np.float32], kind: ParameterKind, density: int, dependent: bool
) -> None:
    qps = automatic_qps([parameter("t", value, kind)], qp_density=density, dependent=dependent)
    low, high = qp_range(density)
    assert low <= qps["t"] <= high
    if value.size and low < qps["t"] < high:
        assert np.max(np.abs(value)) <= 2**30 * step_size(qps["t"], density)
