"""numpy's .npz archives: a zip file with one .npy file for each array."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel
from netpress.formats.source import Entry, LazyTensors, Source, check_dtype, check_name, is_numpy_dtype, plain_kind

__all__ = ["open_file", "write"]

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)
"""What zipfile and numpy raise on archives that are damaged, encrypted or of an unknown compression."""


def open_file(path: Path) -> Source:
    """Open a .npz file; tensors come in the order of the archive.

    Raises:
        InvalidModel: the file is damaged or holds arrays of Python objects or of an unsupported type.
        OSError: the file cannot be read.
    """
    try:
        archive = zipfile.ZipFile(path)
    except _DAMAGE as error:
        raise InvalidModel(f"{path} is not an .npz file, or is damaged ({error})") from error
    entries: dict[str, Entry] = {}
    try:
        for info in archive.infolist():
            name = check_name(info.filename.removesuffix(".npy"))
            if name == info.filename:
                raise InvalidModel(f"{path} holds a file that is not an array: {name!r}")
            if name in entries:
                raise InvalidModel("the name is given twice", tensor=name)
            entries[name] = _entry(archive, info, name)
    except BaseException:
        archive.close()
        raise
    return Source(entries, "npz", close=archive.close)


def _entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Entry:
    """Read the header of one array and compare its size with that of the archive's member."""
    try:
        with archive.open(info) as member:
            version = np.lib.format.read_magic(member)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(member)
            elif version == (2, 0):
                shape, _, dtype = np.lib.format.read_array_header_2_0(member)
            else:
                raise InvalidModel(f"is written in version {version} of numpy's format", tensor=name)
            header_bytes = member.tell()
    except _DAMAGE as error:
        raise InvalidModel(f"is damaged or not readable ({error})", tensor=name) from error
    native = check_dtype(dtype, name)
    expected_bytes = math.prod(shape) * dtype.itemsize
    if info.file_size - header_bytes != expected_bytes:
        found = info.file_size - header_bytes
        raise InvalidModel(f"has {found} bytes in the file, its shape needs {expected_bytes}", tensor=name)
    return Entry(shape, native, plain_kind(shape), _reader(archive, info, name))


def _reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Callable[[], npt.NDArray[Any]]:
    def read() -> npt.NDArray[Any]:
        try:
            with archive.open(info) as member:
                array: npt.NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        except _DAMAGE as error:
            raise InvalidModel(f"is damaged or not readable ({error})", tensor=name) from error
        return array

    return read


def write(tensors: LazyTensors, file: BinaryIO) -> None:
    """Write tensors as an uncompressed .npz file, one after the other.

    Raises:
        InvalidModel: numpy's format has no name for the type of an array (bfloat16 and the 8-bit floats).
    """
    names = tensors.names
    for name in names:
        if not is_numpy_dtype(tensors.dtype(name)):
            message = f".npz files cannot hold values of type {tensors.dtype(name)}; write .safetensors or .pt"
            raise InvalidModel(message, tensor=name)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in zip(names, tensors.iterate(names), strict=True):
            info = zipfile.ZipInfo(f"{name}.npy")  # dated 1980: equal models give equal files
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
