"""Which step each tensor gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import netpress
from netpress.codec import encoder
from netpress.config import DEFAULT_NONWEIGHT_QP, EncodeConfig
from netpress.errors import InvalidConfig
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.automatic_steps import automatic_qp, mean_weight_size
from netpress.quantize.step_size import step_size
from netpress.quantize.steps import FixedStep, assign_steps, vector_qp
from netpress.quantize.tensor import QuantizedTensor

KINDS = {
    "w": ParameterKind.WEIGHT,
    "v": ParameterKind.WEIGHT,
    "b": ParameterKind.BIAS,
    "var": ParameterKind.BN_VAR,
    "any": ParameterKind.UNSPECIFIED,
}


def values() -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    model = {"w": rng.normal(0, 0.1, (8, 9)), "v": rng.normal(0, 0.1, (64, 90)), "b": rng.normal(0, 1, 5)}
    model |= {"var": np.array([1.0, 1e-4]), "any": np.array([2.0, 3e-4])}
    return {name: value.astype(np.float32) for name, value in model.items()}


def qps(new: dict[str, Any] | None = None, given: dict[str, QuantizedTensor] | None = None, **options: Any) -> dict:
    """Return the qp of every tensor."""
    model = values()
    parameters = [Parameter(name, model[name], kind, 0) for name, kind in KINDS.items()]
    rules = assign_steps(parameters, EncodeConfig(**options), given=given, is_update=new is not None)
    assert list(rules) == list(model)
    return {name: rule.qp(model[name], (new or {}).get(name), name) for name, rule in rules.items()}


def test_values_are_not_loaded_before_a_job() -> None:
    def never() -> npt.NDArray[np.float32]:
        raise AssertionError("values must not be loaded")

    parameters = [Parameter(n, never, kind, 0, shape=(3, 4), is_integer=False) for n, kind in KINDS.items()]
    for options in ({}, {"qp": -20}, {"qp": -20, "allocation": "size"}, {"bit_depth": 4}):
        assert set(assign_steps(parameters, EncodeConfig(**options), is_update=True)) == set(KINDS)


def test_one_qp() -> None:
    assert qps(qp=-20) == {"w": -20, "v": -20, "b": -75, "var": -75, "any": -75}
    assert qps(qp=-20, qp_density=3)["b"] == -150
    assert qps(qp=-20, qp_per_tensor={"v": -3, "b": -4}) == {"w": -20, "v": -3, "b": -4, "var": -75, "any": -75}


@pytest.mark.parametrize("qp", [None, -20])
@pytest.mark.parametrize("nonweight_qp", [-4, 0, 1])
def test_issue_14_a_nonweight_qp_of_0_is_a_qp(qp: int | None, nonweight_qp: int) -> None:
    found = qps(qp=qp, nonweight_qp=nonweight_qp)
    assert {found[name] for name in ("b", "var", "any")} == {nonweight_qp}


def test_without_a_qp_values_decide() -> None:
    model = values()
    mean = mean_weight_size([Parameter(name, model[name], kind, 0) for name, kind in KINDS.items()])
    expected = {name: automatic_qp(model[name], kind, mean_size=mean) for name, kind in KINDS.items()}
    assert qps() == expected
    assert qps(qp_per_tensor={"b": -3}) == expected | {"b": -3}


@pytest.mark.parametrize("allocation", ["size", "sensitivity"])
def test_vectors_beside_weights_of_different_steps(allocation: str) -> None:
    found = qps(qp=-20, allocation=allocation)
    assert found["w"] < -26 < -20 <= found["v"]
    assert found["b"] == -34
    # Variances, and what may be one, keep their smallest values.
    assert step_size(found["var"], 2) < 1e-5
    assert step_size(found["any"], 2) < 3e-5
    assert qps(qp=-20, qp_density=3, allocation=allocation)["b"] == -48
    assert qps(qp=-20, allocation=allocation, nonweight_qp=-60)["var"] == -60
    assert qps(qp=-20, allocation=allocation, qp_per_tensor={"w": -11, "var": -12})["w"] == -11


def test_integers_that_are_given_bring_their_qp() -> None:
    given = {"v": QuantizedTensor(np.zeros((64, 90), np.int32), -13)}
    for options in ({}, {"qp": -20}, {"qp": -20, "allocation": "sensitivity"}, {"qp_per_tensor": {"v": -50}}):
        assert qps(given=given, **options)["v"] == -13


def test_steps_of_an_update_follow_the_new_values() -> None:
    model = values()
    new = {name: 16 * value for name, value in model.items()}
    found, alone = qps(new), qps()
    assert [found[name] - alone[name] for name in ("w", "v", "b")] == [16, 16, 16]


def test_a_difference_leaves_variances_above_0() -> None:
    new = {"var": np.array([4.0, 1e-6], np.float32), "any": np.array([4.0, 1e-6], np.float32)}
    found = qps(new, qp=-20, nonweight_qp=-20)
    assert found["b"] == -20
    for name in new:
        assert step_size(found[name], 2) <= 1e-6 / 8
    assert qps(new, qp=-20, qp_per_tensor={"var": -20})["var"] == -20  # as asked for


@pytest.mark.parametrize("options", [{"qp": 0, "qp_per_tensor": {"w": 128}}, {"qp": 0, "qp_per_tensor": {"b": -129}}])
def test_what_cannot_be_coded(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfig, match=r"'[wb]': qp -?12"):
        qps(**options)
    assert qps(**options, base_qp=2 if options["qp_per_tensor"].get("w") else -2)
    with pytest.raises(InvalidConfig, match="'v': qp 200"):
        qps(given={"v": QuantizedTensor(np.zeros((64, 90), np.int32), 200)})
    with pytest.raises(InvalidConfig, match="'x', which the model does not have"):
        qps(qp=-20, qp_per_tensor={"x": 1})


def test_a_fixed_step_takes_any_values() -> None:
    assert FixedStep(-7).qp(np.zeros(3, np.float32)) == -7


def test_issue_14_an_update_prepares_its_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*arguments: Any) -> Any:
        calls.append(arguments)
        return prepare_model(*arguments)

    prepare_model = encoder.prepare_model
    monkeypatch.setattr(encoder, "prepare_model", counted)
    rng = np.random.default_rng(0)
    base = {f"t{i}": rng.normal(0, 1, (20, 20)).astype(np.float32) for i in range(30)}
    # Differences as large as the values: for these the smaller of both is found out.
    doubtful = {f"t{i}" for i in range(20)}
    new = {n: -base[n] * 0.1 if n in doubtful else base[n] * np.float32(1.01) for n in base}
    for options in ({}, {"qp": -20}):
        calls.clear()
        data = netpress.encode(new, base=base, **options)
        assert len(calls) == 1
        restored = netpress.decode(data, base=base)
        assert all(np.abs(restored[n] - new[n]).max() < 0.25 * np.abs(new[n]).max() for n in new)


def test_ablations_switch_off_what_the_encoder_does() -> None:
    tools = pytest.importorskip("netpress.evaluate.netpress_tools")
    for qp in (-40, -20, 0):
        assert qp - tools.VECTORS_FINER == vector_qp(qp)
    assert tools.FINE_VECTOR_QP == DEFAULT_NONWEIGHT_QP
