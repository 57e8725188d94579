"""Reads a stream unit by unit.

Source: ISO/IEC 15938-17, NNR unit syntax and order of units.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import warnings
from collections.abc import Iterator, Mapping, Sequence

from netpress.bitstream.bits import BitReader, BytesLike
from netpress.bitstream.state import StreamState
from netpress.bitstream.syntax import Memory, SyntaxReader
from netpress.bitstream.tables import CONTENT_TYPES, UnitHeader, nnr_unit_header, nnr_unit_size, unit_content
from netpress.bitstream.units import DataUnit, Topology, TopologyStorageFormat, Unit, UnitType
from netpress.errors import InvalidBitstream, LimitExceeded
from netpress.limits import DecodeLimits

__all__ = ["NetpressWarning", "SkippedUnitWarning", "UnitExtent", "UnitReader", "scan_units"]


class NetpressWarning(UserWarning):
    """Base class of the warnings of netpress."""


class SkippedUnitWarning(NetpressWarning):
    """A part of a stream is not understood and has been passed over."""


@dataclasses.dataclass(slots=True)
class UnitExtent:
    """Where a unit of a stream lies: ``size`` bytes from byte ``offset``; its body starts at byte ``body``.

    Each part of a partial unit counts for itself. ``unit_type`` is any u(6), known or not.
    """

    index: int
    offset: int
    size: int
    body: int
    unit_type: int
    independently_decodable_flag: int
    partial_data_counter: int | None

    @property
    def end(self) -> int:
        """First byte after the unit."""
        return self.offset + self.size


def scan_units(data: BytesLike, *, limits: DecodeLimits | None = None) -> Iterator[UnitExtent]:
    """Yield the extent of each unit of ``data`` without looking at its content.

    Takes time proportional to the number of units. Raises :class:`netpress.InvalidBitstream` where a size is impossible
    and :class:`netpress.LimitExceeded` beyond ``max_units`` or ``max_unit_bytes``.

    Example:
        >>> [unit.size for unit in scan_units(bytes.fromhex("00040201 00080681 00400080"))]
        [4, 8]
    """
    scanner = UnitReader(data, limits=limits)
    offset = index = 0
    while offset < scanner.size:
        extent = scanner.extent(index, offset)
        yield extent
        offset, index = extent.end, index + 1


_SHORT_HEADER_BYTES = 3


@functools.cache
def _common_headers() -> tuple[tuple[int, int] | None, ...]:
    """Return nnr_unit_type and independently_decodable_flag for each byte that is a common header of its own."""
    headers: list[tuple[int, int] | None] = []
    for byte in range(256):
        header = UnitHeader()
        bits = BitReader(bytes([byte, 0]))
        nnr_unit_header(SyntaxReader(bits, DecodeLimits()), header)
        is_whole = bits.position == 8
        headers.append((header.nnr_unit_type, header.independently_decodable_flag) if is_whole else None)
    return tuple(headers)


class UnitReader:
    """Iterates over the units of a stream; each iteration starts at its beginning with a fresh state.

    ``data`` is a bytes-like object or a memory map; payloads are views into it. ``dimensions`` maps tensor names to
    shapes for streams whose dimensions travel out of band (for a block, a factor G or H: the name and the full shape of
    the weight). Every unit is parsed strictly inside of its nnr_unit_size.

    Units of unknown type, and aggregate units, are passed over with a :class:`SkippedUnitWarning`; a topology in the
    pruning format is yielded as plain bytes with such a warning.

    *Partial units.* The standard's text on partial_data_counter is read like this: the parts of a unit follow each
    other directly and have the same type and independently_decodable_flag; the counter is the number of parts still to
    come, so it counts down to 0; what follows the counter in each part (the type-specific header included), strung
    together, is one unit. Missing, mixed and out-of-order parts are refused. A unit whose counter starts at 0 is one
    part.

    Iterating raises :class:`netpress.InvalidBitstream` for anything the standard does not allow,
    :class:`netpress.UnsupportedBitstream` for syntax that is not implemented and for out-of-band dimensions that
    ``dimensions`` does not give, :class:`netpress.LimitExceeded` for what ``limits`` rules out; all with the index of
    the unit and the byte offset.

    Example:
        >>> data = bytes.fromhex("00040201 0008068100400080 00060e000000")
        >>> [unit.unit_type.name for unit in UnitReader(data)]
        ['STR', 'MPS', 'TPL']
    """

    _takes_shortcuts = True
    """Whether equal headers may be taken from memory; a subclass that wants to see every element says no."""

    def __init__(
        self,
        data: BytesLike,
        *,
        limits: DecodeLimits | None = None,
        dimensions: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        view = memoryview(data)
        self._data = view if view.format == "B" and view.ndim == 1 else view.cast("B")
        self._limits = limits or DecodeLimits()
        self._memory: Memory | None = None
        self._dimensions = {name: tuple(int(d) for d in shape) for name, shape in (dimensions or {}).items()}
        if any(d < 0 for shape in self._dimensions.values() for d in shape):
            raise ValueError("dimensions must not be negative")

    @property
    def size(self) -> int:
        """Bytes of the stream."""
        return len(self._data)

    def __iter__(self) -> Iterator[Unit]:
        """Yield the units in the order of the stream."""
        state = StreamState(self._dimensions, len(self._data))
        self._memory = Memory() if self._takes_shortcuts else None
        offset = index = 0
        while offset < len(self._data):
            extents = self._parts(index, offset)
            unit = self._unit(extents, state)
            if unit is not None:
                yield unit
            offset, index = extents[-1].end, index + len(extents)
        state.finish(self._syntax(BitReader(self._data, offset, unit=index), -1))

    def _syntax(self, bits: BitReader, unit_type: int) -> SyntaxReader:
        """Return the visitor for a window; ``unit_type`` is -1 where it is not known yet."""
        return SyntaxReader(bits, self._limits, self._memory)

    def _parsed(self, s: SyntaxReader, payload_bytes: int) -> None:
        """Take note of a unit that has been parsed up to its payload, for subclasses."""

    def extent(self, index: int, offset: int) -> UnitExtent:
        """Read size and common header of the unit ``index`` at byte ``offset``; used by :func:`scan_units`."""
        if self._takes_shortcuts and (extent := self._common_extent(index, offset)) is not None:
            return extent
        header = UnitHeader()
        s = self._syntax(BitReader(self._data, offset, unit=index), -1)
        s.limit(index + 1, "max_units")
        nnr_unit_size(s, header)
        field, size = s.bits.offset - offset, header.nnr_unit_size
        if size <= field or size > len(self._data) - offset:
            available = len(self._data) - offset
            message = f"a unit of {size} bytes where more than {field} and at most {available} are possible"
            raise InvalidBitstream(message, unit=index, offset=offset)
        s.limit(size, "max_unit_bytes")
        s = self._syntax(BitReader(self._data, offset + field, offset + size, unit=index), -1)
        nnr_unit_header(s, header)
        return UnitExtent(
            index,
            offset,
            size,
            s.bits.offset,
            header.nnr_unit_type,
            header.independently_decodable_flag,
            header.partial_data_counter,
        )

    def _common_extent(self, index: int, offset: int) -> UnitExtent | None:
        """Return what :meth:`extent` does for a whole unit of less than 2**15 bytes; None for others and for errors."""
        data, limits = self._data, self._limits
        if len(data) - offset < _SHORT_HEADER_BYTES or index >= limits.max_units:
            return None
        size = data[offset] << 8 | data[offset + 1]
        common = _common_headers()[data[offset + 2]]
        if common is None or not _SHORT_HEADER_BYTES <= size < 1 << 15:
            return None
        if size > len(data) - offset or size > limits.max_unit_bytes:
            return None
        return UnitExtent(index, offset, size, offset + _SHORT_HEADER_BYTES, *common, None)

    def _parts(self, index: int, offset: int) -> list[UnitExtent]:
        """Return the extents of the parts of the next unit."""
        parts = [self.extent(index, offset)]
        first = parts[0]
        if first.unit_type not in CONTENT_TYPES:
            return parts
        total = first.size
        for parts_after in range((first.partial_data_counter or 0) - 1, -1, -1):
            place = parts[-1].end
            if place >= len(self._data):
                raise InvalidBitstream(
                    f"the stream ends {parts_after + 1} parts before its last unit", unit=index, offset=place
                )
            part = self.extent(index + len(parts), place)
            same = part.unit_type == first.unit_type
            same = same and part.independently_decodable_flag == first.independently_decodable_flag
            if not same or part.partial_data_counter != parts_after:
                message = f"part {parts_after} of a partial unit is missing, out of order or mixed with another unit"
                raise InvalidBitstream(message, unit=part.index, offset=place)
            parts.append(part)
            total += part.size
            if total > self._limits.max_unit_bytes:
                message = f"a partial unit of more than {self._limits.max_unit_bytes} bytes"
                raise LimitExceeded(message, limit="max_unit_bytes", unit=part.index, offset=place)
        return parts

    def _window(self, parts: list[UnitExtent]) -> BitReader:
        """Return a window over the bodies of the parts, strung together."""
        index = parts[0].index
        if len(parts) == 1:
            return BitReader(self._data, parts[0].body, parts[0].end, unit=index)
        body = b"".join(self._data[part.body : part.end] for part in parts)
        starts = [0]
        for part in parts:
            starts.append(starts[-1] + part.end - part.body)

        def locate(position: int) -> int:
            part = min(bisect.bisect_right(starts, position) - 1, len(parts) - 1)
            return parts[part].body + position - starts[part]

        return BitReader(body, unit=index, locate=locate)

    def _unit(self, parts: list[UnitExtent], state: StreamState) -> Unit | None:
        """Parse one unit; None if it is passed over."""
        first = parts[0]
        s = self._syntax(self._window(parts), first.unit_type)
        state.check_order(s, first.unit_type)
        if first.unit_type not in CONTENT_TYPES:
            self._warn(f"a unit of type {first.unit_type} is not understood", first)
            self._parsed(s, s.bits.bits_left >> 3)
            return None
        unit_type = UnitType(first.unit_type)
        content = CONTENT_TYPES[unit_type]()
        unit_content(s, content, state)
        payload_bytes = s.bits.bits_left >> 3
        if not isinstance(content, DataUnit):
            s.require(s.bits.bits_left == 0, f"{payload_bytes} bytes are left over in the unit")
        state.accept(s, content, payload_bytes)
        self._parsed(s, payload_bytes)
        if isinstance(content, Topology) and content.topology_storage_format == TopologyStorageFormat.PRUN:
            self._warn("a pruning topology is not understood", first)
        size = first.size if len(parts) == 1 else sum(part.size for part in parts)
        return Unit(
            unit_type=unit_type,
            independently_decodable_flag=first.independently_decodable_flag,
            partial_data_counter=first.partial_data_counter,
            content=content,
            payload=s.bits.view(payload_bytes),
            index=first.index,
            offset=first.offset,
            size=size,
            header_bytes=size - payload_bytes,
            general_profile_idc=state.general_profile_idc or 0,
            mps=state.mps,
            lps=state.lps,
        )

    @staticmethod
    def _warn(message: str, extent: UnitExtent) -> None:
        """Warn about something passed over."""
        place = f"(unit {extent.index}, byte {extent.offset})"
        warnings.warn(f"{message}; it is skipped {place}", SkippedUnitWarning, stacklevel=4)
