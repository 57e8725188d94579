"""What every model format becomes: an ordered collection of named arrays, loaded one at a time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Protocol

import ml_dtypes
import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel
from netpress.parameters import ParameterKind

__all__ = [
    "SUPPORTED_DTYPES",
    "Entry",
    "LazyTensors",
    "Source",
    "check_dtype",
    "check_name",
    "is_numpy_dtype",
    "plain_kind",
]

SUPPORTED_DTYPES: tuple[np.dtype[Any], ...] = tuple(
    np.dtype(t)
    for t in (
        np.bool_,
        np.int8,
        np.uint8,
        np.int16,
        np.uint16,
        np.int32,
        np.uint32,
        np.int64,
        np.uint64,
        np.float16,
        np.float32,
        np.float64,
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e4m3fnuz,
        ml_dtypes.float8_e5m2fnuz,
        ml_dtypes.float8_e8m0fnu,
    )
)
"""The element types that a source may hold."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a source, not loaded yet.

    ``dtype`` is one of :data:`SUPPORTED_DTYPES` in native byte order; ``read`` returns the values in any memory layout.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    kind: ParameterKind
    read: Callable[[], npt.NDArray[Any]]


class LazyTensors(Protocol):
    """Named tensors that come one by one; a :class:`Source` and an opened stream are such."""

    @property
    def names(self) -> list[str]:
        """Names of all tensors, in the order of the model."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one tensor without making it."""

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the element type of one tensor without making it."""

    def iterate(self, names: Iterable[str]) -> Iterator[npt.NDArray[Any]]:
        """Yield tensors in an order of the caller's: C-contiguous, in native byte order."""


class Source:
    """A model to encode: named arrays in a fixed order, of which only the one asked for is in memory.

    Made by :func:`netpress.formats.open_source`. A file stays open until :meth:`close`, or until the source is
    forgotten; a source is also a context manager. Reading from several threads is safe.

    Attributes:
        origin: where the model comes from: ``"dict"``, ``"torch"``, ``"safetensors"``, ``"npz"`` or ``"pt"``.
        torch_module: the ``torch.nn.Module`` that was given, else None.
    """

    def __init__(
        self,
        entries: Mapping[str, Entry],
        origin: str,
        *,
        torch_module: object | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._entries = dict(entries)
        self._close = close
        self.origin = origin
        self.torch_module = torch_module

    @property
    def names(self) -> list[str]:
        """Names of all tensors, in the order of the model."""
        return list(self._entries)

    def load(self, name: str) -> npt.NDArray[Any]:
        """Return one tensor: C-contiguous, native byte order, aligned, never an array subclass.

        The array may share its memory with the model (or be mapped from its file) and may be read-only: do not write
        to it. Nothing is cached.

        Raises:
            KeyError: there is no such tensor.
            InvalidModel: the file is damaged.
        """
        entry = self._entries[name]
        value = np.require(entry.read(), dtype=entry.dtype, requirements=["C", "A"])
        if value.shape != entry.shape:
            raise InvalidModel(f"has shape {value.shape} instead of {entry.shape}", tensor=name)
        return value

    def iterate(self, names: Iterable[str]) -> Iterator[npt.NDArray[Any]]:
        """Yield tensors in an order of the caller's; see :meth:`load`."""
        for name in names:
            yield self.load(name)

    def replaced(self, values: Mapping[str, npt.NDArray[Any]]) -> Source:
        """Return a source with other values of some tensors, brought to their types; it shares the file with this one.

        Raises:
            KeyError: there is no such tensor.
        """
        entries = dict(self._entries)
        for name, value in values.items():
            entry = entries[name]
            entries[name] = dataclasses.replace(entry, read=functools.partial(value.astype, entry.dtype))
        return Source(entries, self.origin, torch_module=self.torch_module, close=self.close)

    def kind(self, name: str) -> ParameterKind:
        """Return the role of one tensor in the model.

        Raises:
            KeyError: there is no such tensor.
        """
        return self._entries[name].kind

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of one tensor without loading it.

        Raises:
            KeyError: there is no such tensor.
        """
        return self._entries[name].shape

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the element type of one tensor without loading it, one of :data:`SUPPORTED_DTYPES`.

        Raises:
            KeyError: there is no such tensor.
        """
        return self._entries[name].dtype

    def close(self) -> None:
        """Close the file behind the source; arrays that were loaded stay valid. Can be called more than once."""
        close, self._close = self._close, None
        if close is not None:
            close()

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __repr__(self) -> str:
        return f"<Source of {len(self)} tensors from {self.origin}>"


def plain_kind(shape: tuple[int, ...]) -> ParameterKind:
    """Role of a tensor of which only the shape is known: a weight when it has at least two dimensions."""
    return ParameterKind.WEIGHT if len(shape) > 1 else ParameterKind.UNSPECIFIED


def is_numpy_dtype(dtype: np.dtype[Any]) -> bool:
    """Whether numpy itself knows a supported type, rather than ml_dtypes (bfloat16 and the 8-bit floats)."""
    return issubclass(dtype.type, (np.number, np.bool_))


def check_name(name: object) -> str:
    """Return ``name`` if a stream can carry it, a string of Unicode characters without NUL; else raise."""
    if not isinstance(name, str):
        raise InvalidModel(f"tensor names are strings, not {type(name).__name__} ({name!r})")
    if "\0" in name:
        raise InvalidModel("the name contains a NUL character, which a stream cannot carry", tensor=name)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InvalidModel("the name is not valid Unicode", tensor=name) from None
    return str(name)


def check_dtype(dtype: np.dtype[Any], name: str) -> np.dtype[Any]:
    """Return ``dtype`` in native byte order if it is supported, else raise :class:`netpress.InvalidModel`."""
    native: np.dtype[Any] = dtype.newbyteorder("=")
    if native in SUPPORTED_DTYPES:
        return native
    if dtype.kind == "c":
        raise InvalidModel(f"complex values ({dtype}) are not supported; code real and imaginary parts", tensor=name)
    if dtype.type is np.void:
        raise InvalidModel(f"has no element type that numpy knows ({dtype}); was it bfloat16?", tensor=name)
    raise InvalidModel(f"values of type {dtype} are not supported", tensor=name)
