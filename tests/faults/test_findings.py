"""What fuzzing and fault injection have found, one test for each finding; see docs/notes/fuzzing.md."""

from __future__ import annotations

import base64
import json
import pickle
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import netpress
from netpress import native
from netpress.codec.record import Record
from netpress.errors import InvalidBitstream
from netpress.formats import safetensors


def packed(text: bytes) -> bytes:
    """A record with a compressed text."""
    return b"netpress-z:" + base64.b85encode(zlib.compress(text, 9))


@pytest.mark.parametrize(
    "text",
    [
        b'{"v":1,"shapes":{"0":[Infinity]}}',
        b'{"v":1,"shapes":{"0":[0,1e999]}}',
        b'{"v":1,"upper":{"0":-Infinity}}',
        b'{"v":1,"folded":[[Infinity,1,2,3,1e-5,"n"]]}',
        b'{"v":1,"scalars":"0-99999999999999999999"}',
        b'{"v":1,"order":"0-99999999999999999999/3"}',
    ],
)
def test_finding_1_record_with_huge_numbers(text: bytes) -> None:
    """They left Record.from_bytes as OverflowError."""
    with pytest.raises(InvalidBitstream):
        Record.from_bytes(b"netpress:" + text)
    with pytest.raises(InvalidBitstream):
        Record.from_bytes(packed(text))


@pytest.mark.parametrize("item", [b"0,", b"{},", b"[],"])
def test_finding_2_record_that_inflates(item: bytes) -> None:
    """80 kB became 60 MB of JSON, and that up to 1.8 GB of objects."""
    data = packed(b'{"v":1,"x":[' + item * ((60 << 20) // len(item)) + b"0]}")
    assert len(data) < 100_000
    with pytest.raises(InvalidBitstream):
        Record.from_bytes(data)


def test_finding_3_record_that_names_many_positions() -> None:
    """200 bytes became a million positions many times over."""
    everything = "0-1048575"
    types = ("bool", "int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64", "float16", "float64", "bfloat16")
    content = {"v": 1, "types": dict.fromkeys(types, everything), "scalars": everything, "complete": everything}
    with pytest.raises(InvalidBitstream):
        Record.from_bytes(b"netpress:" + json.dumps(content).encode())


def test_finding_4_file_that_was_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal, or an error, in the middle of opening a model left an object whose end wrote a traceback to stderr."""
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)
    with pytest.raises(FileNotFoundError):
        safetensors._File(tmp_path / "missing")
    assert complaints == []


def off_by_one(data: Any) -> memoryview:
    """The same bytes at an odd address."""
    data = memoryview(data).cast("B")
    room = np.zeros(len(data) + 2, np.uint8)
    start = 1 + room.ctypes.data % 2
    room[start : start + len(data)] = np.frombuffer(data, np.uint8)
    return memoryview(room)[start : start + len(data)]


class OffByOneExecutor(Executor):
    """Sends what it runs, and what comes out, through messages whose arrays begin anywhere, as Dask does."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        fn, args, kwargs = self._sent((fn, args, kwargs))
        future.set_result(self._sent(fn(*args, **kwargs)))
        return future

    @staticmethod
    def _sent(value: Any) -> Any:
        buffers: list[pickle.PickleBuffer] = []
        data = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
        return pickle.loads(data, buffers=[off_by_one(buffer.raw()) for buffer in buffers])


@pytest.mark.parametrize("options", [{}, {"effort": 2}, {"use_dq": False}, {"codebook_mode": 1, "qp": -12}])
def test_finding_5_arrays_that_begin_anywhere(options: dict[str, Any]) -> None:
    """Arrays from another process reached the core at addresses that are not multiples of 4, against C++'s rules."""
    weight = np.random.default_rng(1).normal(0, 0.1, (40, 30)).astype(np.float32)
    model = {"w": weight, "i": np.arange(7, dtype=np.int32)}
    data = netpress.encode(model, executor=OffByOneExecutor(), **options)
    assert data == netpress.encode(model, **options)
    restored = netpress.decode(data, executor=OffByOneExecutor())
    expected = netpress.decode(data)
    assert all(np.array_equal(restored[name], expected[name]) for name in model)


def test_finding_5_arrays_that_begin_anywhere_in_updates() -> None:
    weight = np.random.default_rng(1).normal(0, 0.1, (40, 30)).astype(np.float32)
    updates = [{"w": weight * np.float32(factor)} for factor in (0.1, 0.2, -0.1)]
    options = {"differences": True, "temporal_contexts": True, "history_contexts": True, "qp": -20}
    encoders = netpress.Encoder(**options), netpress.Encoder(**options)
    decoders = netpress.Decoder(), netpress.Decoder()
    for update in updates:
        data = encoders[0].encode(update, executor=OffByOneExecutor())
        assert data == encoders[1].encode(update)
        restored = decoders[0].decode(data, executor=OffByOneExecutor())
        assert np.array_equal(restored["w"], decoders[1].decode(data)["w"])


def test_finding_5_core_refuses_arrays_that_are_not_aligned() -> None:
    weights = np.frombuffer(off_by_one(np.ones(12, np.float32)), np.float32)
    levels = np.zeros(12, np.int32)
    assert not weights.flags.aligned
    for quantize in (native.quantize_uniform, native.quantize_trellis):
        with pytest.raises(ValueError, match="aligned"):
            quantize(weights, levels, 3, 4, -8)
    with pytest.raises(ValueError, match="aligned"):
        native.PayloadEncoder().tensor(np.frombuffer(off_by_one(levels), np.int32), native.TensorCoding(3, 4))
