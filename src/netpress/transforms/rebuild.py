"""How weights of the original network come from tensors that a recipe made of them.

The standard multiplies factors and scalings itself. What it has no syntax for is described by rebuild steps, which the
encoder notes in the record: a weight that was unfolded along other dimensions, a Tucker decomposition, channels that
were removed. A decoder that is asked to reconstruct applies them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel

__all__ = ["Rebuild", "Scatter", "Transpose", "Tucker", "rebuild_from_json", "rebuild_to_json"]

Array = npt.NDArray[Any]
MAX_DIMENSIONS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Transpose:
    """The weight ``name`` is coded with its dimensions in another order: undone by ``coded.transpose(axes)``."""

    name: str
    axes: tuple[int, ...]

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that this step needs; they are no longer in the result."""
        return (self.name,)

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Return the shape of the result.

        Raises:
            InvalidModel: the step does not fit the shapes of its sources.
        """
        (shape,) = shapes
        if sorted(self.axes) != list(range(len(shape))):
            raise InvalidModel(f"axes {self.axes} do not fit shape {shape}", tensor=self.name)
        return tuple(shape[axis] for axis in self.axes)

    def build(self, arrays: Sequence[Array]) -> Array:
        """Return the weight, C-contiguous, from its sources."""
        return np.ascontiguousarray(arrays[0].transpose(self.axes))


@dataclasses.dataclass(frozen=True, slots=True)
class Tucker:
    """A Tucker-2 decomposition: ``W[o, i, ...] = sum over a, b of left[o, a] core[a, b, ...] right[b, i]``.

    The tensors are called ``<name>_left``, ``<name>_core`` and ``<name>_right``.
    """

    name: str

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that this step needs; they are no longer in the result."""
        return self.name + "_left", self.name + "_core", self.name + "_right"

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Return the shape of the result.

        Raises:
            InvalidModel: the step does not fit the shapes of its sources.
        """
        left, core, right = shapes
        if len(left) != 2 or len(right) != 2 or len(core) < 2 or core[:2] != (left[1], right[0]):
            raise InvalidModel(f"Tucker factors of shapes {left}, {core}, {right} do not fit", tensor=self.name)
        return (left[0], right[1], *core[2:])

    def build(self, arrays: Sequence[Array]) -> Array:
        """Return the weight, float32 and C-contiguous, from its sources."""
        left, core, right = (array.astype(np.float32, copy=False) for array in arrays)
        middle = np.tensordot(left, core, axes=(1, 0))
        weight: Array = np.moveaxis(np.tensordot(middle, right, axes=(1, 0)), -1, 1)
        return np.ascontiguousarray(weight)


@dataclasses.dataclass(frozen=True, slots=True)
class Scatter:
    """Channels were removed; they become zero again.

    ``removed`` lists, for each dimension that lost some, the runs ``(start, length)`` of what is missing, in order and
    apart from each other.
    """

    name: str
    full_shape: tuple[int, ...]
    removed: Mapping[int, tuple[tuple[int, int], ...]]

    @classmethod
    def keeping(
        cls, name: str, full_shape: Sequence[int], kept: Mapping[int, Sequence[int] | npt.NDArray[Any]]
    ) -> Scatter:
        """Describe what is missing by what stayed: by dimension, its positions in rising order."""
        removed = {}
        for dimension, positions in kept.items():
            gone = np.ones(full_shape[dimension], bool)
            gone[np.asarray(positions, np.int64)] = False
            edges = np.flatnonzero(np.diff(np.concatenate([[False], gone, [False]])))
            pairs = zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
            if runs := tuple((start, end - start) for start, end in pairs):
                removed[dimension] = runs
        return cls(name, tuple(full_shape), removed)

    @property
    def sources(self) -> tuple[str, ...]:
        """Names of the tensors that this step needs; they are no longer in the result."""
        return (self.name,)

    def shape(self, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Return the shape of the result.

        Raises:
            InvalidModel: the step does not fit the shapes of its sources.
        """
        (shape,) = shapes
        full = self.full_shape
        counts = {dimension: sum(length for _, length in runs) for dimension, runs in self.removed.items()}
        small = tuple(size - counts.get(dimension, 0) for dimension, size in enumerate(full))
        if small != shape or not all(0 <= dimension < len(full) for dimension in counts):
            raise InvalidModel(f"removed channels do not fit shapes {shape} and {full}", tensor=self.name)
        return full

    def build(self, arrays: Sequence[Array]) -> Array:
        """Return the tensor in its full shape."""
        full = np.zeros(self.full_shape, arrays[0].dtype)
        where = []
        for dimension, size in enumerate(self.full_shape):
            stays = np.ones(size, bool)
            for start, length in self.removed.get(dimension, ()):
                stays[start : start + length] = False
            where.append(np.flatnonzero(stays))
        full[np.ix_(*where)] = arrays[0]
        return full


Rebuild = Transpose | Tucker | Scatter
"""One step; it makes the tensor ``name``."""


def rebuild_to_json(step: Rebuild) -> list[Any]:
    """Return a step as a list for the record."""
    if isinstance(step, Transpose):
        return ["transpose", step.name, list(step.axes)]
    if isinstance(step, Tucker):
        return ["tucker", step.name]
    return ["scatter", step.name, list(step.full_shape), {str(d): _flat(runs) for d, runs in step.removed.items()}]


def rebuild_from_json(content: Any) -> Rebuild:
    """Inverse of :func:`rebuild_to_json`.

    Raises:
        ValueError, TypeError: the list is not a step.
    """
    kind, name, *rest = content
    if not isinstance(name, str):
        raise TypeError("a rebuild step has no name")
    if kind == "tucker" and not rest:
        return Tucker(name)
    if kind == "transpose":
        (axes,) = rest
        if len(axes) > MAX_DIMENSIONS:
            raise ValueError("a rebuild step has too many dimensions")
        return Transpose(name, tuple(int(axis) for axis in axes))
    if kind == "scatter":
        shape, gone = rest
        full = tuple(int(size) for size in shape)
        if len(full) > MAX_DIMENSIONS or any(not 0 <= size < 2**31 for size in full):
            raise ValueError("a rebuild step has an impossible shape")
        return Scatter(name, full, {int(d): _runs(flat, full[int(d)]) for d, flat in gone.items()})
    raise ValueError(f"rebuild step {kind!r} is not known")


def _flat(runs: Sequence[tuple[int, int]]) -> list[int]:
    """Write runs as lengths: of what stays before the first, of the first, of what stays before the second ..."""
    flat: list[int] = []
    end = 0
    for start, length in runs:
        flat += [start - end, length]
        end = start + length
    return flat


def _runs(flat: Sequence[int], size: int) -> tuple[tuple[int, int], ...]:
    """Inverse of :func:`_flat`, for a dimension of a given size."""
    if len(flat) % 2:
        raise ValueError("a list of runs is cut off")
    runs = []
    end = 0
    for stays, length in zip(flat[::2], flat[1::2], strict=True):
        if int(stays) < 0 or int(length) < 1 or end + int(stays) + int(length) > size:
            raise ValueError("a list of runs leaves its range")
        runs.append((end + int(stays), int(length)))
        end += int(stays) + int(length)
    return tuple(runs)
