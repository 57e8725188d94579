"""Models that are dictionaries of arrays, tensors, lists or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel
from netpress.formats import pytorch
from netpress.formats.source import Entry, Source, check_dtype, check_name, plain_kind

__all__ = ["open_mapping"]


def open_mapping(model: Mapping[Any, Any]) -> Source:
    """Wrap a dictionary of numpy arrays, torch tensors, lists of numbers or numbers.

    Arrays and CPU tensors are not copied.

    Raises:
        InvalidModel: a name is not a string or a value is not an array of a supported type.
    """
    return Source({check_name(name): _entry(check_name(name), value) for name, value in model.items()}, "dict")


def _entry(name: str, value: Any) -> Entry:
    if pytorch.is_tensor(value):
        return pytorch.tensor_entry(name, value)
    array = _as_array(name, value)
    return Entry(array.shape, check_dtype(array.dtype, name), plain_kind(array.shape), lambda: array)


def _as_array(name: str, value: Any) -> npt.NDArray[Any]:
    if isinstance(value, Mapping):
        raise InvalidModel("is itself a dictionary; give one flat dictionary of arrays", tensor=name)
    if isinstance(value, np.ma.MaskedArray):
        raise InvalidModel("masked arrays are not supported; fill the masked values first", tensor=name)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidModel(f"is not an array of numbers ({error})", tensor=name) from error
    if array.dtype.kind == "O":
        raise InvalidModel(f"is not an array of numbers but {type(value).__name__}", tensor=name)
    return array
