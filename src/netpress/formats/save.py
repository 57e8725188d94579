"""Writing arrays as a model file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig
from netpress.files import atomic_writer
from netpress.formats import npz, pytorch, safetensors
from netpress.formats.source import Entry, LazyTensors, Source, check_dtype, check_name, plain_kind

__all__ = ["OUTPUT_FORMATS", "output_format", "save_tensors", "write_tensors"]

_WRITERS: dict[str, Callable[[LazyTensors, BinaryIO], None]] = {
    "safetensors": safetensors.write,
    "npz": npz.write,
    "pt": pytorch.write,
}

OUTPUT_FORMATS: tuple[str, ...] = tuple(_WRITERS)
"""The formats that :func:`save_tensors` writes; each is also the extension of its files."""

_EXTENSIONS = {".safetensors": "safetensors", ".npz": "npz", ".pt": "pt", ".pth": "pt"}


def output_format(path: str | os.PathLike[str]) -> str:
    """Return the format, one of :data:`OUTPUT_FORMATS`, that the extension of ``path`` asks for.

    Raises:
        InvalidConfig: netpress does not write such files.
    """
    suffix = PurePath(path).suffix.lower()
    if suffix not in _EXTENSIONS:
        supported = ", ".join(_EXTENSIONS)
        raise InvalidConfig(f"cannot write {os.fspath(path)}: give it one of the extensions {supported}")
    return _EXTENSIONS[suffix]


def save_tensors(tensors: Mapping[str, npt.NDArray[Any]] | LazyTensors, path: str | os.PathLike[str]) -> None:
    """Write arrays as a model file, in the format of its extension; the file appears complete or not at all.

    Order, names, shapes (0-d and empty ones too) and element types are kept.

    Args:
        tensors: name -> array, of the types in :data:`netpress.formats.SUPPORTED_DTYPES`; or tensors that are made
            while they are written, so that they are never all in memory (but for .pt).
        path: a file ending in .safetensors, .npz, .pt or .pth.

    Raises:
        InvalidConfig: the extension is unknown.
        InvalidModel: the format cannot hold one of the tensors, or PyTorch is missing.
        OSError: the file cannot be written.

    Example:
        >>> import os, tempfile
        >>> import numpy as np
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = os.path.join(folder, "model.safetensors")
        ...     save_tensors({"w": np.eye(2, dtype=np.float32)}, path)
        ...     os.path.getsize(path) > 16
        True
    """
    format_name = output_format(path)
    arrays = _prepare(tensors)
    with atomic_writer(path) as file:
        _WRITERS[format_name](arrays, file)


def write_tensors(tensors: Mapping[str, npt.NDArray[Any]] | LazyTensors, file: BinaryIO, format_name: str) -> None:
    """Write arrays to an open binary file or pipe; ``format_name`` is one of :data:`OUTPUT_FORMATS`.

    Raises:
        InvalidConfig: the format is unknown.
        InvalidModel: the format cannot hold one of the tensors, or PyTorch is missing.
        OSError: writing fails.
    """
    if format_name not in _WRITERS:
        raise InvalidConfig(f"cannot write the format {format_name!r}, only {', '.join(OUTPUT_FORMATS)}")
    _WRITERS[format_name](_prepare(tensors), file)


def _prepare(tensors: Mapping[str, npt.NDArray[Any]] | LazyTensors) -> LazyTensors:
    """Check names and types; make arrays contiguous and of native byte order where they are not."""
    if not isinstance(tensors, Mapping):
        for name in tensors.names:
            check_name(name)
            check_dtype(tensors.dtype(name), name)
        return tensors
    entries: dict[str, Entry] = {}
    for name, value in tensors.items():
        check_name(name)
        array = np.asarray(value)
        entries[name] = Entry(array.shape, check_dtype(array.dtype, name), plain_kind(array.shape), _constant(array))
    return Source(entries, "dict")


def _constant(array: npt.NDArray[Any]) -> Callable[[], npt.NDArray[Any]]:
    return lambda: array
