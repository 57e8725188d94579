"""The record: what decoding restores beyond the standard's fields.

The syntax carries float32 and int32 tensors with at least one dimension. Types, scalars, empty tensors, unusual
names, folded batch norms and wide integers are noted in a short text that travels in the topology unit, which other
decoders ignore. A model of plain float32 and int32 tensors needs no record at all. The format is described in
``docs/record.md``.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidBitstream
from netpress.parameters import Block
from netpress.transforms.batch_norm import unfold_block
from netpress.transforms.rebuild import Rebuild, rebuild_from_json, rebuild_to_json

__all__ = ["CodedTensor", "FoldedLayer", "Output", "Record"]

_WIDE_TYPES = ("int64", "uint64")
_PLAIN, _PACKED = b"netpress:", b"netpress-z:"
_PLAIN_TEXT_BYTES, _MOST_INFLATION = 1 << 20, 16
_MAX_POSITIONS = 1 << 18
_BN_SUFFIXES = (".bias", ".weight", ".running_mean", ".running_var")

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class FoldedLayer:
    """A layer whose batch norm was folded: positions of its tensors, and the four original names."""

    weight: int
    scaling: int
    bias: int
    own_bias: bool
    own_scaling: bool
    names: tuple[str, str, str, str]  # beta, gamma, mean, var
    epsilon: float


class CodedTensor(NamedTuple):
    """A decoded tensor before it is decoded: float32, or int32 if ``is_integer``."""

    name: str
    shape: tuple[int, ...]
    is_integer: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """One tensor of the restored model: made by ``build`` from the decoded tensors at ``sources``."""

    name: str
    sources: tuple[int, ...]
    build: Callable[[Sequence[Array]], Array]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclasses.dataclass(slots=True)
class Record:
    """What to restore. All positions count decoded tensors, in decoding order, from 0."""

    types: dict[int, str] = dataclasses.field(default_factory=dict)
    scalars: set[int] = dataclasses.field(default_factory=set)
    shapes: dict[int, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    names: dict[int, str] = dataclasses.field(default_factory=dict)
    upper_words: dict[int, int] = dataclasses.field(default_factory=dict)
    folded: list[FoldedLayer] = dataclasses.field(default_factory=list)
    order: list[int] = dataclasses.field(default_factory=list)
    base: str | None = None
    complete: set[int] = dataclasses.field(default_factory=set)
    """In an update: tensors that are new values, not differences."""
    has_sums: bool = False
    """Checksums follow at the end of the stream."""
    removed: list[str] = dataclasses.field(default_factory=list)
    """In an update: tensors of the base that the new model does not have."""
    rebuild: list[Rebuild] = dataclasses.field(default_factory=list)
    """How weights of the original network come from those of the stream, in this order."""
    recipe: dict[str, Any] | None = None
    """What was done to the network before it was coded."""

    def is_empty(self) -> bool:
        """Whether there is nothing to note."""
        return self == Record()

    def to_bytes(self) -> bytes:
        """Return the text for the topology unit: UTF-8 without NUL."""
        content: dict[str, Any] = {"v": 1}
        empty = Record()
        for field in _FIELDS:
            value = getattr(self, field.attribute)
            if value != getattr(empty, field.attribute):
                content[field.key] = field.to_json(value)
        text = json.dumps(content, separators=(",", ":")).encode()
        packed = base64.b85encode(zlib.compress(text, 9))
        pays = len(packed) + 2 < len(text) <= _text_limit(packed)
        return _PACKED + packed if pays else _PLAIN + text

    @classmethod
    def from_bytes(cls, data: bytes) -> Record | None:
        """Read the text of a topology unit; None if it is not a record of ours.

        Raises:
            InvalidBitstream: it begins like a record but is not one.
        """
        try:
            if data.startswith(_PACKED):
                packed = data[len(_PACKED) :]
                inflater = zlib.decompressobj()
                text = inflater.decompress(base64.b85decode(packed), _text_limit(packed))
                if not inflater.eof:
                    raise ValueError("packed text is cut off or too long")
            elif data.startswith(_PLAIN):
                text = data[len(_PLAIN) :]
            else:
                return None
            return cls._from_json(json.loads(text))
        except (ValueError, TypeError, LookupError, AttributeError, OverflowError, zlib.error, RecursionError) as error:
            raise InvalidBitstream(f"the record in the topology unit is damaged: {error}") from None

    @classmethod
    def _from_json(cls, content: dict[str, Any]) -> Record:
        if content["v"] != 1:
            raise ValueError(f"version {content['v']!r} is not known")
        positions = _PositionReader()
        record = cls()
        for field in _FIELDS:
            if field.key in content:
                setattr(record, field.attribute, field.from_json(content[field.key], positions))
        if any(0 not in shape or min(shape) < 0 for shape in record.shapes.values()):
            raise ValueError("only empty tensors have a shape of their own here")
        if any(record.types.get(low) not in _WIDE_TYPES for low in record.upper_words.values()):
            raise ValueError("only int64 and uint64 tensors come in two halves")
        record._check_uses()
        return record

    def _check_uses(self) -> None:
        """Check that no tensor is used twice where it may be used once only."""
        halves = [*self.upper_words, *self.upper_words.values()]
        vectors = [i for layer in self.folded for i in (layer.scaling, layer.bias)]
        weights = [layer.weight for layer in self.folded]
        once = halves + vectors
        if len(set(once)) != len(once) or not set(weights).isdisjoint(once):
            raise ValueError("a tensor is used twice")

    def outputs(self, coded: Sequence[CodedTensor]) -> list[Output]:
        """Return how the tensors of the model come from the decoded ones.

        Args:
            coded: the decoded tensors, in decoding order.

        Raises:
            InvalidBitstream: the record does not fit these tensors.
        """
        count = len(coded)
        positions: list[int] = [*self.types, *self.scalars, *self.shapes, *self.names, *self.complete]
        positions += [*self.upper_words, *self.upper_words.values()]
        for layer in self.folded:
            positions += [layer.weight, layer.scaling, layer.bias]
        if any(not 0 <= i < count for i in positions):
            raise InvalidBitstream("the record in the topology unit names a tensor that the stream does not have")
        upper = {low: high for high, low in self.upper_words.items()}
        replaced = {i for layer in self.folded for i in (layer.scaling, layer.bias)} | set(self.upper_words)
        outputs = []
        for i, tensor in enumerate(coded):
            if i in replaced:
                continue
            sources = (i, upper[i]) if i in upper else (i,)
            shape = () if i in self.scalars else self.shapes.get(i, tensor.shape)
            native = np.dtype(np.int32 if tensor.is_integer else np.float32)
            dtype = _dtype(self.types[i]) if i in self.types else native
            outputs.append(Output(self.names.get(i, tensor.name), sources, self._restorer(i), shape, dtype))
        for layer in self.folded:
            outputs.extend(_unfolded(layer, coded))
        if self.order:
            if sorted(self.order) != list(range(len(outputs))):
                raise InvalidBitstream("the order in the topology unit's record does not fit the stream")
            outputs = [outputs[i] for i in self.order]
        if len({output.name for output in outputs}) != len(outputs):
            raise InvalidBitstream("the record in the topology unit gives two tensors the same name")
        return outputs

    def _restorer(self, i: int) -> Callable[[Sequence[Array]], Array]:
        type_name, scalar, shape = self.types.get(i), i in self.scalars, self.shapes.get(i)
        if type_name is None and not scalar and shape is None:
            return _same
        return lambda arrays: _restore(arrays, type_name, scalar, shape)


def _same(arrays: Sequence[Array]) -> Array:
    return arrays[0]


def _restore(arrays: Sequence[Array], type_name: str | None, scalar: bool, shape: tuple[int, ...] | None) -> Array:
    value = arrays[0]
    if type_name is not None:
        value = _cast(value, _dtype(type_name), arrays[1] if len(arrays) > 1 else None)
    if scalar:
        if value.size != 1:
            raise InvalidBitstream("the record in the topology unit calls a tensor of several values a scalar")
        return value.reshape(())
    if shape is not None:
        if value.size:
            raise InvalidBitstream("the record in the topology unit calls a tensor with values empty")
        try:
            return value.reshape(shape)
        except ValueError as error:
            raise InvalidBitstream(f"the record in the topology unit has an impossible shape: {error}") from None
    return value


def _cast(value: Array, dtype: np.dtype[Any], upper: Array | None) -> Array:
    if (dtype.kind in "biu") != (value.dtype == np.int32):
        raise InvalidBitstream(f"the record in the topology unit calls a tensor of {value.dtype} values {dtype}")
    if upper is not None:
        if upper.shape != value.shape or upper.dtype != np.int32:
            raise InvalidBitstream("the record in the topology unit joins two halves that do not fit each other")
        wide = value.view(np.uint32).astype(np.uint64) | upper.view(np.uint32).astype(np.uint64) << np.uint64(32)
        restored: Array = wide.view(dtype)
        return restored
    if dtype == np.uint32:
        return value.view(np.uint32)
    if dtype.kind not in "biu" and dtype.itemsize < 4:
        # A value next to the largest of a narrow type must not become infinite or NaN by quantisation.
        limits = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
        value = np.clip(value, np.float32(limits.min), np.float32(limits.max))
    return value.astype(dtype)


def _dtype(name: str) -> np.dtype[Any]:
    if name in ("bool", "int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64", "float16", "float64"):
        return np.dtype(name)
    if name.startswith(("bfloat16", "float8_")) and hasattr(ml_dtypes, name):
        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return dtype
    raise ValueError(f"type {name!r} is not known")


def _unfolded(layer: FoldedLayer, coded: Sequence[CodedTensor]) -> Iterable[Output]:
    beta, gamma, mean, var = layer.names
    block = Block("weight", bn_beta=beta, bn_gamma=gamma, bn_mean=mean, bn_var=var, epsilon=layer.epsilon)

    def builder(name: str) -> Callable[[Sequence[Array]], Array]:
        def build(arrays: Sequence[Array]) -> Array:
            alpha, delta = arrays
            if any(a.dtype != np.float32 or a.ndim != 1 or a.shape != alpha.shape for a in arrays):
                raise InvalidBitstream("the record in the topology unit unfolds tensors that are not batch norms")
            return unfold_block(block, alpha=alpha, delta=delta)[name]

        return build

    shape, single = coded[layer.scaling].shape, np.dtype(np.float32)
    for name in layer.names:
        yield Output(name, (layer.scaling, layer.bias), builder(name), shape, single)
    if layer.own_bias:
        original = coded[layer.bias]
        yield Output(original.name, (layer.bias,), lambda arrays: np.zeros_like(arrays[0]), original.shape, single)
    if layer.own_scaling:
        original = coded[layer.scaling]
        yield Output(original.name, (layer.scaling,), lambda arrays: np.ones_like(arrays[0]), original.shape, single)


def _types_to_json(types: Mapping[int, str]) -> dict[str, str]:
    by_type: dict[str, list[int]] = {}
    for position, name in types.items():
        by_type.setdefault(name, []).append(position)
    return {name: _ranges(sorted(positions)) for name, positions in by_type.items()}


def _types_from_json(content: Mapping[str, str], positions: _PositionReader) -> dict[int, str]:
    types: dict[int, str] = {}
    for name, ranges in content.items():
        _dtype(name)
        types.update(dict.fromkeys(positions.read(ranges), name))
    return types


def _recipe(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise TypeError("the recipe is not an object")
    return value


def _text_or_none(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("this is not a list of names")
    return values


def _folded_to_json(layer: FoldedLayer) -> list[Any]:
    prefix = layer.names[0].removesuffix(_BN_SUFFIXES[0])
    regular = layer.names == tuple(prefix + suffix for suffix in _BN_SUFFIXES)
    names: Any = prefix if regular else list(layer.names)
    own = layer.own_bias + 2 * layer.own_scaling
    return [layer.weight, layer.scaling, layer.bias, own, layer.epsilon, names]


def _folded_from_json(values: Sequence[Any]) -> FoldedLayer:
    weight, scaling, bias, own, epsilon, names = values
    if isinstance(names, str):
        names = [names + suffix for suffix in _BN_SUFFIXES]
    beta, gamma, mean, var = (str(name) for name in names)
    if not 0 <= float(epsilon) < 1e30:
        raise ValueError("an epsilon is out of range")
    return FoldedLayer(
        int(weight),
        int(scaling),
        int(bias),
        bool(int(own) & 1),
        bool(int(own) & 2),
        (beta, gamma, mean, var),
        float(epsilon),
    )


def _ranges(positions: Sequence[int]) -> str:
    """Write integers as runs ``first-last/step`` separated by commas."""
    runs: list[str] = []
    i = 0
    while i < len(positions):
        j = i + 1
        if j < len(positions) and positions[j] > positions[i]:
            step = positions[j] - positions[i]
            while j + 1 < len(positions) and positions[j + 1] - positions[j] == step:
                j += 1
            if j - i >= 2:
                runs.append(f"{positions[i]}-{positions[j]}" + (f"/{step}" if step > 1 else ""))
                i = j + 1
                continue
        runs.append(str(positions[i]))
        i += 1
    return ",".join(runs)


def _text_limit(packed: bytes) -> int:
    """Return how long a packed text may be: honest ones do not shrink by more."""
    return max(_PLAIN_TEXT_BYTES, _MOST_INFLATION * len(packed))


class _PositionReader:
    """Inverse of :func:`_ranges`, with a bound on all positions of a record together."""

    def __init__(self) -> None:
        self._positions_left = _MAX_POSITIONS

    def read(self, text: str) -> list[int]:
        """Return the positions in a text."""
        result: list[int] = []
        for run in filter(None, text.split(",")):
            span, _, step = run.partition("/")
            first, _, last = span.partition("-")
            values = range(int(first), int(last or first) + 1, int(step or 1))
            self._positions_left -= len(values)
            if self._positions_left < 0:
                raise ValueError("too many positions")
            result.extend(values)
        return result


class _Field(NamedTuple):
    """How one attribute of a record is written; ``from_json`` also gets the reader of positions."""

    key: str
    attribute: str
    to_json: Callable[[Any], Any]
    from_json: Callable[[Any, _PositionReader], Any]


def _unchanged(value: Any) -> Any:
    return value


_FIELDS = (
    _Field("types", "types", _types_to_json, _types_from_json),
    _Field("scalars", "scalars", lambda s: _ranges(sorted(s)), lambda c, at: set(at.read(c))),
    _Field(
        "shapes",
        "shapes",
        lambda shapes: {str(i): list(shape) for i, shape in shapes.items()},
        lambda c, _: {int(i): tuple(int(d) for d in shape) for i, shape in c.items()},
    ),
    _Field(
        "names",
        "names",
        lambda names: {str(i): name for i, name in names.items()},
        lambda c, _: {int(i): str(name) for i, name in c.items()},
    ),
    _Field(
        "upper",
        "upper_words",
        lambda words: {str(i): low for i, low in words.items()},
        lambda c, _: {int(i): int(low) for i, low in c.items()},
    ),
    _Field(
        "folded",
        "folded",
        lambda layers: [_folded_to_json(layer) for layer in layers],
        lambda c, _: [_folded_from_json(layer) for layer in c],
    ),
    _Field("order", "order", _ranges, lambda c, at: at.read(c)),
    _Field("base", "base", _unchanged, lambda c, _: _text_or_none(c)),
    _Field("complete", "complete", lambda s: _ranges(sorted(s)), lambda c, at: set(at.read(c))),
    _Field("sums", "has_sums", int, lambda c, _: bool(c)),
    _Field("removed", "removed", _unchanged, lambda c, _: _texts(c)),
    _Field(
        "rebuild",
        "rebuild",
        lambda steps: [rebuild_to_json(step) for step in steps],
        lambda c, _: [rebuild_from_json(step) for step in c],
    ),
    _Field("recipe", "recipe", _unchanged, lambda c, _: _recipe(c)),
)
"""The format of the record, in the order in which it is written; see ``docs/record.md``."""
