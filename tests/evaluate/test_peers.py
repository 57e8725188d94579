"""Sizes by general coders."""

from __future__ import annotations

import math

import numpy as np
import pytest

from netpress import InvalidModel
from netpress.evaluate import peers

RANDOM = np.random.default_rng(0)


def laplace(count: int, scale: float) -> np.ndarray:
    return np.rint(RANDOM.laplace(0, scale, count)).astype(np.int32)


def test_entropy() -> None:
    assert peers.entropy_bytes({"w": np.array([0, 1, 2, 3] * 100)}) == 100
    assert peers.entropy_bytes({"w": np.zeros(100, np.int32), "empty": np.zeros(0, np.int32)}) == 0
    assert peers.entropy_bytes({"a": np.array([0, 1] * 40), "b": np.array([5, 9] * 40)}) == 20


def test_code_lengths() -> None:
    assert peers._code_lengths([8]) == [0]
    assert sorted(peers._code_lengths([1, 1, 2, 4])) == [1, 2, 3, 3]
    counts = RANDOM.integers(1, 1000, 50).tolist()
    lengths = peers._code_lengths(counts)
    assert sum(2.0**-length for length in lengths) == 1  # a complete prefix code


def test_huffman_is_near_the_entropy() -> None:
    levels = {"w": laplace(50_000, 6)}
    entropy, huffman = peers.entropy_bytes(levels), peers.huffman_bytes(levels)
    assert entropy < huffman < 1.03 * entropy


def test_huffman_counts_its_table() -> None:
    """Two symbols, -3 and 300: 2 bytes for the first, 2 + 1 for the second; 8 bits of payload."""
    assert peers.huffman_bytes({"w": np.array([-3, 300] * 4)}) == (1 + 1) + (2 + 1) + 1


def test_packing() -> None:
    assert peers.pack({"a": np.array([-128, 127])}) == b"\x80\x7f"
    assert peers.pack({"a": np.array([-1, 128])}) == b"\xff\xff\x80\x00"
    assert peers.pack({"a": np.array([1]), "b": np.array([1 << 20])}) == b"\x01\x00\x00\x10\x00"
    with pytest.raises(InvalidModel, match="'a' need more than 32 bits"):
        peers.pack({"a": np.array([1 << 40])})


def test_sizes() -> None:
    """No coder that treats the integers as independent beats their entropy, and none is far from it."""
    levels = {"w": laplace(60_000, 2)}
    found = peers.sizes(levels)
    assert {"entropy", "huffman", "bzip2", "xz"} <= set(found)
    for name, size in found.items():
        assert found["entropy"] <= size < 1.3 * found["entropy"], name


def test_int8() -> None:
    state = {
        "w": RANDOM.normal(0, 1, (4, 3, 3)).astype(np.float32),
        "zero": np.zeros((2, 2), np.float32),
        "b": np.ones(4, np.float32),
        "n": np.array([[3]]),
    }
    rounded, levels, size = peers.rounded_network(state)
    assert list(rounded) == list(state)
    assert set(levels) == {"w", "zero"}
    assert np.abs(levels["w"]).reshape(4, -1).max(1).tolist() == [127] * 4
    steps = np.abs(state["w"]).reshape(4, -1).max(1) / 127
    assert (np.abs(rounded["w"] - state["w"]).reshape(4, -1).max(1) <= steps * 0.501).all()
    assert rounded["w"].dtype == np.float32
    assert not rounded["zero"].any()
    assert rounded["b"] is state["b"]
    assert size == (36 + 4 * 4) + (4 + 2 * 4) + 16 + 8
    assert math.isclose(float(rounded["w"].std()), float(state["w"].std()), rel_tol=0.01)


def test_int4() -> None:
    state = {"w": np.array([[0.7, -0.2, 0.34], [0, 0, 0]], np.float32), "empty": np.zeros((0, 3), np.float32)}
    rounded, levels, size = peers.rounded_network(state, 4)
    assert levels["w"].tolist() == [[7, -2, 3], [0, 0, 0]]
    assert np.allclose(rounded["w"], [[0.7, -0.2, 0.3], [0, 0, 0]])
    assert size == 3 + 2 * 4


def test_tools_that_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """zstd pays for integers of few values; nothing of it is offered without its package."""
    pytest.importorskip("torch")
    pytest.importorskip("zstandard")
    from netpress.evaluate import tools

    state = {"w": laplace(40_000, 2).reshape(200, 200).astype(np.float32), "b": np.ones(200, np.float32)}
    made = {tool.name: tool.make(0) for tool in tools.roundings(state)}
    assert list(made) == ["int8", "int8 + zstd", "int4", "int4 + zstd", "safetensors + zstd"]
    assert made["int8"].size == 40_000 + 2 * 800
    assert made["int4"].size == 20_000 + 2 * 800
    assert made["int4 + zstd"].size < made["int8 + zstd"].size < made["int8"].size
    for bits in (8, 4):
        first, second = (made[f"int{bits}{end}"].state["w"] for end in ("", " + zstd"))
        assert np.array_equal(first, second)
    assert made["safetensors + zstd"].state is state
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert [tool.name for tool in tools.roundings(state)] == ["int8", "int4"]
