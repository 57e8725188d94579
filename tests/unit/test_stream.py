"""Lazy streams."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

import netpress
from netpress.codec.stream import Stream

MODEL = {
    "conv.weight": np.random.default_rng(0).normal(0, 0.05, (16, 8, 3, 3)).astype(np.float32),
    "steps": np.array(3, np.int64),
    "wide": np.array([[2**50], [7]], np.int64),
    "none": np.zeros((0, 4), np.float16),
    "mask_G": np.array([True, False]),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    netpress.save(MODEL, tmp_path / "m.nnc", qp=-30)
    return tmp_path / "m.nnc"


def test_is_a_mapping(path: Path) -> None:
    everything = netpress.load(path)
    with netpress.open(path) as stream:
        assert list(stream) == list(MODEL)
        assert len(stream) == len(MODEL)
        assert "steps" in stream
        assert "other" not in stream
        for name in reversed(MODEL):
            assert stream[name].tobytes() == everything[name].tobytes()
            assert stream[name].dtype == MODEL[name].dtype
            assert stream[name].shape == MODEL[name].shape
        with pytest.raises(KeyError):
            _ = stream["other"]


def test_values_outlive_the_stream(path: Path) -> None:
    stream = netpress.open(path)
    value, units = stream["conv.weight"], stream.units()
    stream.close()
    stream.close()
    assert np.isfinite(value).all()
    assert len(units[-1].payload) >= 0


def test_values_belong_to_the_caller(tmp_path: Path) -> None:
    model = {"w": np.ones((4, 2), np.float32), "b": np.full(4, 2, np.float32)}
    netpress.save(model, tmp_path / "m.nnc", qp=-20, blocks=(netpress.Block("w", bias="b"),))
    with netpress.open(tmp_path / "m.nnc") as stream:
        for _ in range(3):
            for name, value in model.items():
                read = stream[name]
                np.testing.assert_allclose(read, value, atol=0.1)
                read[...] = 7


def test_info(path: Path) -> None:
    with netpress.open(path) as stream:
        info = stream.info()
    assert info.bytes == path.stat().st_size
    assert info.profile == 1
    assert info.elements == sum(value.size for value in MODEL.values())
    assert info.original_bytes == sum(value.nbytes for value in MODEL.values())
    assert [(t.name, t.shape, t.dtype) for t in info.tensors] == [(n, v.shape, v.dtype.name) for n, v in MODEL.items()]
    weight = info.tensors[0]
    assert (weight.kind, weight.qp) == ("dependent", -30)
    assert weight.step == 1.5 * 2.0**-8
    assert info.tensors[1].kind == "integer"
    assert "two halves" in info.tensors[2].tools
    assert sum(t.header_bytes + t.payload_bytes for t in info.tensors) < info.bytes
    assert info.to_dict()["tensors"][0]["shape"] == [16, 8, 3, 3]


def test_first_edition(tmp_path: Path) -> None:
    model = {"w": MODEL["conv.weight"], "n": np.arange(5, dtype=np.int32)}
    for variant in ("1.0", "2"):
        netpress.save(model, tmp_path / "m.nnc", qp=-30, profile=0, payload_variant=variant)
        everything = netpress.load(tmp_path / "m.nnc")
        with netpress.open(tmp_path / "m.nnc") as stream:
            assert stream["w"].tobytes() == everything["w"].tobytes()
            assert stream["n"].tobytes() == model["n"].tobytes()


def test_damage_shows_where_it_is(path: Path) -> None:
    data = bytearray(path.read_bytes())
    with Stream(bytes(data)) as stream:
        unit = next(unit for unit in stream.units() if getattr(unit.content, "name", "") == "conv.weight")
    start = unit.offset + unit.header_bytes
    data[start + 100] ^= 1
    with Stream(bytes(data)) as stream, pytest.raises(netpress.InvalidBitstream, match="checksum") as caught:
        _ = stream["conv.weight"]
    assert caught.value.unit is not None
    assert caught.value.unit <= unit.index
    assert caught.value.offset is not None
    assert caught.value.offset <= unit.offset


def test_truncated_file(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(netpress.InvalidBitstream) as caught:
        netpress.open(path)
    assert caught.value.unit is not None
    assert caught.value.offset is not None


def test_threads(path: Path) -> None:
    wrong: list[str] = []
    everything = netpress.load(path)
    with netpress.open(path) as stream:

        def read() -> None:
            wrong.extend(name for name in stream if stream[name].tobytes() != everything[name].tobytes())

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_limits(path: Path) -> None:
    with pytest.raises(netpress.LimitExceeded):
        netpress.open(path, limits=netpress.DecodeLimits(max_units=2))
