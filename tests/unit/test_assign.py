from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from netpress.errors import InvalidConfig, InvalidModel
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.assign import (
    assign_qps,
    automatic_qps,
    bit_depth_qps,
    check_qps,
    clip_levels,
    level_bounds,
    resolve_nonweight_qp,
)
from netpress.quantize.step_size import qp_range, step_size

W, B = ParameterKind.WEIGHT, ParameterKind.BIAS


def parameter(name: str, value: Any, kind: ParameterKind = W) -> Parameter:
    return Parameter(name, np.asarray(value, np.float32), kind, 0)


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> npt.NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def assign(parameters: list[Parameter], **options: Any) -> dict[str, int]:
    return assign_qps(parameters, **({"qp": -20, "qp_density": 2, "nonweight_qp": -75} | options))


def test_kinds_and_overrides() -> None:
    model = [parameter("w", normal(2, 2)), parameter("b", normal(2), B)]
    assert assign(model) == {"w": -20, "b": -75}
    assert assign(model, nonweight_qp=None) == {"w": -20, "b": -28}
    assert assign(model, nonweight_qp=0, qp_per_tensor={"b": 3, "x": 1}) == {"w": -20, "b": 3}
    assert resolve_nonweight_qp(-20, 3, 0) == -36


def test_optimisation() -> None:
    model = [parameter("w", normal(30, 30)), parameter("v", normal(10, 10, scale=0.1)), parameter("b", normal(5), B)]
    deviations = [np.std(p.value.astype(np.float32)) for p in model[:2]]
    # 0.9 is more than a half, so 0.15; the other has a tenth of the size and a tenth of the spread.
    small = 0.1 + float(np.float32(0.1) * (np.float32(1) - deviations[1] / deviations[0]))
    assert assign(model, optimize_qp=True) == {"w": -17, "v": round(-20 * (1 - small)), "b": -75}
    assert assign(model[:1], optimize_qp=True) == {"w": -17}
    assert assign(model[:1], optimize_qp=True, qp_per_tensor={"w": -40}) == {"w": -34}


def test_optimisation_of_constant_weights_uses_sizes() -> None:
    model = [parameter("w", np.ones((2, 2))), parameter("v", np.ones((3, 4)))]
    assert assign(model, optimize_qp=True) == {"w": -15, "v": -17}


def test_optimisation_of_overflowing_weights() -> None:
    model = [parameter("w", normal(2, 2, scale=1e30)), parameter("v", normal(3, 4))]
    assert assign(model, optimize_qp=True) == {"w": -15, "v": -17}


def test_optimisation_without_weights() -> None:
    assert assign([parameter("b", normal(5), B)], optimize_qp=True) == {"b": -75}
    assert assign([parameter("w", np.empty((0, 3)))], optimize_qp=True) == {"w": -20}
    assert assign([], optimize_qp=True) == {}


def test_optimisation_of_factors() -> None:
    g, h, w = normal(20, 3), normal(3, 30, seed=1), normal(20, 20, scale=0.5, seed=2)
    model = [parameter("x_G", g), parameter("x_H", h), parameter("w", w)]
    qps = assign(model, optimize_qp=True, decomposed={"x": ("x_G", "x_H")})
    s = np.std(np.concatenate((g.ravel(), h.ravel()))), np.std(w)
    share = 400 / 1000 + float(np.float32(0.1) * (np.float32(1) - s[1] / max(s)))
    assert qps == {"x_G": -17, "x_H": -17, "w": round(-20 * (1 - (share if share <= 0.5 else 0.15)))}


def test_check() -> None:
    check_qps({"a": -128, "b": 127}, 2)
    with pytest.raises(InvalidConfig, match=r"'b'.*128"):
        check_qps({"a": 0, "b": 128}, 2)
    check_qps({"b": 128}, 2, base_qp=1)


def test_bit_depth() -> None:
    w = normal(40, 40)
    assert bit_depth_qps([parameter("w", np.zeros((2, 2)))], bits=4, qp_density=2) == {"w": 0}
    (qp,) = bit_depth_qps([parameter("w", w)], bits=4, qp_density=2).values()
    assert 1 <= step_size(qp, 2) / (np.percentile(np.abs(w.astype(float)), 99.95) / 7) < 1.26
    (other,) = bit_depth_qps([parameter("w", w, B)], bits=4, qp_density=2).values()
    assert 1 <= step_size(other, 2) / (np.percentile(np.abs(w.astype(float)), 99.95) / 127) < 1.26
    assert bit_depth_qps([Parameter("i", np.ones((2, 2), np.int32), W, 0)], bits=4, qp_density=2) == {"i": 0}


def test_bit_depth_of_one() -> None:
    assert bit_depth_qps([parameter("u", np.ones((2, 2)))], bits=1, qp_density=2) == {"u": 0}
    with pytest.raises(InvalidConfig, match="'w'"):
        bit_depth_qps([parameter("w", -np.ones((2, 2)))], bits=1, qp_density=2)


@pytest.mark.parametrize("bits", [0, 32])
def test_bad_bit_depth(bits: int) -> None:
    with pytest.raises(InvalidConfig, match="bit depth"):
        bit_depth_qps([parameter("w", np.ones((2, 2)))], bits=bits, qp_density=2)


def test_clipping() -> None:
    levels = np.array([-300, -9, -8, 7, 8, 300], np.int32)
    signed, unsigned = np.array([-1.0, 1.0]), np.array([0.0, 1.0])
    assert clip_levels(levels, signed, 4).tolist() == [-8, -8, -8, 7, 7, 7]
    assert clip_levels(levels, unsigned, 4).tolist() == [0, 0, 0, 7, 8, 15]
    assert clip_levels(levels, signed, 4, kind=B).tolist() == [-128, -9, -8, 7, 8, 127]
    assert clip_levels(levels, signed, 4, name="bn.num_batches_tracked").tolist() == levels.tolist()
    assert levels[0] == -300
    assert level_bounds(unsigned, 31) == (0, 2**31 - 1)


def automatic(value: Any, kind: ParameterKind = W, **options: Any) -> tuple[int, float]:
    (qp,) = automatic_qps([parameter("t", value, kind)], **options).values()
    return qp, step_size(qp, options.get("qp_density", 2))


def test_automatic_reaches_the_ratio() -> None:
    w = normal(64, 64, scale=0.05)
    _, step = automatic(w, dependent=False, snr_db_weights=30)
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
    check_qps(qps, density)
    low, high = qp_range(density)
    if value.size and low < qps["t"] < high:
        assert np.max(np.abs(value)) <= 2**30 * step_size(qps["t"], density)
