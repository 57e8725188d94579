"""A stream whose tensors are decoded when they are asked for."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream import (
    DataUnit,
    Member,
    MemberRole,
    PayloadType,
    TracedElement,
    Unit,
    UnitReader,
    payload_members,
    trace_stream,
)
from netpress.bitstream.payload import first_qp
from netpress.codec.decoder import decode_first_edition, decode_unit
from netpress.codec.index import BytesLike, header_of, index_stream
from netpress.codec.record import Output, Record
from netpress.codec.restore import outputs_of
from netpress.errors import BaseMismatch, InvalidBitstream
from netpress.limits import DecodeLimits
from netpress.parallel import Progress, ordered_map
from netpress.quantize.step_size import step_size

__all__ = ["Stream", "StreamInfo", "TensorInfo"]

Array = npt.NDArray[Any]
_RELEASED_BYTES = 1 << 20
_BLOCK_EDGES = {1: 8, 2: 16, 3: 32, 4: 64}


@dataclasses.dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor as it is coded, with the name, shape and type that it is restored to.

    ``kind`` is "uniform", "dependent", "codebook", "integer" or "raw"; ``qp`` and ``step`` are None where the payload
    does not start with them. Bytes of a data unit of several tensors are those of its weight; the others have 0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    kind: str
    qp: int | None
    step: float | None
    unit: int
    offset: int
    payload_bytes: int
    header_bytes: int
    bits_per_weight: float
    tools: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class StreamInfo:
    """What the headers of a stream say.

    ``elements`` and ``original_bytes`` count the values and bytes of the restored model; ``tensors`` is what is coded.
    """

    bytes: int
    profile: int
    units: int
    elements: int
    original_bytes: int
    tensors: tuple[TensorInfo, ...]
    recipe: dict[str, Any] | None = None
    """What was done to the network before it was coded; see :class:`netpress.Recipe`."""
    rebuilt: tuple[str, ...] = ()
    """Tensors of the original network that only netpress puts together, with ``reconstruct=True``."""

    def to_dict(self) -> dict[str, Any]:
        """Return the same as dictionaries and lists, ready for JSON."""
        result = dataclasses.asdict(self)
        result["tensors"] = [
            {**tensor, "shape": list(tensor["shape"]), "tools": list(tensor["tools"])} for tensor in result["tensors"]
        ]
        return result


class Stream(Mapping[str, Array]):
    """A mapping from names to arrays; each access decodes one data unit, nothing else is read or kept.

    Made by :func:`netpress.open`. Use it as a context manager, or call :meth:`close`.

    Example:
        >>> import netpress, numpy, tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "m.nnc"
        >>> _ = netpress.save({"w": numpy.ones((4, 4), "f4")}, path)
        >>> with netpress.open(path) as stream:
        ...     list(stream), stream["w"].shape
        (['w'], (4, 4))
    """

    def __init__(
        self,
        data: BytesLike | mmap.mmap,
        *,
        base: Mapping[str, Array] | None = None,
        dimensions: Mapping[str, Sequence[int]] | None = None,
        limits: DecodeLimits | None = None,
        close: Any = None,
    ) -> None:
        self._data = memoryview(data)
        self._close = close
        self._limits = limits or DecodeLimits()
        self._dimensions = dimensions
        self._base = base
        self._is_first_edition_1_0: bool | None = None
        self._index = index_stream(self._data, self._limits, dimensions)
        self._units, self._record = self._index.units, self._index.record
        self._members: list[tuple[Unit, Member]] = [
            (unit, member) for unit in self._units for member in payload_members(header_of(unit))
        ]
        self._outputs: dict[str, Output] = {o.name: o for o in outputs_of(self._units, self._record)}
        self._small: dict[int, Array] = {}
        if base is not None:
            self._check_base(base)

    def _check_base(self, base: Mapping[str, Array]) -> None:
        from netpress.codec.difference import fingerprint

        if self._record.base is not None and self._record.base != fingerprint(base):
            raise BaseMismatch("the update was made for another base model")

    def __getitem__(self, name: str) -> Array:
        """Decode one tensor.

        Raises:
            KeyError: there is no such tensor.
            InvalidBitstream: its payload is damaged.
        """
        if self._base is not None:
            return self._updated(name)
        output = self._outputs[name]
        return output.build([self._decode(i) for i in output.sources])

    def _updated(self, name: str) -> Array:
        from netpress.codec.difference import apply_difference

        base = self._base or {}
        old = {name: np.asarray(base[name])} if name in base and name not in self._record.removed else {}
        if name not in self._outputs:
            return old[name]
        output = self._outputs[name]
        value = output.build([self._decode(i) for i in output.sources])
        is_complete = bool(set(output.sources) & self._record.complete) or name not in old
        return apply_difference({name: value}, None, frozenset([name] if is_complete else []), old)[name]

    def _decode(self, position: int) -> Array:
        unit, member = self._members[position]
        self._index.check_unit(unit)
        if unit.general_profile_idc != 1 and self._is_first_edition_1_0 is None:
            self._is_first_edition_1_0 = _is_first_edition_1_0(self._units)
        if position in self._small:
            known: Array = self._small[position].copy()
            return known
        decoded = decode_unit(unit, first_edition_1_0=bool(self._is_first_edition_1_0))
        self._release(unit)
        if header_of(unit).is_block:
            # The vectors of a layer are asked for one by one, each time after the whole block.
            at = {m.name: i for i, (u, m) in enumerate(self._members) if u is unit}
            self._small.update({at[name]: value.copy() for name, value in decoded.tensors.items() if value.ndim == 1})
        return decoded.tensors[member.name]

    def _release(self, unit: Unit) -> None:
        """Let go of the pages of a mapped file that hold a large unit, so that they do not stay resident."""
        if isinstance(self._data.obj, mmap.mmap) and unit.size >= _RELEASED_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            start = -(-unit.offset // mmap.PAGESIZE) * mmap.PAGESIZE
            end = (unit.offset + unit.size) // mmap.PAGESIZE * mmap.PAGESIZE
            if end > start:
                self._data.obj.madvise(mmap.MADV_DONTNEED, start, end - start)

    def __iter__(self) -> Iterator[str]:
        if self._base is None:
            yield from self._outputs
            return
        yield from (name for name in self._base if name not in self._record.removed)
        yield from (name for name in self._outputs if name not in self._base)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def lazily(self, *, executor: Executor | None = None, progress: Progress | None = None) -> StreamTensors:
        """Return the tensors for :func:`netpress.formats.save_tensors`, decoded on all cores while they are written.

        Args:
            executor: runs the tensors; None uses all cores with threads.
            progress: called with values done, values in all and the name of the tensor just finished.
        """
        return StreamTensors(self, executor, progress)

    def description(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and element type of a tensor without decoding it.

        Raises:
            KeyError: there is no such tensor.
        """
        if self._base is not None and name in self._base:
            old = np.asarray(self._base[name])
            if name not in self._outputs or not set(self._outputs[name].sources) & self._record.complete:
                return old.shape, old.dtype
        return self._outputs[name].shape, self._outputs[name].dtype

    def units(self) -> list[Unit]:
        """Return all units of the stream, parsed."""
        return list(UnitReader(self._data, limits=self._limits, dimensions=self._dimensions))

    def trace(self) -> Iterator[TracedElement]:
        """Yield every syntax element with its value and bit position."""
        return trace_stream(self._data, limits=self._limits, dimensions=self._dimensions)

    def info(self) -> StreamInfo:
        """Return sizes and tools of all tensors; decodes nothing but a qp."""
        record = self._record
        named = {
            o.sources[0]: o.name for o in self._outputs.values() if len(set(o.sources) - set(record.upper_words)) == 1
        }
        infos = {
            i: _tensor_info(unit, member, named.get(i, member.name), i, record)
            for i, (unit, member) in enumerate(self._members)
        }
        for upper, lower in record.upper_words.items():
            infos[lower] = _with_upper_words(infos[lower], infos.pop(upper))
        return StreamInfo(
            bytes=self._data.nbytes,
            profile=self._index.profile,
            units=self._index.unit_count,
            elements=sum(self._members[o.sources[0]][1].size for o in self._outputs.values()),
            original_bytes=sum(self._original_bytes(o) for o in self._outputs.values()),
            tensors=tuple(infos.values()),
            recipe=record.recipe,
            rebuilt=tuple(step.name for step in record.rebuild),
        )

    def _original_bytes(self, output: Output) -> int:
        """Bytes of a restored tensor."""
        unit, member = self._members[output.sources[0]]
        return member.size * np.dtype(_dtype_name(unit, output.sources[0], self._record)).itemsize

    def close(self) -> None:
        """Close the file; arrays that were decoded stay valid. Can be called more than once."""
        close, self._close = self._close, None
        self._units, self._members = [], []
        self._small = {}
        self._index.units = []
        if close is not None:
            self._data.release()
            close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class StreamTensors:
    """The tensors of an opened stream one by one; see :meth:`Stream.lazily`."""

    def __init__(self, stream: Stream, executor: Executor | None, progress: Progress | None) -> None:
        self._stream = stream
        self._executor = executor
        self._progress = progress

    @property
    def names(self) -> list[str]:
        """Names of all tensors, in the order of the model."""
        return list(self._stream)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of one tensor."""
        return self._stream.description(name)[0]

    def dtype(self, name: str) -> np.dtype[Any]:
        """Element type of one tensor."""
        return self._stream.description(name)[1]

    def iterate(self, names: Iterable[str]) -> Iterator[Array]:
        """Yield tensors in an order of the caller's."""
        names = list(names)
        sizes = {name: math.prod(self.shape(name)) for name in names}
        total, done = sum(sizes.values()), 0
        decoded = ordered_map(self._stream.__getitem__, names, executor=self._executor, size=sizes.__getitem__)
        for name, value in zip(names, decoded, strict=True):
            yield np.ascontiguousarray(value).reshape(value.shape)
            done += sizes[name]
            if self._progress is not None:
                self._progress(done, total, name)


def open_stream(
    path: str | os.PathLike[str],
    *,
    base: Mapping[str, Array] | None = None,
    dimensions: Mapping[str, Sequence[int]] | None = None,
    limits: DecodeLimits | None = None,
) -> Stream:
    """Map a file into memory and read its headers; see :func:`netpress.open`."""
    with Path(path).open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise InvalidBitstream("the file is empty", offset=0)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return Stream(mapped, base=base, dimensions=dimensions, limits=limits, close=lambda: _close(mapped))
    except BaseException as error:
        # The traceback holds views into the map; it is closed once they are gone.
        error.__traceback__ = None
        raise


def _close(mapped: mmap.mmap) -> None:
    # A unit that the caller kept still points into the map, which then closes with it.
    with contextlib.suppress(BufferError):
        mapped.close()


def _is_first_edition_1_0(units: list[Unit]) -> bool:
    """Whether the payloads of a profile-0 stream read as NNCodec 1.0 writes them; decodes the stream."""
    try:
        for unit in units:
            if header_of(unit).nnr_compressed_data_unit_payload_type != PayloadType.RAW_FLOAT:
                decode_unit(unit, first_edition_1_0=True)
    except InvalidBitstream:
        decode_first_edition(units)
        return False
    return True


def _tensor_info(unit: Unit, member: Member, name: str, position: int, record: Record) -> TensorInfo:
    header = header_of(unit)
    carries_bytes = (member.role.is_weight and member.role is not MemberRole.H) or not header.is_block
    payload_bytes = len(unit.payload) if carries_bytes else 0
    header_bytes = unit.size - len(unit.payload) if carries_bytes else 0
    qp = _first_qp(unit, member)
    return TensorInfo(
        name=name,
        shape=() if position in record.scalars else record.shapes.get(position, member.shape),
        dtype=_dtype_name(unit, position, record),
        kind=_kind(header, member),
        qp=qp,
        step=None if qp is None else step_size(qp, unit.qp_density or 0),
        unit=unit.index,
        offset=unit.offset,
        payload_bytes=payload_bytes,
        header_bytes=header_bytes,
        bits_per_weight=8 * (payload_bytes + header_bytes) / member.size if member.size else 0.0,
        tools=_tools(header, member),
    )


def _with_upper_words(lower: TensorInfo, upper: TensorInfo) -> TensorInfo:
    """Describe the two halves of a wide integer tensor as one."""
    return dataclasses.replace(
        lower,
        payload_bytes=lower.payload_bytes + upper.payload_bytes,
        header_bytes=lower.header_bytes + upper.header_bytes,
        bits_per_weight=lower.bits_per_weight + upper.bits_per_weight,
        tools=(*lower.tools, "two halves"),
    )


def _dtype_name(unit: Unit, position: int, record: Record) -> str:
    is_integer = header_of(unit).nnr_compressed_data_unit_payload_type == PayloadType.INT
    return record.types.get(position, "int32" if is_integer else "float32")


def _kind(header: DataUnit, member: Member) -> str:
    payload_type = header.nnr_compressed_data_unit_payload_type
    if payload_type == PayloadType.INT:
        return "integer"
    if payload_type == PayloadType.RAW_FLOAT:
        return "raw"
    if header.codebook is not None and (not header.is_block or member.role.is_weight):
        return "codebook"
    return "dependent" if header.dq_flag else "uniform"


def _first_qp(unit: Unit, member: Member) -> int | None:
    """The qp of the first tensor of a payload; those after it cannot be reached without decoding."""
    header = header_of(unit)
    if header.nnr_compressed_data_unit_payload_type not in (PayloadType.FLOAT, PayloadType.BLOCK):
        return None
    if payload_members(header)[0] != member:
        return None
    return first_qp(unit)


def _tools(header: DataUnit, member: Member) -> tuple[str, ...]:
    tools = []
    if header.scan_order and (not header.is_block or member.role.is_weight):
        edge = _BLOCK_EDGES[header.scan_order]
        tools.append(f"scan {edge}x{edge}")
    if header.is_block:
        tools.append(f"block of {header.weight_name}")
    if header.is_decomposed:
        tools.append("decomposed")
    if header.parent_node_id_present_flag:
        tools.append("update")
    if header.temporal_context_modeling_flag:
        tools.append("temporal contexts")
    return tuple(tools)
