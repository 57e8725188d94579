"""Every syntax element of a stream, with value and position.

Source: ISO/IEC 15938-17, syntax tables; this is the reader with a tracing visitor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from netpress.bitstream.bits import BitReader, BytesLike
from netpress.bitstream.reader import UnitReader
from netpress.bitstream.syntax import Syntax, SyntaxReader
from netpress.errors import NetpressError
from netpress.limits import DecodeLimits

__all__ = ["SyntaxTracer", "TracedElement", "trace_stream"]

TracedValue = int | float | str | bytes


@dataclasses.dataclass(frozen=True, slots=True)
class TracedElement:
    """One syntax element of a stream.

    ``unit`` is the index of its NNR unit, ``bit_position`` where it starts in the stream, counted in bits from the
    first bit of the stream, ``bit_length`` its length. ``descriptor`` is the standard's notation, e.g. ``ue(7)``. The
    payload of a unit is one element with the descriptor ``bytes`` and its length in bytes as ``value``.
    """

    unit: int
    unit_type: int
    name: str
    value: TracedValue
    descriptor: str
    bit_position: int
    bit_length: int


class SyntaxTracer(SyntaxReader):
    """Parses and notes each element in ``elements``; :attr:`unit_type` is put into them."""

    __slots__ = ("elements", "unit_type")

    def __init__(
        self, bits: BitReader, limits: DecodeLimits, elements: list[TracedElement], unit_type: int = -1
    ) -> None:
        super().__init__(bits, limits)
        self.elements = elements
        self.unit_type = unit_type

    def _at(self, name: str, index: int) -> str:
        """Spell out the index."""
        return f"{name}[{index}]"

    u, ue = Syntax.u, Syntax.ue

    def note(self, name: str, value: TracedValue, descriptor: str, start: int) -> None:
        """Note an element that began at bit ``start`` of the window and ends at the current position."""
        unit = -1 if self.bits.unit is None else self.bits.unit
        where = self.bits.stream_bit(start)
        length = self.bits.position - start
        self.elements.append(TracedElement(unit, self.unit_type, name, value, descriptor, where, length))

    def note_bytes(self, name: str, count: int) -> None:
        """Note the next ``count`` bytes, which are not read, as one element whose value is their number."""
        unit = -1 if self.bits.unit is None else self.bits.unit
        where = self.bits.stream_bit(self.bits.position)
        self.elements.append(TracedElement(unit, self.unit_type, name, count, "bytes", where, count * 8))

    def u_value(self, name: str, value: int, bits: int) -> int:
        """Read and note u(``bits``)."""
        start, read = self.bits.position, super().u_value(name, value, bits)
        self.note(name, read, f"u({bits})", start)
        return read

    def i_value(self, name: str, value: int, bits: int) -> int:
        """Read and note i(``bits``)."""
        start, read = self.bits.position, super().i_value(name, value, bits)
        self.note(name, read, f"i({bits})", start)
        return read

    def ue_value(self, name: str, value: int, order: int) -> int:
        """Read and note ue(``order``)."""
        start, read = self.bits.position, super().ue_value(name, value, order)
        self.note(name, read, f"ue({order})", start)
        return read

    def ie_value(self, name: str, value: int, order: int) -> int:
        """Read and note ie(``order``)."""
        start, read = self.bits.position, super().ie_value(name, value, order)
        self.note(name, read, f"ie({order})", start)
        return read

    def st_value(self, name: str, value: str) -> str:
        """Read and note st(v)."""
        start, read = self.bits.position, super().st_value(name, value)
        self.note(name, read, "st(v)", start)
        return read

    def flt_value(self, name: str, value: float) -> float:
        """Read and note flt(32)."""
        start, read = self.bits.position, super().flt_value(name, value)
        self.note(name, read, "flt(32)", start)
        return read

    def align(self) -> None:
        """Read and note the alignment element."""
        start = self.bits.position
        super().align()
        self.note("alignment", 1, "align", start)

    def rest(self, name: str, value: bytes, *, terminated: bool) -> bytes:
        """Read and note the rest of the window."""
        start, read = self.bits.position, super().rest(name, value, terminated=terminated)
        self.note(name, read, "st(v)" if terminated else "bytes", start)
        return read


class _TracingReader(UnitReader):
    """A reader that collects the elements it meets."""

    _takes_shortcuts = False

    def __init__(
        self, data: BytesLike, limits: DecodeLimits | None, dimensions: Mapping[str, Sequence[int]] | None
    ) -> None:
        super().__init__(data, limits=limits, dimensions=dimensions)
        self.elements: list[TracedElement] = []

    def _syntax(self, bits: BitReader, unit_type: int) -> SyntaxReader:
        """Return a tracer."""
        return SyntaxTracer(bits, self._limits, self.elements, unit_type)

    def _parsed(self, s: SyntaxReader, payload_bytes: int) -> None:
        """Note the payload."""
        if payload_bytes and isinstance(s, SyntaxTracer):
            s.note_bytes("nnr_unit_payload", payload_bytes)

    def drain(self) -> list[TracedElement]:
        """Return the elements met since the last call."""
        elements = self.elements[:]
        self.elements.clear()
        return elements


def trace_stream(
    data: BytesLike,
    limits: DecodeLimits | None = None,
    dimensions: Mapping[str, Sequence[int]] | None = None,
) -> Iterator[TracedElement]:
    """Yield every syntax element of ``data`` in the order of the stream.

    The payload of a data unit, or of a unit that is passed over, is one element ``nnr_unit_payload``. Elements of the
    size and the common header of a unit have the ``unit_type`` -1. Arguments and errors are those of
    :class:`netpress.bitstream.UnitReader`; elements in front of an error are yielded before it is raised.

    Example:
        >>> [(e.name, e.value) for e in trace_stream(bytes.fromhex("00040201"))][-1]
        ('general_profile_idc', 1)
    """
    reader = _TracingReader(data, limits, dimensions)
    try:
        for _ in reader:
            yield from reader.drain()
    except NetpressError:
        yield from reader.drain()
        raise
    yield from reader.drain()
