"""The visitor that walks a syntax table: the same walk parses, serialises or explains a header.

A table (module :mod:`netpress.bitstream.tables`) is a function over a :class:`Syntax`. It calls one method per row,
named after the row's descriptor. :class:`SyntaxReader` answers with values from a bit window and stores them into the
record, :class:`SyntaxWriter` takes the values from the record; in :mod:`netpress.bitstream.trace`, a reader notes each
element.

Source: ISO/IEC 15938-17, descriptors and syntax tables.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from netpress.bitstream.bits import MOST_REMEMBERED_BITS, BitReader, BitWriter, DoesNotFit
from netpress.errors import LimitExceeded, UnsupportedBitstream
from netpress.limits import DecodeLimits

__all__ = ["Memory", "Syntax", "SyntaxReader", "SyntaxWriter"]

Entry = TypeVar("Entry")
Part = Callable[["Syntax"], None]


class Memory:
    """Parts of headers that a reader or a writer has met in a stream, and may meet again."""

    __slots__ = ("lengths", "parts")

    MOST_PARTS = 4096
    MOST_LENGTHS = 16

    def __init__(self) -> None:
        self.parts: dict[tuple[object, ...], tuple[Any, ...]] = {}
        self.lengths: dict[tuple[object, ...], list[int]] = {}


class Syntax(abc.ABC):
    """What a syntax table can say.

    The methods ``u``, ``i``, ``ue``, ``ie``, ``st`` and ``flt`` handle the attribute ``name`` of ``record``. Their
    ``*_value`` forms handle a value that is derived from the record, and return it: the given one when writing, the one
    in the stream when reading, where the given one is ignored.
    """

    __slots__ = ()

    writing: bool
    """Whether the walk takes its values from the records."""

    # Elements that are values.

    @abc.abstractmethod
    def u_value(self, name: str, value: int, bits: int) -> int:
        """Handle u(``bits``)."""

    @abc.abstractmethod
    def i_value(self, name: str, value: int, bits: int) -> int:
        """Handle i(``bits``)."""

    @abc.abstractmethod
    def ue_value(self, name: str, value: int, order: int) -> int:
        """Handle ue(``order``)."""

    @abc.abstractmethod
    def ie_value(self, name: str, value: int, order: int) -> int:
        """Handle ie(``order``)."""

    @abc.abstractmethod
    def st_value(self, name: str, value: str) -> str:
        """Handle st(v)."""

    @abc.abstractmethod
    def flt_value(self, name: str, value: float) -> float:
        """Handle flt(32)."""

    @abc.abstractmethod
    def align(self) -> None:
        """Handle the alignment element."""

    @abc.abstractmethod
    def rest(self, name: str, value: bytes, *, terminated: bool) -> bytes:
        """Handle the rest of the unit as bytes; ``terminated`` takes off a final zero byte, which must be there."""

    # Elements that are attributes of a record.

    def u(self, record: object, name: str, bits: int) -> None:
        """Handle the attribute ``name`` as u(``bits``)."""
        setattr(record, name, self.u_value(name, getattr(record, name), bits))

    def i(self, record: object, name: str, bits: int) -> None:
        """Handle the attribute ``name`` as i(``bits``)."""
        setattr(record, name, self.i_value(name, getattr(record, name), bits))

    def ue(self, record: object, name: str, order: int) -> None:
        """Handle the attribute ``name`` as ue(``order``)."""
        setattr(record, name, self.ue_value(name, getattr(record, name), order))

    def ie(self, record: object, name: str, order: int) -> None:
        """Handle the attribute ``name`` as ie(``order``)."""
        setattr(record, name, self.ie_value(name, getattr(record, name), order))

    def st(self, record: object, name: str) -> None:
        """Handle the attribute ``name`` as st(v)."""
        setattr(record, name, self.st_value(name, getattr(record, name)))

    def flt(self, record: object, name: str) -> None:
        """Handle the attribute ``name`` as flt(32)."""
        setattr(record, name, self.flt_value(name, getattr(record, name)))

    def digest(self, record: object, name: str, bits: int) -> None:
        """Handle the attribute ``name``, which is bytes, as u(``bits``)."""
        value = getattr(record, name) if self.writing else None
        if self.writing and (not isinstance(value, bytes) or len(value) * 8 != bits):
            raise DoesNotFit(f"{name}: {bits // 8} bytes needed")
        number = self.u_value(name, int.from_bytes(value or b"", "big"), bits)
        setattr(record, name, number.to_bytes(bits // 8, "big"))

    # Elements that follow from others.

    def flag(self, name: str, value: bool) -> bool:
        """Handle a u(1) that follows from the content of the record, as a presence flag does."""
        return bool(self.u_value(name, int(value), 1))

    def reserved_zero(self, name: str, bits: int) -> None:
        """Handle ``bits`` reserved bits, which must be zero."""
        self.require(self.u_value(name, 0, bits) == 0, f"the reserved bits {name} are not zero")

    @abc.abstractmethod
    def absent(self, record: object, inferred: object, *names: str) -> None:
        """Say that the attributes ``names`` are not in the stream here and have the value ``inferred``.

        Reading sets them to it. Writing refuses any other value than that, None, zero or nothing, since it would be
        lost.
        """

    # Arrays.

    @abc.abstractmethod
    def entries(self, values: Sequence[Entry], count: int, blank: Callable[[], Entry]) -> Iterable[Entry]:
        """Yield the ``count`` records to walk over: those in ``values`` when writing, fresh ones when reading."""

    @abc.abstractmethod
    def ue_array(self, name: str, values: Sequence[int], count: int, order: int) -> tuple[int, ...]:
        """Handle ``count`` numbers as ue(``order``) each."""

    def u_array(self, name: str, values: Sequence[int], count: int, bits: int) -> tuple[int, ...]:
        """Handle ``count`` numbers as u(``bits``) each."""
        return tuple([self.u_value(self._at(name, j), v, bits) for j, v in enumerate(self.entries(values, count, int))])

    def flt_array(self, name: str, values: Sequence[float], count: int) -> tuple[float, ...]:
        """Handle ``count`` numbers as flt(32) each."""
        return tuple([self.flt_value(self._at(name, j), v) for j, v in enumerate(self.entries(values, count, float))])

    def st_array(self, name: str, values: Sequence[str], count: int) -> tuple[str, ...]:
        """Handle ``count`` texts as st(v) each."""
        return tuple([self.st_value(self._at(name, j), v) for j, v in enumerate(self.entries(values, count, str))])

    def _at(self, name: str, index: int) -> str:
        """Name of an array element; only a tracer spells out the index."""
        return name

    # Parts of a table.

    def recurring(
        self, part: Part, record: Entry, key: tuple[int, ...], fields: Sequence[str], exempt: Callable[[Entry], bool]
    ) -> None:
        """Handle ``part(self)``, which many units of a stream have alike.

        A visitor with a memory may take what it met before instead of walking the part again. For that the part sets
        the attributes ``fields`` of the record, nothing else, and depends on nothing but ``key`` and its bits (when
        writing: these attributes), in one stream. ``exempt(record)``, asked after the part, tells where that is not
        so.
        """
        part(self)

    # What a table demands.

    @abc.abstractmethod
    def require(self, condition: bool, message: str) -> None:
        """Refuse what the standard does not allow: ``InvalidBitstream`` when reading, ``DoesNotFit`` when writing."""

    @abc.abstractmethod
    def limit(self, value: int, limit: str) -> None:
        """Raise ``LimitExceeded`` when reading and ``value`` is above the field ``limit`` of the decode limits."""

    @abc.abstractmethod
    def unsupported(self, message: str) -> None:
        """Refuse what is not implemented: ``UnsupportedBitstream`` when reading, ``DoesNotFit`` when writing."""


class SyntaxReader(Syntax):
    """Parses: takes the values from ``bits`` and stores them into the records."""

    __slots__ = ("bits", "limits", "memory")

    writing = False

    def __init__(self, bits: BitReader, limits: DecodeLimits, memory: Memory | None = None) -> None:
        self.bits = bits
        self.limits = limits
        self.memory = memory

    def recurring(
        self, part: Part, record: Entry, key: tuple[int, ...], fields: Sequence[str], exempt: Callable[[Entry], bool]
    ) -> None:
        """Set the fields as they were set where the same bits stood before; else read them.

        The codes of the elements are prefix-free: where all bits of a part stand again, they are the same part.
        """
        memory, bits = self.memory, self.bits
        if memory is None:
            part(self)
            return
        start = bits.position
        ahead, count = bits.ahead()
        place = (*key, start & 7)
        lengths = memory.lengths.setdefault(place, [])
        for length in lengths:
            if length <= count and (values := memory.parts.get((place, length, ahead >> (count - length)))) is not None:
                for name, value in zip(fields, values, strict=True):
                    setattr(record, name, value)
                bits.skip(length)
                return
        part(self)
        length = bits.position - start
        if length > count or exempt(record) or len(memory.parts) >= memory.MOST_PARTS:
            return
        if length not in lengths:
            if len(lengths) >= memory.MOST_LENGTHS:
                return
            lengths.append(length)
        memory.parts[place, length, ahead >> (count - length)] = tuple([getattr(record, name) for name in fields])

    def u(self, record: object, name: str, bits: int) -> None:
        """Read the attribute ``name`` as u(``bits``)."""
        setattr(record, name, self.bits.u(bits))

    def flag(self, name: str, value: bool) -> bool:
        """Read a u(1)."""
        return self.u_value(name, 0, 1) == 1

    def ue(self, record: object, name: str, order: int) -> None:
        """Read the attribute ``name`` as ue(``order``)."""
        setattr(record, name, self.bits.ue(order))

    def u_value(self, name: str, value: int, bits: int) -> int:
        """Read u(``bits``)."""
        return self.bits.u(bits)

    def i_value(self, name: str, value: int, bits: int) -> int:
        """Read i(``bits``)."""
        return self.bits.i(bits)

    def ue_value(self, name: str, value: int, order: int) -> int:
        """Read ue(``order``)."""
        return self.bits.ue(order)

    def ie_value(self, name: str, value: int, order: int) -> int:
        """Read ie(``order``)."""
        return self.bits.ie(order)

    def st_value(self, name: str, value: str) -> str:
        """Read st(v), of at most ``max_name_bytes``."""
        return self.bits.st(self.limits.max_name_bytes)

    def flt_value(self, name: str, value: float) -> float:
        """Read flt(32)."""
        return self.bits.flt32()

    def align(self) -> None:
        """Read and check the alignment element."""
        self.bits.align()

    def rest(self, name: str, value: bytes, *, terminated: bool) -> bytes:
        """Read the rest of the window, of at most ``max_topology_bytes``."""
        count = self.bits.bits_left >> 3
        self.limit(count - terminated, "max_topology_bytes")
        self.require(count >= terminated, f"{name} is missing")
        data = self.bits.view(count)
        if terminated:
            self.require(data[-1] == 0, f"{name} has no terminating zero")
            data = data[:-1]
        return bytes(data)

    def absent(self, record: object, inferred: object, *names: str) -> None:
        """Set the attributes to the inferred value."""
        for name in names:
            setattr(record, name, inferred)

    def entries(self, values: Sequence[Entry], count: int, blank: Callable[[], Entry]) -> Iterable[Entry]:
        """Yield ``count`` fresh records."""
        return (blank() for _ in range(count))

    def ue_array(self, name: str, values: Sequence[int], count: int, order: int) -> tuple[int, ...]:
        """Read ``count`` numbers as ue(``order``)."""
        if count > self.bits.bits_left:
            self.bits.fail(f"{count} elements of {name} cannot fit into the unit")
        return tuple([self.ue_value(self._at(name, j), 0, order) for j in range(count)])

    def require(self, condition: bool, message: str) -> None:
        """Raise :class:`netpress.InvalidBitstream` unless ``condition`` holds."""
        if not condition:
            self.bits.fail(message)

    def limit(self, value: int, limit: str) -> None:
        """Raise :class:`netpress.LimitExceeded` if ``value`` is above the limit."""
        bound = getattr(self.limits, limit)
        if value > bound:
            message = f"{value} exceeds DecodeLimits.{limit} = {bound}"
            raise LimitExceeded(message, limit=limit, unit=self.bits.unit, offset=self.bits.offset)

    def unsupported(self, message: str) -> None:
        """Raise :class:`netpress.UnsupportedBitstream`."""
        raise UnsupportedBitstream(message, unit=self.bits.unit, offset=self.bits.offset)


class SyntaxWriter(Syntax):
    """Serialises: takes the values from the records, which keep them, and writes them into ``bits``."""

    __slots__ = ("bits", "memory")

    writing = True

    def __init__(self, bits: BitWriter, memory: Memory | None = None) -> None:
        self.bits = bits
        self.memory = memory

    def recurring(
        self, part: Part, record: Entry, key: tuple[int, ...], fields: Sequence[str], exempt: Callable[[Entry], bool]
    ) -> None:
        """Write the bits that the same fields had before; else walk the part."""
        memory, bits = self.memory, self.bits
        if memory is None:
            part(self)
            return
        place = (*key, bits.position & 7, *[getattr(record, name) for name in fields])
        if (known := memory.parts.get(place)) is not None:
            bits.u(known[0], known[1])
            return
        start = bits.position
        part(self)
        length = bits.position - start
        if length <= MOST_REMEMBERED_BITS and not exempt(record) and len(memory.parts) < memory.MOST_PARTS:
            memory.parts[place] = (bits.last(length), length)

    def u(self, record: object, name: str, bits: int) -> None:
        """Write the attribute ``name`` as u(``bits``)."""
        try:
            self.bits.u(getattr(record, name), bits)
        except DoesNotFit as error:
            raise DoesNotFit(f"{name}: {error}") from None

    def i(self, record: object, name: str, bits: int) -> None:
        """Write the attribute ``name`` as i(``bits``)."""
        self.i_value(name, getattr(record, name), bits)

    def ue(self, record: object, name: str, order: int) -> None:
        """Write the attribute ``name`` as ue(``order``)."""
        try:
            self.bits.ue(getattr(record, name), order)
        except DoesNotFit as error:
            raise DoesNotFit(f"{name}: {error}") from None

    def ie(self, record: object, name: str, order: int) -> None:
        """Write the attribute ``name`` as ie(``order``)."""
        self.ie_value(name, getattr(record, name), order)

    def u_value(self, name: str, value: int, bits: int) -> int:
        """Write u(``bits``)."""
        return self._write(self.bits.u, name, value, bits)

    def i_value(self, name: str, value: int, bits: int) -> int:
        """Write i(``bits``)."""
        return self._write(self.bits.i, name, value, bits)

    def ue_value(self, name: str, value: int, order: int) -> int:
        """Write ue(``order``)."""
        return self._write(self.bits.ue, name, value, order)

    def ie_value(self, name: str, value: int, order: int) -> int:
        """Write ie(``order``)."""
        return self._write(self.bits.ie, name, value, order)

    def _write(self, put: Callable[[int, int], None], name: str, value: int, parameter: int) -> int:
        """Write a number and name the element in the error."""
        try:
            put(value, parameter)
        except DoesNotFit as error:
            raise DoesNotFit(f"{name}: {error}") from None
        return value

    def st_value(self, name: str, value: str) -> str:
        """Write st(v)."""
        try:
            self.bits.st(value)
        except DoesNotFit as error:
            raise DoesNotFit(f"{name}: {error}") from None
        return value

    def flt_value(self, name: str, value: float) -> float:
        """Write flt(32)."""
        try:
            self.bits.flt32(value)
        except DoesNotFit as error:
            raise DoesNotFit(f"{name}: {error}") from None
        return value

    def align(self) -> None:
        """Write the alignment element."""
        self.bits.align()

    def rest(self, name: str, value: bytes, *, terminated: bool) -> bytes:
        """Write ``value``, and a zero byte if ``terminated``."""
        if not isinstance(value, bytes):
            raise DoesNotFit(f"{name}: bytes needed, not {type(value).__name__}")
        self.bits.append(value + b"\0" if terminated else value)
        return value

    def absent(self, record: object, inferred: object, *names: str) -> None:
        """Refuse values that would be lost."""
        for name in names:
            value = getattr(record, name)
            if value is not None and value != inferred and value not in (0, ()):
                raise DoesNotFit(f"{name} = {value!r} cannot be written here; the syntax has no place for it")

    def entries(self, values: Sequence[Entry], count: int, blank: Callable[[], Entry]) -> Iterable[Entry]:
        """Yield the records in ``values``, of which there must be ``count``."""
        if len(values) != count:
            raise DoesNotFit(f"{count} entries needed, {len(values)} given")
        return values

    def ue_array(self, name: str, values: Sequence[int], count: int, order: int) -> tuple[int, ...]:
        """Write ``count`` numbers as ue(``order``)."""
        return tuple([self.ue_value(name, value, order) for value in self.entries(values, count, int)])

    def require(self, condition: bool, message: str) -> None:
        """Raise :class:`DoesNotFit` unless ``condition`` holds."""
        if not condition:
            raise DoesNotFit(message)

    def limit(self, value: int, limit: str) -> None:
        """Accept: limits are the reader's."""

    def unsupported(self, message: str) -> None:
        """Raise :class:`DoesNotFit`."""
        raise DoesNotFit(message)
