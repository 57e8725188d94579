"""Writes a stream unit by unit.

Source: ISO/IEC 15938-17, NNR unit syntax and order of units.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Protocol

from netpress.bitstream.bits import BitWriter, DoesNotFit
from netpress.bitstream.state import StreamState
from netpress.bitstream.syntax import Memory, SyntaxWriter
from netpress.bitstream.tables import CONTENT_TYPES, UnitHeader, nnr_unit_header, nnr_unit_size, unit_content
from netpress.bitstream.units import Content, DataUnit, UnitType
from netpress.errors import InvalidConfig, InvalidModel

__all__ = ["ByteSink", "UnitWriter"]

_SHORT_SIZE_BYTES, _LONG_SIZE_BYTES = 2, 4
_SHORT_SIZE_LIMIT, _LONG_SIZE_LIMIT = 1 << 15, 1 << 31
_MAX_PARTS = 256
_UNIT_TYPES = {content: unit_type for unit_type, content in CONTENT_TYPES.items()}


class ByteSink(Protocol):
    """Where bytes go: a binary file or anything else with this method."""

    def write(self, data: bytes | memoryview, /) -> object:
        """Take all of ``data``."""


class UnitWriter:
    """Writes units to ``sink`` and keeps the state of the stream that their syntax depends on.

    The order of units, names and lengths are checked as the reader checks them. After an error nothing of the refused
    unit has been written, and the writer can go on.

    Example:
        >>> import io
        >>> from netpress.bitstream import ModelParameterSet, Start, UnitWriter
        >>> sink = io.BytesIO()
        >>> writer = UnitWriter(sink)
        >>> writer.write(Start()) + writer.write(ModelParameterSet())
        12
        >>> sink.getvalue().hex()
        '000402010008068100400080'
    """

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self._state = StreamState()
        self._memory: Memory | None = Memory()
        self._checks = SyntaxWriter(BitWriter())  # refuses what is not allowed, writes nothing

    def write(
        self,
        content: Content,
        payload: bytes | bytearray | memoryview = b"",
        *,
        independently_decodable_flag: int = 1,
        partial_data_counter: int | None = None,
        max_unit_bytes: int | None = None,
    ) -> int:
        """Write one unit and return how many bytes that took.

        ``payload`` is for data units only. ``partial_data_counter`` = n splits the unit into n + 1 partial units of
        equal length (to a byte; the longer ones come first), 0 <= n <= 255; ``max_unit_bytes`` splits it into as many
        as are needed so that none is longer than that, if it is longer than that.

        Raises :class:`netpress.InvalidModel` naming the tensor if a data unit cannot be written, e.g. for a value that
        does not fit its descriptor, a name that contains NUL or is taken already, a unit of 2**31 bytes and more;
        :class:`netpress.InvalidConfig` likewise for any other unit, for a unit out of order and for a split into more
        than 256 parts or into empty ones.

        Source: NNR unit syntax; for the split see :class:`netpress.bitstream.UnitReader`.
        """
        view = memoryview(payload).cast("B")
        try:
            if isinstance(content, DataUnit) and self._state.has_indexed_references:
                content = self._with_references(content)
            header = self._serialise(content, view)
            flag, counter = independently_decodable_flag, partial_data_counter
            unit = UnitHeader(nnr_unit_type=_UNIT_TYPES[type(content)], independently_decodable_flag=flag)
            pieces = _pieces(unit, header, view, counter, max_unit_bytes)
            self._state.accept(self._checks, content, len(view))
        except DoesNotFit as error:
            if isinstance(content, DataUnit):
                name = content.topology_elem_ids[0] if content.topology_elem_ids else None
                raise InvalidModel(str(error), tensor=name) from None
            raise InvalidConfig(str(error)) from None
        for piece in pieces:
            self._sink.write(piece)
        return sum(len(piece) for piece in pieces)

    def finish(self) -> None:
        """Check that the stream may end here; raises :class:`netpress.InvalidConfig` if not."""
        self._state.finish(self._checks)

    def _serialise(self, content: Content, payload: memoryview) -> bytes:
        """Return everything of the unit between its common header and its payload."""
        s = SyntaxWriter(BitWriter(), self._memory)
        unit_type = _UNIT_TYPES[type(content)]
        self._state.check_order(s, unit_type)
        if payload and unit_type != UnitType.NDU:
            s.require(False, f"a unit of type {unit_type.name} has no separate payload")
        unit_content(s, content, self._state)
        return s.bits.getvalue()

    def _with_references(self, unit: DataUnit) -> DataUnit:
        """Return the unit with the reference-list indices of its names, or the names of its indices."""
        s = SyntaxWriter(BitWriter())
        known = self._state.reference_ids or ()
        indices = unit.topology_elem_id_indices
        if indices is None:
            missing = [name for name in unit.topology_elem_ids if name not in known]
            s.require(not missing, f"{missing} are not in the topology reference list")
            indices = tuple(known.index(name) for name in unit.topology_elem_ids)
        names = self._state.referenced_names(s, indices)
        s.require(unit.topology_elem_ids in ((), names), "topology_elem_ids and topology_elem_id_indices disagree")
        return dataclasses.replace(unit, topology_elem_ids=names, topology_elem_id_indices=indices)


def _pieces(
    unit: UnitHeader, header: bytes, payload: memoryview, counter: int | None, max_unit_bytes: int | None
) -> list[bytes | memoryview]:
    """Return what to write for a unit, whole or in parts; type-specific ``header`` and ``payload`` are its body."""
    length = len(header) + len(payload)
    if max_unit_bytes is not None and _unit_size(UnitHeader(), length) > max_unit_bytes:
        overhead = len(_opening(dataclasses.replace(unit, partial_data_counter=0), max_unit_bytes))
        if max_unit_bytes <= overhead:
            raise InvalidConfig(f"max_unit_bytes = {max_unit_bytes} leaves no room for content")
        counter = -(-length // (max_unit_bytes - overhead)) - 1
    if not counter:
        unit.partial_data_counter = counter
        return [_opening(unit, length) + header, payload]
    if not 0 <= counter < _MAX_PARTS or counter >= length:
        raise InvalidConfig(f"a unit with a body of {length} bytes cannot be split into {counter + 1} parts")
    body = memoryview(header + payload)
    pieces: list[bytes | memoryview] = []
    start, share, longer = 0, length // (counter + 1), length % (counter + 1)
    for part in range(counter + 1):
        end = start + share + (part < longer)
        opening = _opening(dataclasses.replace(unit, partial_data_counter=counter - part), end - start)
        pieces.append(opening + body[start:end])
        start = end
    return pieces


def _unit_size(unit: UnitHeader, body_bytes: int) -> int:
    """Return nnr_unit_size: the short form of the size is used for units of less than 2**15 bytes."""
    content = 1 + (unit.partial_data_counter is not None) + body_bytes
    short = content + _SHORT_SIZE_BYTES
    return short if short < _SHORT_SIZE_LIMIT else content + _LONG_SIZE_BYTES


def _opening(unit: UnitHeader, body_bytes: int) -> bytes:
    """Return size and common header of a unit whose body has ``body_bytes`` bytes."""
    size = _unit_size(unit, body_bytes)
    if size >= _LONG_SIZE_LIMIT:
        raise DoesNotFit(f"a unit of {size} bytes; the size field ends at {_LONG_SIZE_LIMIT - 1}")
    s = SyntaxWriter(BitWriter())
    nnr_unit_size(s, UnitHeader(int(size >= _SHORT_SIZE_LIMIT), size))
    common = _common_header(unit.nnr_unit_type, unit.independently_decodable_flag, unit.partial_data_counter)
    return s.bits.getvalue() + common


@functools.lru_cache
def _common_header(nnr_unit_type: int, independently_decodable_flag: int, partial_data_counter: int | None) -> bytes:
    """Return the part of the unit header that all types share."""
    s = SyntaxWriter(BitWriter())
    header = UnitHeader(0, 0, nnr_unit_type, independently_decodable_flag, partial_data_counter)
    nnr_unit_header(s, header)
    return s.bits.getvalue()
