"""A batch of payloads gives what each payload gives alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import netpress
from netpress.bitstream.payload import PayloadBatch, decode_payload
from netpress.codec.decoder import decode_unit
from netpress.codec.index import index_stream


def _model() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    sparse = generator.laplace(0, 0.02, (64, 96)) * (generator.random((64, 1)) < 0.5)
    return {
        "conv.weight": generator.laplace(0, 0.02, (40, 12, 3, 3)).astype("f4"),
        "sparse": sparse.astype("f4"),
        "fine": generator.laplace(0, 2.0, 500).astype("f4"),
        "small": generator.laplace(0, 1.0, 5).astype("f4"),
        "empty": np.zeros((0, 4), "f4"),
        "two": np.where(generator.random((30, 30)) < 0.5, 1.0, -1.0).astype("f4"),
        "counts": generator.integers(-5, 5, (20, 20), dtype="i4"),
    }


@pytest.fixture(
    params=[
        {},
        {"scan_order": 2},
        {"use_dq": False, "codebook_mode": 2},
        {"profile": 0, "payload_variant": "2"},
        {"raw_float": ("fine",)},
    ],
    ids=["default", "scan", "codebook", "profile0", "raw"],
)
def stream(request: pytest.FixtureRequest) -> bytes:
    return netpress.encode(_model(), qp=-24, **request.param)


def test_batch_equals_single_payloads(stream: bytes) -> None:
    units = [u for u in index_stream(stream, netpress.DecodeLimits()).units if u.content.name != "fine"]
    for keep_levels in (True, False):
        batch = PayloadBatch()
        for unit in units:
            batch.add(unit, keep_levels=keep_levels)
        batch.run()
        for unit, parts in zip(units, batch.results(), strict=True):
            alone = decode_payload(unit)
            values = decode_unit(unit).tensors
            for part, expected in zip(parts, alone, strict=True):
                assert dataclasses.replace(part, levels=expected.levels, values=None) == expected
                if part.values is None:
                    np.testing.assert_array_equal(part.levels, expected.levels)
                else:
                    wanted = values[part.member.name].reshape(-1)
                    assert part.values.tobytes() == wanted.tobytes()
            assert keep_levels <= all(part.values is None for part in parts)


def test_batch_reports_the_damaged_unit(stream: bytes) -> None:
    units = index_stream(stream, netpress.DecodeLimits()).units
    units = [unit for unit in units if unit.content.name in ("conv.weight", "sparse")]
    units[1] = dataclasses.replace(units[1], payload=bytes(units[1].payload)[:-2])
    batch = PayloadBatch()
    for unit in units:
        batch.add(unit)
    batch.run()
    results = batch.results()
    assert next(results)[0].member.name == "conv.weight"
    with pytest.raises(netpress.InvalidBitstream, match="sparse") as caught:
        next(results)
    assert caught.value.unit == units[1].index


@pytest.mark.parametrize("threads", ["1", "3"])
def test_batches_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch, stream: bytes, threads: str) -> None:
    monkeypatch.setenv("NETPRESS_THREADS", threads)
    expected = netpress.decode(stream)
    monkeypatch.setattr("netpress.codec.decoder._BATCH_VALUES", 700)
    names: list[str] = []
    decoded = netpress.decode(stream, progress=lambda done, total, name: names.append(name))
    assert names
    assert list(decoded) == list(expected)
    for name, value in decoded.items():
        assert value.tobytes() == expected[name].tobytes()
