from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from netpress.config import EncodeConfig
from netpress.errors import InvalidConfig
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.reference_steps import assign_qps, bit_depth_qp, clip_levels, level_bounds
from netpress.quantize.step_size import step_size

W, B = ParameterKind.WEIGHT, ParameterKind.BIAS


def parameter(name: str, value: Any, kind: ParameterKind = W) -> Parameter:
    return Parameter(name, np.asarray(value, np.float32), kind, 0)


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> npt.NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def assign(parameters: list[Parameter], **options: Any) -> dict[str, int]:
    return assign_qps(parameters, **({"qp": -20, "nonweight_qp": -75} | options))


def test_kinds_and_overrides() -> None:
    model = [parameter("w", normal(2, 2)), parameter("b", normal(2), B)]
    assert assign(model) == {"w": -20, "b": -75}
    assert assign(model, nonweight_qp=0) == {"w": -20, "b": 0}
    assert assign(model, nonweight_qp=0, qp_per_tensor={"b": 3, "x": 1}) == {"w": -20, "b": 3}


def test_no_qp_of_nonweights_is_two_octaves_less() -> None:
    """In the reference encoder 0 and None both mean that; elsewhere 0 is a qp like any other."""
    for none in (0, None):
        assert EncodeConfig.reference(qp=-20, qp_density=3, nonweight_qp=none).nonweight_qp == -36


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


def bit_depth_qps(parameters: list[Parameter], **options: Any) -> dict[str, int]:
    return {p.name: bit_depth_qp(p.value, p.kind, name=p.name, **options) for p in parameters}


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
