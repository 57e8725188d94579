"""Updates: differences against a base model, and chains that keep a state at both ends."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import netpress
from netpress.codec.difference import fingerprint
from netpress.codec.index import header_of, index_stream
from netpress.codec.update_state import UpdateState

GENERATOR = np.random.default_rng(5)
BASE = {
    "w": GENERATOR.normal(0, 0.05, (16, 12)).astype(np.float32),
    "half": GENERATOR.normal(0, 0.05, (8, 8)).astype(np.float16),
    "brain": GENERATOR.normal(0, 0.05, (8, 8)).astype(ml_dtypes.bfloat16),
    "steps": np.array(10, np.int64),
    "wide": np.array([2**60, -(2**60)], np.int64),
    "unsigned": np.array([2**64 - 1, 5], np.uint64),
    "bytes": np.arange(4, dtype=np.uint8),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 2), np.float32),
    "gone": np.ones(3, np.float32),
    "reshaped": np.ones((2, 3), np.float32),
    "retyped": np.ones(3, np.float32),
    "still_G": np.full((4, 4), 0.5, np.float32),
}
NEW = {
    "new": GENERATOR.normal(0, 0.05, (4, 4)).astype(np.float32),
    "new zeros": np.zeros((2, 2), np.float32),
    **{name: value for name, value in BASE.items() if name != "gone"},
    "w": BASE["w"] + GENERATOR.normal(0, 0.005, (16, 12)).astype(np.float32),
    "half": (BASE["half"] + np.float16(0.01)).astype(np.float16),
    "brain": (BASE["brain"].astype(np.float32) + 0.01).astype(ml_dtypes.bfloat16),
    "steps": np.array(2**40, np.int64),
    "wide": np.array([2**60 + 3, -(2**60) - 4], np.int64),
    "unsigned": np.array([2**64 - 2, 6], np.uint64),
    "bytes": np.array([255, 0, 3, 2], np.uint8),
    "mask": np.array([False, False]),
    "reshaped": np.zeros((3, 2), np.float32),
    "retyped": np.ones(3, np.float64),
}


def check(restored: dict[str, Any]) -> None:
    assert set(restored) == set(NEW)
    for name, value in NEW.items():
        assert restored[name].dtype == value.dtype, name
        assert restored[name].shape == value.shape, name
        if value.dtype.kind in "biu":
            np.testing.assert_array_equal(restored[name], value, err_msg=name)
        else:
            np.testing.assert_allclose(
                restored[name].astype(np.float64), value.astype(np.float64), atol=5e-3, err_msg=name
            )


def test_base_round_trip() -> None:
    update = netpress.encode(NEW, base=BASE)
    check(netpress.decode(update, base=BASE))
    assert len(update) < len(netpress.encode(NEW))


def test_lazy_base_round_trip(tmp_path: Any) -> None:
    netpress.save(NEW, tmp_path / "update.nnc", base=BASE)
    with netpress.open(tmp_path / "update.nnc", base=BASE) as stream:
        assert len(stream) == len(NEW)
        check(dict(stream))
        with pytest.raises(KeyError):
            _ = stream["gone"]
    with pytest.raises(netpress.BaseMismatch):
        netpress.open(tmp_path / "update.nnc", base={**BASE, "w": BASE["w"] + 1})


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.float16])
def test_scalars_stay_arrays(dtype: Any) -> None:
    """numpy's arithmetic on arrays without a dimension gives scalars, which frameworks do not take."""
    old, new = ({"n": np.array(n, dtype)} for n in (3, 7))
    restored = netpress.decode(netpress.encode(new, base=old, qp=-40), base=old)["n"]
    assert isinstance(restored, np.ndarray)
    assert (restored.shape, restored.dtype) == ((), np.dtype(dtype))
    np.testing.assert_allclose(restored, 7, atol=0.05)


@pytest.mark.parametrize("new", [0.0, 1.0, 7.0, -0.3])
@pytest.mark.parametrize("old", ["values", "constant"])
def test_a_tensor_that_becomes_constant(new: float, old: str) -> None:
    """The step of a constant is about the constant itself, that of a zero is 1: too coarse for the way there."""
    values = GENERATOR.normal(0.2, 0.3, 64).astype(np.float32) if old == "values" else np.full(64, 3, np.float32)
    base, model = {"a": values, "b": values[:1]}, {"a": np.full(64, new, np.float32), "b": np.array([new], np.float32)}
    update = netpress.encode(model, base=base)
    restored = netpress.decode(update, base=base)
    for name, value in model.items():
        np.testing.assert_allclose(restored[name], value, rtol=1e-6)
    # What was coded to that precision is not coded again.
    assert len(netpress.encode(model, base=restored)) <= 60 < len(update)


def test_equal_models_make_a_tiny_update() -> None:
    update = netpress.encode(BASE, base=BASE)
    assert len(update) < 200
    restored = netpress.decode(update, base=BASE)
    assert all(restored[name].tobytes() == value.tobytes() for name, value in BASE.items())


def test_a_stream_as_base() -> None:
    """Both ends build on what the stream before decodes to, so errors do not add up."""
    model = {"w": BASE["w"]}
    held = netpress.decode(netpress.encode(model, qp=-24))
    for _ in range(5):
        model = {"w": model["w"] + np.float32(0.01)}
        held = netpress.decode(netpress.encode(model, qp=-24, base=held), base=held)
        assert np.abs(held["w"] - model["w"]).max() < 2.5 * 2.0 ** (-24 / 4)


@pytest.mark.parametrize("change", ["value", "name", "type", "shape", "missing"])
def test_wrong_base(change: str) -> None:
    update = netpress.encode(NEW, base=BASE)
    other = dict(BASE)
    if change == "value":
        other["w"] = other["w"] + np.float32(1e-6)
    elif change == "name":
        other["other"] = other.pop("w")
    elif change == "type":
        other["half"] = other["half"].astype(np.float32)
    elif change == "shape":
        other["w"] = other["w"].reshape(12, 16)
    else:
        del other["gone"]
    with pytest.raises(netpress.BaseMismatch):
        netpress.decode(update, base=other)


def test_fingerprint() -> None:
    assert fingerprint(BASE) == fingerprint(dict(reversed(BASE.items())))
    assert fingerprint({"a": np.zeros(2, np.float32)}) != fingerprint({"a": np.array([0, -0.0], np.float32)})
    assert fingerprint({"a": np.zeros((2, 2))}) != fingerprint({"a": np.zeros(4)})


def test_without_the_base_an_update_is_the_difference() -> None:
    update = netpress.encode({"w": BASE["w"] + np.float32(0.25)}, base={"w": BASE["w"]}, qp=-20)
    np.testing.assert_allclose(netpress.decode(update)["w"], 0.25, atol=0.06)


def test_wide_integers_in_a_chain() -> None:
    encoder = netpress.Encoder(differences=True)
    for value in (2**40, -(2**35), 3, 0):
        data = encoder.encode({"n": np.array([value], np.int64), "w": np.ones(2, np.float32)})
        assert netpress.decode(data).get("n", 0) == value


OPTIONS = [
    {},
    {"temporal_contexts": True},
    {"history_contexts": True},
    {"temporal_contexts": True, "history_contexts": True},
    {"temporal_contexts": True, "use_dq": False, "row_skipping": True},
    {"temporal_contexts": True, "history_contexts": True, "effort": 9},
    {"temporal_contexts": True, "history_contexts": True, "scan_order": 1},
]


def rounds(count: int) -> list[dict[str, Any]]:
    """Sparse differences whose positions repeat, and a tensor of integers."""
    generator = np.random.default_rng(2)
    where = generator.random((32, 24)) < 0.2
    return [
        {
            "w": np.where(where, generator.normal(0, 0.1, (32, 24)), 0).astype(np.float32),
            "b": generator.normal(0, 0.1, 9).astype(np.float32),
            "n": generator.integers(-3, 4, 9).astype(np.int32),
        }
        for _ in range(count)
    ]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_chains(options: dict[str, Any]) -> None:
    encoder = netpress.Encoder(qp=-20, differences=True, **options)
    decoder = netpress.Decoder()
    for model in rounds(4):
        decoded = decoder.decode(encoder.encode(model))
        assert set(decoded) == set(model)
        np.testing.assert_array_equal(decoded["n"], model["n"])
        for name in ("w", "b"):
            np.testing.assert_allclose(decoded[name], model[name], atol=0.15)
    assert set(encoder.state.levels) == set(decoder.state.levels)
    for name, levels in encoder.state.levels.items():
        np.testing.assert_array_equal(levels.reshape(-1), decoder.state.levels[name].reshape(-1))
        np.testing.assert_array_equal(encoder.state.histories[name], decoder.state.histories[name])


def test_state_makes_updates_smaller() -> None:
    same = rounds(1) * 4
    sizes = {}
    for contexts in (False, True):
        encoder = netpress.Encoder(qp=-20, differences=True, temporal_contexts=contexts, lambda_scale=0.0)
        sizes[contexts] = sum(len(encoder.encode(model)) for model in same)
    assert sizes[True] < sizes[False]


def test_lost_update() -> None:
    encoder = netpress.Encoder(qp=-20, differences=True, temporal_contexts=True)
    updates = [encoder.encode(model) for model in rounds(3)]
    decoder = netpress.Decoder()
    decoder.decode(updates[0])
    with pytest.raises(netpress.BaseMismatch):
        decoder.decode(updates[2])
    with pytest.raises(netpress.BaseMismatch):
        netpress.Decoder().decode(updates[1])


def test_other_device() -> None:
    decoder = netpress.Decoder()
    first, second = (netpress.Encoder(qp=-20, differences=True, device_id=i) for i in (1, 2))
    decoder.decode(first.encode(rounds(1)[0]))
    with pytest.raises(netpress.BaseMismatch):
        decoder.decode(second.encode(rounds(1)[0]))


def test_zero_tensors_are_left_out() -> None:
    encoder = netpress.Encoder(qp=-20, differences=True)
    decoded = netpress.Decoder().decode(encoder.encode({"a": np.zeros((3, 3), np.float32), "b": np.ones((2, 2), "f4")}))
    assert list(decoded) == ["b"]


def test_state() -> None:
    state = UpdateState()
    state.update("a", np.array([0, 1, 0], np.int32), 4, in_update=True)
    state.update("a", np.array([2, 0, 0], np.int32), 4, in_update=True)
    assert state.histories["a"].tolist() == [1, 1, 0]
    assert state.depths == {"a": 2}
    with pytest.raises(netpress.BaseMismatch):
        state.update("a", np.zeros(4, np.int32), 4, in_update=True)
    with pytest.raises(netpress.BaseMismatch):
        state.update("a", np.zeros(3, np.int32), 5, in_update=True)
    state.check_device(0)
    state.check_device(7)
    with pytest.raises(netpress.BaseMismatch):
        state.check_device(8)


def test_the_smaller_of_difference_and_new_value_is_coded() -> None:
    random = np.random.default_rng(0)
    base = {name: random.normal(0, 1, (48, 48)).astype(np.float32) for name in ("moved", "replaced", "same")}
    base["counts"] = random.integers(-(2**20), 2**20, 500).astype(np.int32)
    new = {
        "moved": base["moved"] + random.normal(0, 0.02, (48, 48)).astype(np.float32),
        "replaced": (0.1 * random.normal(0, 1, (48, 48))).astype(np.float32),
        "same": base["same"],
        "counts": random.integers(0, 4, 500).astype(np.int32),
    }
    data = netpress.encode(new, base=base, qp=-32)
    units = {header_of(unit).name: unit.size for unit in index_stream(data, netpress.DecodeLimits()).units}
    assert units.keys() == {"moved", "replaced", "counts"}  # what did not change is left out
    decoded = netpress.decode(data, base=base)
    for name, value in new.items():
        assert np.allclose(decoded[name], value, atol=0.01)
    assert np.array_equal(decoded["counts"], new["counts"])
    assert np.array_equal(netpress.decode(data)["counts"], new["counts"])  # the new value itself
    alone = {name: len(netpress.encode({name: value}, qp=-32)) for name, value in new.items()}
    for name in ("replaced", "counts"):
        assert units[name] < alone[name]
    # The differences of these two would take more.
    forced = netpress.Encoder(differences=True, qp=-32).encode({n: new[n] - base[n] for n in ("replaced", "counts")})
    assert len(forced) > units["replaced"] + units["counts"] + 500


def test_differences_that_are_given_quantised() -> None:
    base, new = BASE["w"], NEW["w"]
    levels = np.rint((new - base) / 2.0**-9).astype(np.int32)
    given = {"w": netpress.QuantizedTensor(levels, -36)}
    data = netpress.encode({"w": new}, base={"w": base}, quantized=given)
    np.testing.assert_array_equal(netpress.decode(data, base={"w": base})["w"], base + given["w"].values())
    with pytest.raises(netpress.InvalidModel, match="no difference"):
        netpress.encode({"w": new}, base={"v": base}, quantized=given)


@pytest.mark.parametrize("options", [{"qp": -12}, {"qp": -20, "nonweight_qp": -8}, {"nonweight_qp": -8}])
def test_variances_stay_above_zero(options: dict[str, Any]) -> None:
    """Coarse steps for vectors do not make small variances negative, as a coarse difference would."""
    generator = np.random.default_rng(0)
    old = {"conv.weight": generator.normal(0, 0.1, (64, 32)), "bn.running_var": generator.uniform(0.01, 4, 64)}
    new = {"conv.weight": old["conv.weight"] + 0.01, "bn.running_var": old["bn.running_var"] * 0.1}
    old, new = ({name: value.astype(np.float32) for name, value in model.items()} for model in (old, new))
    found = netpress.decode(netpress.encode(new, base=old, **options), base=old)
    assert found["bn.running_var"].min() > 0.5 * new["bn.running_var"].min()
    given = {"qp_per_tensor": {"bn.running_var": -2}}
    coarse = netpress.decode(netpress.encode(new, base=old, **options, **given), base=old)
    assert np.abs(coarse["bn.running_var"] - new["bn.running_var"]).max() > 0.1, "a qp that is given is kept"
