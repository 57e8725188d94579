"""Tools that turn a network into bytes and back: netpress and its rivals behind one interface."""

from __future__ import annotations

import dataclasses
import importlib.util
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save as save_safetensors

import netpress
from netpress.evaluate.judge import State
from netpress.evaluate.peers import rounded_network

__all__ = ["Made", "Tool", "roundings", "stream_tool"]

_ZSTD_LEVEL = 19


@dataclasses.dataclass(frozen=True, kw_only=True)
class Made:
    """What a tool made of a network at one setting.

    Attributes:
        size: bytes of the file.
        state: tensors of the network after decoding, by name, complete.
        encode_seconds, decode_seconds: wall-clock time; None where there is no such step.
        stream: the file, if netpress can open it.
    """

    size: int
    state: State
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    stream: bytes | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tool:
    """Something that compresses the network of a task, coarser or finer as a number says.

    Attributes:
        name: in tables and plots.
        make: compresses and decodes at a quantisation parameter.
        start: a parameter to begin with, which need not be a good one.
        options: what else decides about the result, in the types of JSON.
        keeps_topology: whether the original network loads the result.
        group: one of :data:`netpress.evaluate.results.GROUPS`.
        words: name of a tool of one setting only, e.g. ``"per channel"``; empty if the parameter is free.
    """

    name: str
    make: Callable[[int], Made]
    start: int = -24
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    keeps_topology: bool = True
    group: str = "sweep"
    words: str = ""


def stream_tool(
    name: str,
    encode: Callable[[int], bytes],
    *,
    start: int = -24,
    options: Mapping[str, Any] | None = None,
    group: str = "sweep",
) -> Tool:
    """Return a tool of streams that netpress decodes.

    Args:
        name, start, options, group: as in :class:`Tool`.
        encode: makes the stream of the network at a quantisation parameter.
    """

    def make(qp: int) -> Made:
        begin = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", netpress.NetpressWarning)  # of too coarse steps: the metric tells
            stream = encode(qp)
        middle = time.perf_counter()
        state = netpress.decode(stream, reconstruct=True)
        end = time.perf_counter()
        return Made(
            size=len(stream), state=state, encode_seconds=middle - begin, decode_seconds=end - middle, stream=stream
        )

    return Tool(name=name, make=make, start=start, options=options or {}, group=group)


def roundings(state: State) -> list[Tool]:
    """Return int8 and int4 with a step for each output channel, as they are and after zstd, and the floats after zstd.

    What needs zstd is left out where the package zstandard is not installed.

    Args:
        state: tensors of the float network by name.
    """
    has_zstd = importlib.util.find_spec("zstandard") is not None
    tools = []
    for bits in (8, 4):
        for packed in (False, True) if has_zstd else (False,):
            name = f"int{bits} + zstd" if packed else f"int{bits}"
            make = _rounding(state, bits, packed=packed)
            tools.append(Tool(name=name, make=make, words="per channel", options={"bits": bits, "zstd": packed}))

    def floats(_: int) -> Made:
        start = time.perf_counter()
        packed = _zstd(_file_of(state))
        middle = time.perf_counter()
        _unzstd(packed)
        return Made(
            size=len(packed),
            state=state,
            encode_seconds=middle - start,
            decode_seconds=time.perf_counter() - middle,
        )

    if has_zstd:
        tools.append(Tool(name="safetensors + zstd", make=floats, words=f"zstd {_ZSTD_LEVEL}"))
    return tools


def _rounding(state: State, bits: int, *, packed: bool) -> Callable[[int], Made]:
    def make(_: int) -> Made:
        start = time.perf_counter()
        rounded, levels, size = rounded_network(state, bits)
        if packed:
            rest = {name: value for name, value in state.items() if name not in levels}
            steps = 4 * sum(len(value) for value in levels.values())
            size = len(_zstd(_file_of({**levels, **rest}))) + steps
        return Made(size=size, state=rounded, encode_seconds=time.perf_counter() - start)

    return make


def _file_of(state: State) -> bytes:
    """Tensors as the bytes of a safetensors file."""
    return save_safetensors({name: np.ascontiguousarray(value) for name, value in state.items()})


def _zstd(data: bytes) -> bytes:
    import zstandard

    packed: bytes = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(data)
    return packed


def _unzstd(data: bytes) -> bytes:
    import zstandard

    unpacked: bytes = zstandard.ZstdDecompressor().decompress(data)
    return unpacked
