"""The record in the topology unit."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.codec.record import CodedTensor, FoldedLayer, Record, _PositionReader, _ranges
from netpress.errors import InvalidBitstream

FULL = Record(
    types={0: "float16", 1: "int64", 2: "int64", 4: "bfloat16"},
    scalars={1},
    shapes={3: (0, 7)},
    names={0: "a_G", 4: "ü\n"},
    upper_words={5: 2},
    folded=[FoldedLayer(6, 7, 8, True, False, ("bn.bias", "bn.weight", "bn.running_mean", "bn.running_var"), 1e-3)],
    order=[1, 0, 2, 3, 4, 5, 6, 7, 8],
    base="0123456789abcdef",
    complete={0, 4},
    removed=["old"],
)


def coded(*names: str) -> list[CodedTensor]:
    return [CodedTensor(name, (4,), False) for name in names]


def packed(content: dict[str, Any]) -> bytes:
    return b"netpress-z:" + base64.b85encode(zlib.compress(json.dumps(content).encode()))


def plain(text: str) -> bytes:
    return b"netpress:" + text.encode()


def test_round_trip() -> None:
    data = FULL.to_bytes()
    assert Record.from_bytes(data) == FULL
    assert b"\0" not in data
    data.decode()
    assert Record.from_bytes(Record().to_bytes()) == Record()
    assert Record().is_empty()
    assert not FULL.is_empty()


def test_large_records_are_packed() -> None:
    record = Record(names={i: f"layer {i}" for i in range(1000)})
    data = record.to_bytes()
    assert data.startswith(b"netpress-z:")
    assert len(data) < 8000
    assert Record.from_bytes(data) == record


@pytest.mark.parametrize("data", [b"", b"{}", b"netpres", b"onnx", b"\xff\xfe"])
def test_data_of_others(data: bytes) -> None:
    assert Record.from_bytes(data) is None


@given(st.lists(st.integers(0, 300)))
def test_ranges(positions: list[int]) -> None:
    assert _PositionReader().read(_ranges(positions)) == positions


def test_ranges_are_short() -> None:
    assert _ranges([]) == ""
    assert _ranges([3]) == "3"
    assert _ranges([0, 1, 2, 3, 7, 9, 11, 13, 2]) == "0-3,7-13/2,2"


BAD = [
    plain(""),
    plain("{"),
    plain("[]"),
    plain("3"),
    plain("null"),
    plain("{}"),
    plain('{"v":2}'),
    plain('{"v":1,"types":{"complex64":"0"}}'),
    plain('{"v":1,"types":{"object":"0"}}'),
    plain('{"v":1,"types":{"bfloat16x":"0"}}'),
    plain('{"v":1,"types":["0"]}'),
    plain('{"v":1,"types":{"int8":"x"}}'),
    plain('{"v":1,"scalars":"0-99999999999"}'),
    plain('{"v":1,"scalars":"5-9/0"}'),
    plain('{"v":1,"scalars":[0]}'),
    plain('{"v":1,"shapes":{"0":[1,2]}}'),
    plain('{"v":1,"shapes":{"0":"ab"}}'),
    plain('{"v":1,"shapes":{"0":[0,-1]}}'),
    plain('{"v":1,"names":["a"]}'),
    plain('{"v":1,"upper":{"1":0}}'),
    plain('{"v":1,"types":{"int16":"0"},"upper":{"1":0}}'),
    plain('{"v":1,"folded":[[0]]}'),
    plain('{"v":1,"folded":[[0,1,2,0,-1,"bn"]]}'),
    plain('{"v":1,"folded":[[0,1,2,0,NaN,"bn"]]}'),
    plain('{"v":1,"order":"0,"}' + "x"),
    plain("[" * 100_000),
    b"netpress:\xff\xff",
    b"netpress-z:",
    b"netpress-z:abc",
    b"netpress-z:" + base64.b85encode(b"no zlib at all"),
    b"netpress-z:" + base64.b85encode(zlib.compress(b"{}")[:-3]),
    packed({"v": 3}),
]


@pytest.mark.parametrize("data", BAD, ids=range(len(BAD)))
def test_damaged_records(data: bytes) -> None:
    with pytest.raises(InvalidBitstream, match="record"):
        Record.from_bytes(data)


@pytest.mark.parametrize(
    "record",
    [
        Record(types={2: "int8"}),
        Record(scalars={-1}),
        Record(names={5: "x"}),
        Record(upper_words={1: 2}),
        Record(folded=[FoldedLayer(0, 1, 2, False, False, ("a", "b", "c", "d"), 0.0)]),
        Record(order=[0]),
        Record(order=[0, 0]),
        Record(order=[1, 2]),
        Record(names={0: "b"}),
    ],
    ids=range(9),
)
def test_records_that_do_not_fit(record: Record) -> None:
    with pytest.raises(InvalidBitstream, match="record"):
        record.outputs(coded("a", "b"))


def test_outputs() -> None:
    record = Record(types={0: "int64", 2: "bfloat16"}, scalars={2}, upper_words={1: 0}, names={2: "c"}, order=[1, 0])
    outputs = record.outputs(coded("wide", "wide.upper", "stream name"))
    assert [output.name for output in outputs] == ["c", "wide"]
    scalar = outputs[0].build([np.array([1.5], np.float32)])
    assert (scalar.shape, scalar.dtype) == ((), np.dtype(ml_dtypes.bfloat16))
    assert outputs[1].sources == (0, 1)
    wide = outputs[1].build([np.array([-1], np.int32), np.array([1], np.int32)])
    assert wide.dtype == np.int64
    assert wide.tolist() == [2**33 - 1]


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz"])
def test_values_next_to_the_largest_stay_finite(name: str) -> None:
    limit = float(ml_dtypes.finfo(name).max)
    value = np.array([limit, -limit, 1], np.float32)
    value[:2] *= np.float32(1.5 if limit < 1e30 else 1)
    restored = Record(types={0: name}).outputs(coded("a"))[0].build([value])
    assert restored.astype(np.float32).tolist() == [limit, -limit, 1]


@pytest.mark.parametrize(
    ("record", "arrays"),
    [
        (Record(scalars={0}), [np.zeros(2, np.float32)]),
        (Record(shapes={0: (0, 2)}), [np.zeros(2, np.float32)]),
        (Record(types={0: "int64"}, upper_words={1: 0}), [np.zeros(2, np.int32), np.zeros(3, np.int32)]),
        (Record(types={0: "int64"}, upper_words={1: 0}), [np.zeros(2, np.float32), np.zeros(2, np.float32)]),
        (Record(types={0: "int64"}, upper_words={1: 0}), [np.zeros(2, np.int32), np.zeros(2, np.float32)]),
        (Record(types={0: "int8"}), [np.zeros(2, np.float32)]),
        (Record(types={0: "float16"}), [np.zeros(2, np.int32)]),
        (Record(shapes={0: (0,) + (2**40,) * 3}), [np.zeros(0, np.float32)]),
        (Record(shapes={0: (0,) * 100}), [np.zeros(0, np.float32)]),
    ],
    ids=range(9),
)
def test_outputs_that_do_not_fit_their_tensors(record: Record, arrays: list[Any]) -> None:
    with pytest.raises(InvalidBitstream, match="record"):
        record.outputs(coded("a", "b")[: len(arrays)])[0].build(arrays)
