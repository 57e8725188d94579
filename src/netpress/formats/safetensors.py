"""The safetensors format, read tensor by tensor and written in one pass.

A file is an 8-byte little-endian length, a JSON header of that length and the values. The header maps each name to
element type, shape and the range of bytes; the ranges cover the values without gaps.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeGuard

import ml_dtypes
import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel
from netpress.formats.source import Entry, LazyTensors, Source, check_name, plain_kind

__all__ = ["open_file", "open_index", "write"]

_MAX_HEADER_BYTES = 100_000_000  # bound of the format's own library

_DTYPES: dict[str, np.dtype[Any]] = {
    code: np.dtype(numpy_type)
    for code, numpy_type in (
        ("BOOL", np.bool_),
        ("I8", np.int8),
        ("U8", np.uint8),
        ("I16", np.int16),
        ("U16", np.uint16),
        ("I32", np.int32),
        ("U32", np.uint32),
        ("I64", np.int64),
        ("U64", np.uint64),
        ("F16", np.float16),
        ("F32", np.float32),
        ("F64", np.float64),
        ("BF16", ml_dtypes.bfloat16),
        ("F8_E4M3", ml_dtypes.float8_e4m3fn),
        ("F8_E5M2", ml_dtypes.float8_e5m2),
        ("F8_E4M3FNUZ", ml_dtypes.float8_e4m3fnuz),
        ("F8_E5M2FNUZ", ml_dtypes.float8_e5m2fnuz),
        ("F8_E8M0", ml_dtypes.float8_e8m0fnu),
    )
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


def open_file(path: Path) -> Source:
    """Open a .safetensors file; tensors come in the order of its header.

    Raises:
        InvalidModel: the file is damaged or holds a type that is not supported.
        OSError: the file cannot be read.
    """
    file = _File(path)
    return Source(_read_entries(file), "safetensors", close=file.close)


class _File:
    """A file that several threads can read from; closes when it is closed or forgotten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None  # for __del__, if opening fails
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def read_into(self, target: memoryview, position: int) -> None:
        """Fill a buffer with the bytes at a position.

        Raises:
            InvalidModel: the file ends before.
        """
        if self._descriptor is None:
            raise ValueError(f"{self.path} is closed")
        while target:
            count = os.preadv(self._descriptor, [target], position)
            if count == 0:
                raise InvalidModel(f"{self.path} was cut off while it was read")
            target, position = target[count:], position + count

    def read(self, position: int, count: int) -> bytes:
        """Return bytes at a position."""
        data = bytearray(count)
        self.read_into(memoryview(data), position)
        return bytes(data)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size if self._descriptor is None else os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Close the file; can be called more than once."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


def open_index(path: Path) -> Source:
    """Open a model in several files through its .safetensors.index.json; tensors come in the order of the index.

    Every shard is opened at once and compared with the index; where two shards hold the same name, the index decides.

    Raises:
        InvalidModel: the index or a shard is damaged, a shard or tensor of the index is missing, or a shard holds a
            tensor that the index does not know.
        OSError: a file cannot be read.
    """
    weight_map = _weight_map(path)
    shards: dict[str, dict[str, Entry]] = {}
    files: list[_File] = []
    for name, shard in weight_map.items():
        if shard not in shards:
            files.append(_File(_shard_path(path, name, shard)))
            shards[shard] = _read_entries(files[-1])
        if name not in shards[shard]:
            raise InvalidModel(f"{path} places it in {shard}, which does not hold it", tensor=name)
    for shard, entries in shards.items():
        for name in entries:
            if name not in weight_map:
                raise InvalidModel(f"is in {shard} but not in {path}", tensor=name)

    def close() -> None:
        for file in files:
            file.close()

    return Source({name: shards[shard][name] for name, shard in weight_map.items()}, "safetensors", close=close)


def _weight_map(path: Path) -> dict[str, str]:
    """The part of an index that maps names to file names."""
    content = _parse_json(path.read_bytes(), path)
    weight_map = content.get("weight_map")
    if not isinstance(weight_map, dict):
        raise InvalidModel(f"{path} is not a safetensors index: it has no weight_map")
    for name, shard in weight_map.items():
        check_name(name)
        if not isinstance(shard, str):
            raise InvalidModel(f"{path} does not name its file", tensor=name)
    return weight_map


def _shard_path(index: Path, name: str, shard: str) -> Path:
    """Path of a shard, which has to be in the folder of the index."""
    if not shard or shard in (".", "..") or "/" in shard or "\\" in shard or "\0" in shard:
        raise InvalidModel(f"{index} places it in {shard!r}, which is not a plain file name", tensor=name)
    path = index.with_name(shard)
    if not path.is_file():
        raise InvalidModel(f"{index} places it in {shard}, which does not exist", tensor=name)
    return path


def _read_entries(file: _File) -> dict[str, Entry]:
    """Parse and check a header; the entries read from the file when they are asked to."""
    path, file_bytes = file.path, file.size
    if file_bytes < 8:
        raise InvalidModel(f"{path} is not a safetensors file: it has only {file_bytes} bytes")
    header_bytes = int.from_bytes(file.read(0, 8), "little")
    if not 2 <= header_bytes <= min(_MAX_HEADER_BYTES, file_bytes - 8):
        raise InvalidModel(f"{path} is not a safetensors file, or is truncated: its header has an impossible length")
    header = _parse_json(file.read(8, header_bytes), path)
    header.pop("__metadata__", None)
    start = 8 + header_bytes
    entries: dict[str, Entry] = {}
    ranges: list[tuple[int, int, str]] = []
    for name, field in header.items():
        check_name(name)
        dtype, shape, begin, end = _parse_field(name, field)
        ranges.append((begin, end, name))
        entries[name] = Entry(shape, dtype, plain_kind(shape), _reader(file, dtype, shape, start + begin))
    _check_ranges(ranges, file_bytes - start, path)
    return entries


def _parse_field(name: str, field: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Element type, shape and byte range of one tensor, checked against each other."""
    if not isinstance(field, dict):
        raise InvalidModel("the safetensors header does not describe it", tensor=name)
    code, shape, offsets = field.get("dtype"), field.get("shape"), field.get("data_offsets")
    if not isinstance(code, str) or code not in _DTYPES:
        raise InvalidModel(f"values of the safetensors type {code} are not supported", tensor=name)
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise InvalidModel("the safetensors header gives no valid shape and data_offsets", tensor=name)
    begin, end = offsets
    dtype = _DTYPES[code]
    expected_bytes = math.prod(shape) * dtype.itemsize
    if end - begin != expected_bytes:
        raise InvalidModel(f"has {end - begin} bytes in the file, its shape needs {expected_bytes}", tensor=name)
    return dtype, tuple(shape), begin, end


def _are_sizes(value: Any) -> TypeGuard[list[int]]:
    """Whether ``value`` is a list of integers of at least 0."""
    return isinstance(value, list) and all(type(n) is int and n >= 0 for n in value)


def _check_ranges(ranges: list[tuple[int, int, str]], data_bytes: int, path: Path) -> None:
    """Raise unless the byte ranges cover the data once, without gaps."""
    position = 0
    for begin, end, name in sorted(ranges):
        if begin != position:
            raise InvalidModel("the safetensors header leaves a gap before it or overlaps it", tensor=name)
        position = end
    if position > data_bytes:
        raise InvalidModel(f"{path} is truncated: {position - data_bytes} bytes are missing")
    if position < data_bytes:
        raise InvalidModel(f"{path} has {data_bytes - position} bytes more than its header describes")


def _reader(file: _File, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> Callable[[], npt.NDArray[Any]]:
    """Read values at a position into an array of their own, so that nothing of the file stays in memory."""

    def read() -> npt.NDArray[Any]:
        value = np.empty(shape, dtype.newbyteorder("<"))
        if value.size:
            file.read_into(value.reshape(-1).view(np.uint8).data, offset)
        return value

    return read


def _parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """Parse a JSON object in which no key appears twice."""
    try:
        content = json.loads(data.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise InvalidModel(f"{path} is damaged: its JSON cannot be read ({error})") from error
    if not isinstance(content, dict):
        raise InvalidModel(f"{path} is damaged: its JSON is not an object")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        seen: set[str] = set()
        name = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidModel("the name is given twice", tensor=name)
    return content


def write(tensors: LazyTensors, file: BinaryIO) -> None:
    """Write tensors as a safetensors file, one after the other.

    The header lists the tensors in the given order, while their values are laid out by falling element size, so that
    every reader finds them aligned. ``format: pt`` in the metadata is what transformers asks for.

    Raises:
        InvalidModel: a name is not possible in this format.
    """
    names = tensors.names
    dtypes = {name: tensors.dtype(name) for name in names}
    layout = sorted(names, key=lambda name: -dtypes[name].itemsize)  # stable
    ranges: dict[str, tuple[int, int]] = {}
    position = 0
    for name in layout:
        ranges[name] = position, position + math.prod(tensors.shape(name)) * dtypes[name].itemsize
        position = ranges[name][1]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    for name in names:
        if name == "__metadata__":
            raise InvalidModel("safetensors files use this name for themselves", tensor=name)
        shape = list(tensors.shape(name))
        header[name] = {"dtype": _CODES[dtypes[name]], "shape": shape, "data_offsets": list(ranges[name])}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for array in tensors.iterate(layout):
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        file.write(little.reshape(-1).view(np.uint8).data)
