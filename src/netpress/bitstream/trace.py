"""Every syntax element of a stream, with value and position.

Source: ISO/IEC 15938-17, syntax tables; this is the reader with a tracing visitor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from netpress.bitstream.bits import BitReader, BytesLike
from netpress.bitstream.reader import UnitReader
from netpress.bitstream.syntax import SyntaxReader, SyntaxTracer, TracedElement
from netpress.errors import NetpressError
from netpress.limits import DecodeLimits

__all__ = ["trace_stream"]


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
