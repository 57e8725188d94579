"""How the tensors of a model travel in an update: few large ones, whose names are numbers.

An update is small, so that a header with a name for each of a hundred tensors, and contexts that learn anew in each,
would be much of it. Both ends hold the model. They join its tensors in the same way:

- matrices of the same row length, up to 2**20 values together;
- float vectors and scalars of the same role;
- running means, in deviations of their channel, and running variances, relative to them. They are the values of the
  model that both hold, so that one step suits all layers;
- integers of all types, as 32-bit words of their differences, the upper words apart.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel
from netpress.formats import open_source
from netpress.formats.source import SUPPORTED_DTYPES

__all__ = ["Group", "GroupKind", "Layout", "Model", "in_range", "is_integer", "read_arrays"]

Array = npt.NDArray[Any]
Model = dict[str, Array]

_MOST_JOINED = 1 << 20
_EPSILON = 1e-5
_MOST_RELATIVE = np.float32(1e6)
_MEANS, _VARIANCES = ("running_mean", "moving_mean"), ("running_var", "moving_variance")


class GroupKind(enum.Enum):
    """What the tensors of a group have in common."""

    WEIGHTS = "weights"
    VECTORS = "vectors"
    MEANS = "running means"
    VARIANCES = "running variances"
    INTEGERS = "integers"
    UPPER_WORDS = "upper words of integers"


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Tensors that are coded as one, ``name`` in the stream; ``shape`` is that of all together."""

    name: str
    kind: GroupKind
    members: tuple[str, ...]
    shape: tuple[int, ...]


def is_integer(dtype: np.dtype[Any]) -> bool:
    """Whether values of a type are coded without loss."""
    return dtype.kind in "biu"


def read_arrays(source: Any) -> Model:
    """Return the tensors of a model in the forms that :func:`netpress.encode` takes, as copies of its own.

    Raises:
        InvalidModel: a tensor cannot be coded; names it.
    """
    with open_source(source) as model:
        return {name: np.array(model.load(name)) for name in model.names}


class Layout:
    """Names, shapes and types of a model, and the groups in which its changes travel.

    Args:
        model: the arrays, of the types that :func:`netpress.encode` takes.

    Raises:
        InvalidModel: the model is empty, or a type is not supported.
    """

    def __init__(self, model: Mapping[str, Array]) -> None:
        if not model:
            raise InvalidModel("the model holds no tensors")
        for name, value in model.items():
            if value.dtype not in SUPPORTED_DTYPES:
                raise InvalidModel(f"values of type {value.dtype} are not supported", tensor=name)
        self.shapes = {name: value.shape for name, value in model.items()}
        self.dtypes = {name: value.dtype for name, value in model.items()}
        self.groups = _grouped(self.shapes, self.dtypes)
        self._variance_of = _variances_of_means(self.shapes, self.dtypes)

    @staticmethod
    def is_statistic(name: str) -> bool:
        """Whether a tensor holds running statistics of a batch norm, by its name."""
        return name.endswith((*_MEANS, *_VARIANCES))

    @property
    def values(self) -> int:
        """Number of values of the model."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def float_bytes(self) -> int:
        """Size of the model as it is without compression."""
        return sum(math.prod(shape) * self.dtypes[name].itemsize for name, shape in self.shapes.items())

    def is_like(self, other: Layout) -> bool:
        """Whether another layout has the same tensors in the same order."""
        own, others = list(self.shapes.items()), list(other.shapes.items())
        return own == others and self.dtypes == other.dtypes

    def check(self, model: Mapping[str, Array]) -> None:
        """Compare a model with the layout.

        Raises:
            InvalidModel: a tensor is missing, new, or of another shape or type; names it.
        """
        for name in self.shapes:
            if name not in model:
                raise InvalidModel("is missing in the new model", tensor=name)
        for name, value in model.items():
            if name not in self.shapes:
                raise InvalidModel("is not in the model that the federation trains", tensor=name)
            if value.shape != self.shapes[name] or value.dtype != self.dtypes[name]:
                expected = f"{self.dtypes[name]} {self.shapes[name]}"
                raise InvalidModel(f"is {value.dtype} {value.shape}, not {expected}", tensor=name)

    def difference(self, new: Mapping[str, Array], old: Mapping[str, Array]) -> Model:
        """Return the change of every tensor, float32, or int64 (modulo 2**64) for integers."""
        changes = {}
        for name, dtype in self.dtypes.items():
            kind = np.int64 if is_integer(dtype) else np.float32
            with np.errstate(over="ignore", invalid="ignore"):
                changes[name] = np.asarray(new[name].astype(kind) - old[name].astype(kind))
        return changes

    def applied(self, old: Mapping[str, Array], changes: Mapping[str, Array]) -> Model:
        """Return a model after a change, in which tensors may be missing; the same bits on every machine."""
        result = {}
        for name, dtype in self.dtypes.items():
            if name not in changes:
                result[name] = old[name]
                continue
            kind = np.int64 if is_integer(dtype) else np.float32
            with np.errstate(over="ignore", invalid="ignore"):
                value = np.asarray(old[name].astype(kind) + changes[name])
                if name.endswith(_VARIANCES):
                    value = np.maximum(value, np.minimum(old[name].astype(kind), 0))
                result[name] = (value if is_integer(dtype) else in_range(value, dtype)).astype(dtype)
        return result

    def pack(self, changes: Mapping[str, Array], held: Mapping[str, Array]) -> Model:
        """Join the changes of a model by group.

        Args:
            changes: from :meth:`difference`.
            held: the model that both ends hold.

        Returns:
            float32 or int32 arrays by name of their group.
        """
        packed = {}
        for group in self.groups:
            parts = [self._part(group.kind, name, changes[name], held) for name in group.members]
            packed[group.name] = np.concatenate([part.reshape((-1, *group.shape[1:])) for part in parts])
        return packed

    def unpack(self, packed: Mapping[str, Array], held: Mapping[str, Array]) -> Model:
        """Inverse of :meth:`pack`, for what was decoded; ``packed`` has the shapes of the groups."""
        changes: Model = {}
        for group in self.groups:
            sizes = [math.prod(self.shapes[name]) for name in group.members]
            value = packed.get(group.name)
            flat = np.zeros(sum(sizes), np.float32) if value is None else value.reshape(-1)
            for name, part in zip(group.members, np.split(flat, np.cumsum(sizes)[:-1]), strict=True):
                part = part.reshape(self.shapes[name])
                if group.kind is GroupKind.UPPER_WORDS:
                    changes[name] = np.asarray(changes[name] + (part.astype(np.int64) << 32))
                elif group.kind is GroupKind.INTEGERS:
                    changes[name] = part.astype(np.int64)
                else:
                    with np.errstate(over="ignore"):
                        changes[name] = np.asarray(part * self._scale(group.kind, name, held), np.float32)
        return changes

    def _part(self, kind: GroupKind, name: str, change: Array, held: Mapping[str, Array]) -> Array:
        if kind is GroupKind.INTEGERS:
            return change.astype(np.int32)  # the lower word, as a number with a sign
        if kind is GroupKind.UPPER_WORDS:
            return np.asarray((change - change.astype(np.int32)) >> 32).astype(np.int32)
        with np.errstate(over="ignore"):
            part = np.asarray(change / self._scale(kind, name, held), np.float32)
        # A variance next to zero must not make a number that no step can code; the rest comes with the next update.
        return (
            part if kind in (GroupKind.WEIGHTS, GroupKind.VECTORS) else np.clip(part, -_MOST_RELATIVE, _MOST_RELATIVE)
        )

    def _scale(self, kind: GroupKind, name: str, held: Mapping[str, Array]) -> Any:
        """What a change is measured in: float32, from the model that both ends hold."""
        if kind is GroupKind.MEANS:
            variance = held[self._variance_of[name]]
        elif kind is GroupKind.VARIANCES:
            variance = held[name]
        else:
            return np.float32(1)
        spread = np.maximum(np.nan_to_num(variance.astype(np.float32)), np.float32(0)) + np.float32(_EPSILON)
        return np.sqrt(spread) if kind is GroupKind.MEANS else spread


def in_range(value: Array, dtype: np.dtype[Any]) -> Array:
    """Return float values that a type can hold: none becomes infinite."""
    largest = np.float32(min(float(ml_dtypes.finfo(dtype).max), float(np.finfo(np.float32).max)))  # type: ignore[no-untyped-call]
    return np.asarray(np.clip(value, -largest, largest))


def _grouped(shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, np.dtype[Any]]) -> tuple[Group, ...]:
    joined: dict[tuple[Any, ...], list[str]] = {}
    sizes: dict[tuple[Any, ...], int] = {}
    means = _variances_of_means(shapes, dtypes)
    variances = set(means.values())
    part = 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        if not size:
            continue
        key: tuple[Any, ...]
        if is_integer(dtypes[name]):
            key = (GroupKind.INTEGERS,)
        elif name in means or name in variances:
            key = (GroupKind.MEANS if name in means else GroupKind.VARIANCES,)
        elif len(shape) > 1 and shape[0] > 1 and size > shape[0]:
            columns = size // shape[0]
            key = (GroupKind.WEIGHTS, columns, part)
            if sizes.get(key, 0) + size > _MOST_JOINED:
                part += 1
                key = (GroupKind.WEIGHTS, columns, part)
        else:
            key = (GroupKind.VECTORS, name.rpartition(".")[2])
        joined.setdefault(key, []).append(name)
        sizes[key] = sizes.get(key, 0) + size
    groups: list[tuple[GroupKind, tuple[str, ...], tuple[int, ...]]] = []
    for key, members in joined.items():
        total = sizes[key]
        shape = (total // key[1], key[1]) if key[0] is GroupKind.WEIGHTS else (total,)
        groups.append((key[0], tuple(members), shape))
        if key[0] is GroupKind.INTEGERS:
            groups.append((GroupKind.UPPER_WORDS, tuple(members), shape))
    return tuple(Group(str(i), *group) for i, group in enumerate(groups))


def _variances_of_means(shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, str]:
    """Return the running variance beside each running mean, by name."""
    pairs = {}
    for name, shape in shapes.items():
        for mean, variance in zip(_MEANS, _VARIANCES, strict=True):
            beside = name.removesuffix(mean) + variance
            fits = name.endswith(mean) and shapes.get(beside) == shape
            if fits and not is_integer(dtypes[name]) and not is_integer(dtypes[beside]):
                pairs[name] = beside
    return pairs
