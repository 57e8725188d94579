"""What general means make of the same numbers: entropy, general-purpose compressors, Huffman codes, rounding.

The sizes are those of the integers of a network (its quantised weights), so that coders are compared at equal quality.
"""

from __future__ import annotations

import bz2
import heapq
import lzma
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress import InvalidModel

__all__ = ["CODERS", "entropy_bytes", "huffman_bytes", "pack", "rounded_network", "sizes"]

Levels = Mapping[str, npt.NDArray[np.integer[Any]]]
"""Integers of each tensor, by name."""


def sizes(levels: Levels) -> dict[str, int]:
    """Return the bytes that each of :data:`CODERS` takes for the integers of a network.

    zstd is left out where the package zstandard is not installed.

    Example:
        >>> import numpy
        >>> found = sizes({"w": numpy.zeros(4096, "i4")})
        >>> found["entropy"], found["bzip2"] < 100
        (0, True)
    """
    found = {}
    for name, coder in CODERS.items():
        try:
            found[name] = coder(levels)
        except ModuleNotFoundError:
            continue
    return found


def entropy_bytes(levels: Levels) -> int:
    """Return the zero-order entropy: each tensor with the frequencies of its own integers, which cost nothing here.

    It is a bound for every coder that treats the integers of a tensor as independent and equally distributed.
    """
    bits = 0.0
    for values in levels.values():
        counts = np.unique(values, return_counts=True)[1]
        bits += float(np.sum(counts * np.log2(counts.sum() / counts)))
    return math.ceil(bits / 8)


def huffman_bytes(levels: Levels) -> int:
    """Return the size with a Huffman code for each tensor.

    The code is canonical. Its table holds, for each integer that occurs, the integer as a variable-length number
    (7 bits a byte, as the difference from the integer before) and one byte for the length of its code word.

    Source: Huffman, A Method for the Construction of Minimum-Redundancy Codes (1952).
    """
    total = 0
    for values in levels.values():
        symbols, counts = np.unique(values, return_counts=True)
        lengths = _code_lengths(counts.tolist())
        payload_bits = int(np.dot(counts, lengths))
        steps = [2 * abs(int(symbols[0])) if len(symbols) else 0, *np.diff(symbols.astype(np.int64)).tolist()]
        table = sum(max(1, math.ceil(int(step).bit_length() / 7)) + 1 for step in steps[: len(symbols)])
        total += table + math.ceil(payload_bits / 8)
    return total


def _code_lengths(counts: list[int]) -> list[int]:
    """Bits of the code word of each symbol; one symbol alone needs none."""
    lengths = [0] * len(counts)
    heap: list[tuple[int, int, list[int]]] = [(count, symbol, [symbol]) for symbol, count in enumerate(counts)]
    heapq.heapify(heap)
    while len(heap) > 1:
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        members = first[2] + second[2]
        for symbol in members:
            lengths[symbol] += 1
        heapq.heappush(heap, (first[0] + second[0], min(first[1], second[1]), members))
    return lengths


def pack(levels: Levels) -> bytes:
    """Return the integers back to back, each tensor in the narrowest of 8, 16 and 32 bits that holds it, little-endian.

    Raises:
        InvalidModel: an integer needs more than 32 bits.
    """
    parts = []
    for name, values in levels.items():
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        dtypes = [
            dtype for dtype in ("<i1", "<i2", "<i4") if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max
        ]
        if not dtypes:
            raise InvalidModel(f"levels of {name!r} need more than 32 bits")
        parts.append(values.astype(dtypes[0]).tobytes())
    return b"".join(parts)


def _zstd_bytes(levels: Levels) -> int:
    import zstandard

    return len(zstandard.ZstdCompressor(level=19).compress(pack(levels)))


CODERS: dict[str, Callable[[Levels], int]] = {
    "entropy": entropy_bytes,
    "huffman": huffman_bytes,
    "bzip2": lambda levels: len(bz2.compress(pack(levels), 9)),
    "xz": lambda levels: len(lzma.compress(pack(levels), preset=9 | lzma.PRESET_EXTREME)),
    "zstd": _zstd_bytes,
}
"""Name -> function that returns the bytes for the integers of a network; all at their best setting."""


def rounded_network(
    state: Mapping[str, npt.NDArray[Any]], bits: int = 8
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[np.integer[Any]]], int]:
    """Round the weights of a network to few bits, as is usual: symmetric, with a step for each output channel.

    Args:
        state: tensors by name; floating-point ones of two or more dimensions are rounded, others kept.
        bits: of an integer, 2 to 8.

    Returns:
        The tensors after rounding, float32; the integers, int8 from -127 to 127 for 8 bits, of those that were rounded;
        and the size in bytes: the bits of these integers, four bytes for each step, and the others as they are.
    """
    rounded: dict[str, npt.NDArray[Any]] = {}
    levels: dict[str, npt.NDArray[np.integer[Any]]] = {}
    limit = 2 ** (bits - 1) - 1
    size = 0
    for name, values in state.items():
        if values.ndim < 2 or values.dtype.kind != "f":
            rounded[name] = values
            size += values.nbytes
            continue
        largest = np.abs(values).max(axis=tuple(range(1, values.ndim)), keepdims=True, initial=0).astype(np.float32)
        step = np.where(largest > 0, largest / limit, 1).astype(np.float32)
        levels[name] = np.rint(values / step).astype(np.int8)
        rounded[name] = levels[name] * step
        size += -(-levels[name].size * bits // 8) + step.nbytes
    return rounded, levels, size
