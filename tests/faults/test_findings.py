"""What fuzzing and fault injection have found, one test for each finding; see docs/notes/fuzzing.md."""

from __future__ import annotations

import base64
import json
import sys
import zlib
from pathlib import Path

import pytest

from netpress.errors import InvalidBitstream
from netpress.formats import safetensors
from netpress.record import Record


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
