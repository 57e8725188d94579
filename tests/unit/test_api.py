"""encode, decode, save, load: what goes in comes out, and what cannot go in says why."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import netpress


def laplace(*shape: int, seed: int = 0, scale: float = 0.05) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).laplace(0, scale, shape).astype(np.float32)


def snr_db(original: Any, decoded: Any) -> float:
    original = np.asarray(original, np.float64)
    error = np.asarray(decoded, np.float64) - original
    return float(10 * np.log10(np.sum(original**2) / max(float(np.sum(error**2)), 1e-300)))


MODEL = {
    "conv.weight": laplace(16, 8, 3, 3),
    "conv.bias": laplace(16, seed=1),
    "scalar": np.array(0.25, np.float32),
    "steps": np.array(7, np.int64),
    "wide": np.array([[2**62, -(2**62)], [1, -1]], np.int64),
    "mask": np.array([True, False, True]),
    "half": laplace(8, 4, seed=2).astype(np.float16),
    "brain": laplace(8, 4, seed=3).astype(ml_dtypes.bfloat16),
    "double": laplace(8, 4, seed=4).astype(np.float64),
    "none": np.zeros((0, 3), np.float32),
    "layer_G": laplace(4, 4, seed=5),
    "layer_H": np.arange(6, dtype=np.int16).reshape(2, 3),
    "": np.array([2**64 - 1, 0], np.uint64),
    "名前 🙂": np.array([1, 2**32 - 1], np.uint32),
}


def check_restored(decoded: dict[str, Any], model: dict[str, Any]) -> None:
    assert list(decoded) == list(model)
    for name, value in model.items():
        assert decoded[name].dtype == value.dtype, name
        assert decoded[name].shape == value.shape, name
        if value.dtype.kind in "biu":
            np.testing.assert_array_equal(decoded[name], value, err_msg=name)
        elif value.size:
            assert snr_db(value, decoded[name]) > 25, name


@pytest.mark.parametrize(
    "options", [{}, {"effort": 1}, {"effort": 9}, {"qp": -40}, {"use_dq": False}, {"bit_depth": 12}]
)
def test_round_trip(options: dict[str, Any]) -> None:
    check_restored(netpress.decode(netpress.encode(MODEL, **options)), MODEL)


def test_default_loses_nothing_visible() -> None:
    weight = laplace(64, 64)
    data = netpress.encode({"w": weight})
    assert len(data) < weight.nbytes / 3
    assert snr_db(weight, netpress.decode(data)["w"]) > 37


def test_more_effort_is_not_larger() -> None:
    model = {"w": laplace(64, 64), "v": laplace(32, 8, 3, 3, seed=1)}
    sizes = [len(netpress.encode(model, qp=-20, lambda_scale=0.0, effort=effort)) for effort in (1, 5, 9)]
    assert sizes[0] >= sizes[1] >= sizes[2]


@pytest.mark.filterwarnings("ignore:the steps are too coarse")
def test_config_and_options() -> None:
    model = {"w": laplace(16, 16)}
    config = netpress.EncodeConfig(qp=-10)
    assert netpress.encode(model, config) == netpress.encode(model, qp=-10)
    assert netpress.encode(model, config, qp=-30) == netpress.encode(model, qp=-30)
    assert netpress.encode(model, config) != netpress.encode(model, qp=-30)


@pytest.mark.parametrize(
    "options",
    [
        {"qp": 1000},
        {"qp": -129},
        {"qp": 1.5},
        {"qp": True},
        {"effort": 0},
        {"effort": 10},
        {"preset": "fast"},
        {"qp_density": 8},
        {"unknown": 1},
        {"bit_depth": 0},
        {"bit_depth": 32},
        {"codebook_mode": 3},
        {"scan_order": 5},
        {"unary_length": 257},
        {"profile": 2},
        {"profile": 0, "differences": True},
        {"sparsity": 1.5},
        {"lambda_scale": -1.0},
        {"lambda_scale": float("nan")},
        {"use_dq": "yes"},
        {"temporal_contexts": True},
        {"history_contexts": True},
        {"nonweight_qp": 128},
        {"base_qp": 5000},
        {"device_id": -1},
        {"qp_per_tensor": {"missing": -20}},
        {"qp_per_tensor": {"w": 1000}},
        {"qp_per_tensor": {"w": "low"}},
        {"payload_variant": "3"},
        {"blocks": [{"name": "w"}]},
    ],
    ids=str,
)
def test_invalid_config(options: dict[str, Any]) -> None:
    with pytest.raises(netpress.InvalidConfig):
        netpress.encode({"w": laplace(4, 4)}, **options)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([[1, np.nan]], np.float32), "1 of 2 values are NaN"),
        (np.array([[1, np.inf]], np.float32), "infinite"),
        (np.array([[-np.inf, 1]], np.float64), "infinite"),
        (np.array([[np.nan]], np.float16), "NaN"),
        (np.array([[np.nan]], ml_dtypes.bfloat16), "NaN"),
        (np.array([1e39]), "too large"),
        (np.array([1j]), "complex"),
        (np.array(["a"]), "<U1|str"),
        (np.array([None]), "not an array"),
        (np.array(["2020-01-01"], "datetime64[D]"), "datetime64"),
        (np.longdouble(1) * np.ones(2, np.longdouble), "float128|longdouble"),
        ({"nested": 1}, "dictionary"),
    ],
    ids=str,
)
def test_invalid_tensors(value: Any, message: str) -> None:
    with pytest.raises(netpress.InvalidModel, match=message) as caught:
        netpress.encode({"fine": laplace(2, 2), "bad one": value})
    assert caught.value.tensor == "bad one"
    assert "'bad one'" in str(caught.value)


@pytest.mark.parametrize("model", [{}, 3, None, [1.0], {1: np.ones(2)}, {"a\0b": np.ones(2)}, {"\ud800": np.ones(2)}])
def test_invalid_models(model: Any) -> None:
    with pytest.raises(netpress.InvalidModel):
        netpress.encode(model)


def test_the_same_bytes_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    model = {f"w{i}": laplace(8 + i, 8, seed=i) for i in range(20)}
    expected = netpress.encode(model)
    for threads in ("1", "2", "7"):
        monkeypatch.setenv("NETPRESS_THREADS", threads)
        assert netpress.encode(model) == expected
        check_restored(netpress.decode(expected), model)
    with ThreadPoolExecutor(3) as executor:
        assert netpress.encode(model, executor=executor) == expected
        check_restored(netpress.decode(expected, executor=executor), model)


def test_callers_arrays_are_not_changed() -> None:
    model = {name: value.copy() for name, value in MODEL.items()}
    for value in model.values():
        value.flags.writeable = False
    netpress.decode(netpress.encode(model, sparsity=0.5, effort=9))
    for name, value in MODEL.items():
        assert model[name].tobytes() == value.tobytes()


def test_decoded_arrays_can_be_changed() -> None:
    for value in netpress.decode(netpress.encode(MODEL)).values():
        assert value.flags.writeable
        value[...] = 0


def test_memory_order_does_not_matter() -> None:
    weight = laplace(6, 10)
    assert netpress.encode({"w": np.asfortranarray(weight)}) == netpress.encode({"w": weight})
    assert netpress.encode({"w": np.repeat(weight, 2, axis=1)[:, ::2]}) == netpress.encode({"w": weight})
    assert netpress.encode({"w": weight.astype(">f4")}) == netpress.encode({"w": weight})


def test_progress() -> None:
    seen: list[tuple[int, int, str]] = []
    model = {"a": laplace(4, 4), "b": laplace(3)}
    data = netpress.encode(model, progress=lambda *report: seen.append(report))
    assert seen == [(16, 19, "a"), (19, 19, "b")]
    seen.clear()
    netpress.decode(data, progress=lambda *report: seen.append(report))
    assert seen == [(16, 19, "a"), (19, 19, "b")]


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "model.nnc"
    size = netpress.save(MODEL, path, qp=-40)
    assert path.stat().st_size == size
    assert path.read_bytes() == netpress.encode(MODEL, qp=-40, checksums=True)
    netpress.save(MODEL, path, qp=-40, checksums=False)
    assert path.read_bytes() == netpress.encode(MODEL, qp=-40)
    check_restored(netpress.load(path), MODEL)
    check_restored(netpress.load(str(path)), MODEL)


def test_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.nnc"
    path.write_bytes(b"old")
    with pytest.raises(netpress.InvalidModel):
        netpress.save({"a": laplace(64, 64), "b": np.array([np.nan])}, path)

    def stop(done: int, total: int, name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        netpress.save({"a": laplace(64, 64), "b": laplace(3)}, path, progress=stop)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.nnc"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("netpress")]


def test_load_of_missing_and_empty_files(tmp_path: Path) -> None:
    for function in (netpress.load, netpress.open):
        with pytest.raises(FileNotFoundError):
            function(tmp_path / "missing.nnc")
        (tmp_path / "empty.nnc").write_bytes(b"")
        with pytest.raises(netpress.InvalidBitstream):
            function(tmp_path / "empty.nnc")
        (tmp_path / "text.nnc").write_text("this is not a stream")
        with pytest.raises(netpress.NetpressError):
            function(tmp_path / "text.nnc")
    with pytest.raises(netpress.InvalidBitstream):
        netpress.decode(b"")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_kinds_of_bytes(kind: Any) -> None:
    data = netpress.encode(MODEL)
    check_restored(netpress.decode(kind(data)), MODEL)


def test_profile_0() -> None:
    model = {name: value for name, value in MODEL.items() if value.size}
    data = netpress.encode(model, profile=0)
    assert data[:4] == bytes.fromhex("00040200")
    check_restored(netpress.decode(data), model)
    other = netpress.encode(model, profile=0, payload_variant="2")
    assert other != data
    check_restored(netpress.decode(other), model)
    check_restored(netpress.decode(netpress.encode(model, profile=0, effort=9, codebook_mode=1)), model)


@pytest.mark.parametrize("scan_order", [1, 2, 3, 4])
@pytest.mark.parametrize("use_dq", [True, False])
def test_scan_orders(scan_order: int, use_dq: bool) -> None:
    model = {"w": laplace(70, 41), "conv": laplace(9, 3, 3, 3), "b": laplace(70)}
    check_restored(netpress.decode(netpress.encode(model, scan_order=scan_order, use_dq=use_dq)), model)


@pytest.mark.parametrize("mode", [1, 2])
def test_codebooks(mode: int) -> None:
    values = np.array([-0.5, -0.125, 0, 0.25, 0.75], np.float32)
    model = {"w": np.random.default_rng(0).choice(values, (30, 20)), "v": laplace(8, 8)}
    decoded = netpress.decode(netpress.encode(model, codebook_mode=mode, qp=-20, use_dq=False))
    np.testing.assert_allclose(decoded["w"], model["w"], atol=2.0**-6)


def test_raw_float_is_exact() -> None:
    model = {"exact_G": laplace(5, 7), "b": np.array([-0.0, 1e-45, 3.4e38], np.float32)}
    decoded = netpress.decode(netpress.encode(model, raw_float=("exact_G", "b")))
    assert all(decoded[name].tobytes() == value.tobytes() for name, value in model.items())


def test_sparsity() -> None:
    decoded = netpress.decode(netpress.encode({"w": laplace(64, 64)}, sparsity=0.8, qp=-30))
    assert 0.75 < np.mean(decoded["w"] == 0) < 0.9


@pytest.mark.filterwarnings("ignore:the steps are too coarse")
def test_qp_is_the_step() -> None:
    weight = laplace(32, 32)
    for qp in (-40, -20, -8):
        decoded = netpress.decode(netpress.encode({"w": weight}, qp=qp, use_dq=False, lambda_scale=0.0))["w"]
        step = 2.0 ** (qp / 4)
        assert np.abs(decoded - weight).max() <= step / 2 * 1.0001
        np.testing.assert_allclose(decoded / step, np.round(decoded / step), atol=1e-3)


def test_qp_per_tensor() -> None:
    model = {"a": laplace(32, 32), "b_G": laplace(32, 32)}
    decoded = netpress.decode(netpress.encode(model, qp=-16, qp_per_tensor={"b_G": -40}))
    assert snr_db(model["b_G"], decoded["b_G"]) > snr_db(model["a"], decoded["a"]) + 25


def test_out_of_band_dimensions_are_checked() -> None:
    with pytest.raises(ValueError, match="negative"):
        netpress.decode(netpress.encode(MODEL), dimensions={"w": (-1,)})


def test_checksums() -> None:
    data = netpress.encode(MODEL, checksums=True)
    check_restored(netpress.decode(data), MODEL)
    for position in range(40, len(data), 13):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(netpress.NetpressError):
            netpress.decode(damaged)
    for options in ({"preset": "reference", "qp": -20}, {"topology_storage_format": None}):
        with pytest.raises(netpress.InvalidConfig):
            netpress.encode(MODEL, checksums=True, **options)


def test_limits() -> None:
    data = netpress.encode(MODEL)
    with pytest.raises(netpress.LimitExceeded) as caught:
        netpress.decode(data, limits=netpress.DecodeLimits(max_elements=100))
    assert caught.value.limit == "max_elements"
    assert "max_elements" in str(caught.value)


def test_version() -> None:
    assert netpress.__version__.count(".") == 2
    assert set(netpress.__all__) <= {*dir(netpress), "__version__"}
    with pytest.raises(AttributeError):
        _ = netpress.missing  # type: ignore[attr-defined]
