"""The difference between two models, and a model from its base and a difference."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.codec.record import Record
from netpress.errors import BaseMismatch
from netpress.formats import Entry, Source

__all__ = ["Difference", "apply_difference", "fingerprint", "make_difference", "read_model"]

Array = npt.NDArray[Any]
_CONSTANT_PRECISION = 2e-6  # twice the relative error of a coded constant


def read_model(source: Source) -> dict[str, Array]:
    """Load all tensors of a source."""
    return {name: source.load(name) for name in source.names}


def fingerprint(model: Mapping[str, Array]) -> str:
    """Return a hash of names, types, shapes and values, in any order of the tensors: 16 hexadecimal digits."""
    total = hashlib.sha256()
    for name in sorted(model):
        value = np.ascontiguousarray(model[name])
        total.update(f"{name}\0{value.dtype.name}\0{value.shape}\0".encode("utf-8", "surrogatepass"))
        total.update(value.reshape(-1).view(np.uint8).data if value.size else b"")
    return total.hexdigest()[:16]


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """What an update codes: differences, or new values for the tensors in ``complete``.

    ``source`` holds what is coded, ``new`` the new model; ``base`` is the fingerprint of the model it builds on.
    """

    source: Source
    new: Source
    complete: frozenset[str]
    removed: tuple[str, ...]
    base: str

    def record(self) -> Record:
        """Return what the record of the update says about its base."""
        return Record(base=self.base, removed=list(self.removed))


def make_difference(new: Source, base: Mapping[str, Array]) -> Difference:
    """Subtract a base from a model, tensor by tensor.

    A float tensor's difference is taken in float32. An integer tensor's is exact; where it leaves 32 bits, for tensors
    whose values become all the same, for floats of which some are so much smaller than before that the sum would be
    zero, and for tensors that the base does not have in this shape and kind of type, the new value is coded instead.

    Args:
        new: the model.
        base: what the receiver holds, by name.
    """
    entries: dict[str, Entry] = {}
    complete = set()
    for name in new.names:
        value, old = new.load(name), base.get(name)
        difference = None if old is None else _difference(value, np.asarray(old))
        if difference is None:
            complete.add(name)
            difference = value
        entries[name] = Entry(difference.shape, difference.dtype, new.kind(name), _constant(difference))
    removed = tuple(name for name in base if name not in entries)
    source = Source(entries, new.origin, torch_module=new.torch_module)
    return Difference(source, new, frozenset(complete), removed, fingerprint(base))


def _constant(value: Array) -> Any:
    return lambda: value


def _is_integer(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biu"


def _difference(value: Array, old: Array) -> Array | None:
    if value.shape != old.shape or value.dtype != old.dtype:
        return None
    if not _is_integer(value.dtype):
        if _becomes_constant(value, old):
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            single = old.astype(np.float32)
            difference: Array = value.astype(np.float32) - single
            lost = (single + difference == 0) & (value != 0)
        return None if lost.any() or not np.isfinite(difference).all() else difference
    if value.dtype == np.uint64 or not value.size:
        return None if value.size and not np.array_equal(value, old) else np.zeros(value.shape, np.int32)
    wide = value.astype(np.int64) - old.astype(np.int64)
    # int64 differences may wrap; the sum then wraps back, but only if the difference itself is exact in 32 bits.
    fits = int(wide.min()) >= -(2**31) and int(wide.max()) < 2**31
    return wide.astype(np.int32) if fits else None


def _becomes_constant(value: Array, old: Array) -> bool:
    """Whether all new values are one and the old ones are not: the step suits that value, not the way there."""
    if not value.size or not np.all(value == value.reshape(-1)[0]):
        return False
    constant = np.float64(value.reshape(-1)[0])
    return not np.allclose(old.astype(np.float64), constant, rtol=_CONSTANT_PRECISION, atol=0)


def apply_difference(
    decoded: Mapping[str, Array], record: Record | None, complete: frozenset[str], base: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the new model.

    Args:
        decoded: the tensors of an update.
        record: what the update says about its base; None for an update of another encoder.
        complete: names of decoded tensors that are new values.
        base: the model that the update builds on; its tensors are not changed.

    Raises:
        BaseMismatch: it is not the base that the update was made for, or a shape differs.
    """
    if record is not None and record.base is not None and record.base != fingerprint(base):
        raise BaseMismatch("the update was made for another base model: wrong file, or an update in between is missing")
    removed = set() if record is None else set(record.removed)
    result: dict[str, Array] = {}
    for name, old in base.items():
        if name in removed:
            continue
        if name not in decoded:
            result[name] = old
        elif name in complete:
            result[name] = decoded[name]
        else:
            result[name] = _sum(name, np.asarray(old), decoded[name])
    for name, value in decoded.items():
        if name not in result:
            if record is not None and name not in complete:
                raise BaseMismatch(f"the update changes tensor {name!r}, which the base model does not have")
            result[name] = value
    return result


def _sum(name: str, old: Array, difference: Array) -> Array:
    if difference.size != old.size:
        raise BaseMismatch(f"tensor {name!r} has shape {old.shape} in the base, but {difference.shape} in the update")
    difference = difference.reshape(old.shape)
    if _is_integer(old.dtype) != _is_integer(difference.dtype):
        raise BaseMismatch(f"tensor {name!r} is of type {old.dtype} in the base, but {difference.dtype} in the update")
    if _is_integer(old.dtype):
        return np.asarray(old.astype(np.int64) + difference).astype(old.dtype)
    with np.errstate(over="ignore"):
        total: Array = np.asarray(
            old.astype(np.float32) + difference
        )  # the sum of arrays without a dimension is not an array
    return total.astype(old.dtype)
