"""Files that hold the state of a server, a client or an accumulator: JSON and arrays in one npz file."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from netpress.codec.update_state import UpdateState
from netpress.errors import InvalidBitstream
from netpress.files import atomic_writer
from netpress.formats.source import is_numpy_dtype

__all__ = ["pack_state", "read_state", "unpack_state", "update_state_from", "update_state_to", "write_state"]

Array = npt.NDArray[Any]
_VERSION = 1


def pack_state(kind: str, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """Return facts (JSON) and arrays (of the types that :func:`netpress.encode` takes) as one npz file."""
    names = list(arrays)
    head = {
        "format": kind,
        "v": _VERSION,
        "names": names,
        "types": [arrays[name].dtype.name for name in names],
        "facts": dict(facts),
    }
    content = {"head": np.frombuffer(json.dumps(head).encode(), np.uint8)}
    for i, name in enumerate(names):
        value = np.ascontiguousarray(arrays[name]).reshape(arrays[name].shape)
        content[f"a{i}"] = value if is_numpy_dtype(value.dtype) else value.view(f"u{value.dtype.itemsize}")
    sink = io.BytesIO()
    np.savez(sink, **content)  # type: ignore[arg-type]
    return sink.getvalue()


def unpack_state(data: bytes, kind: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Inverse of :func:`pack_state`.

    Raises:
        InvalidBitstream: the data is damaged or of another kind.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as content:
            head = json.loads(content["head"].tobytes())
            if head["format"] != kind or head["v"] != _VERSION:
                raise ValueError(f"it is not a state of version {_VERSION} of a {kind}")
            arrays = {}
            for i, (name, type_name) in enumerate(zip(head["names"], head["types"], strict=True)):
                value = content[f"a{i}"]
                own = np.dtype(getattr(ml_dtypes, type_name)) if hasattr(ml_dtypes, type_name) else np.dtype(type_name)
                arrays[str(name)] = value if value.dtype == own else value.view(own)
            return dict(head["facts"]), arrays
    except (ValueError, TypeError, LookupError, AttributeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise InvalidBitstream(f"the saved state is damaged: {e}") from None


def write_state(path: str | os.PathLike[str], kind: str, facts: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write a state to a file that appears complete or not at all."""
    with atomic_writer(path) as file:
        file.write(pack_state(kind, facts, arrays))


def read_state(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read what :func:`write_state` wrote.

    Raises:
        InvalidBitstream: the file is damaged or of another kind.
        OSError: the file cannot be read.
    """
    return unpack_state(Path(path).read_bytes(), kind)


def update_state_to(state: UpdateState, prefix: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the state of a sequence of updates as facts and arrays, whose names begin with ``prefix``."""
    facts = {"depths": state.depths, "parameter_ids": state.parameter_ids, "device_id": state.device_id}
    arrays: dict[str, Array] = {f"{prefix}levels/{name}": value for name, value in state.levels.items()}
    # A history holds one bit for each value.
    arrays.update({f"{prefix}history/{name}": np.packbits(value) for name, value in state.histories.items()})
    return facts, arrays


def update_state_from(facts: Mapping[str, Any], arrays: Mapping[str, Array], prefix: str) -> UpdateState:
    """Inverse of :func:`update_state_to`.

    Raises:
        InvalidBitstream: the facts do not fit the arrays.
    """
    state = UpdateState()
    try:
        for key, value in arrays.items():
            if key.startswith(prefix + "levels/"):
                state.levels[key.removeprefix(prefix + "levels/")] = value
        for name, levels in state.levels.items():
            bits = arrays.get(f"{prefix}history/{name}")
            if bits is not None:
                state.histories[name] = np.unpackbits(bits, count=levels.size)
        state.depths = {str(name): int(depth) for name, depth in facts["depths"].items()}
        state.parameter_ids = {str(name): int(i) for name, i in facts["parameter_ids"].items()}
        state.device_id = facts["device_id"]
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise InvalidBitstream(f"the saved state is damaged: {error}") from None
    return state
