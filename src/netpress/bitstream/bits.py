"""Bounded bit windows: the descriptors of the standard, read from and written to bytes.

Source: ISO/IEC 15938-17, the clause that specifies the descriptors u(n), i(n), ue(k), ie(k), st(v), flt(32) and the
alignment element. Everything is most significant bit first except the bytes of flt(32).
"""

from __future__ import annotations

import mmap
import operator
import struct
from collections.abc import Callable
from typing import NoReturn

from netpress.errors import InvalidBitstream, InvalidConfig, LimitExceeded

__all__ = ["MAX_PREFIX_ZEROS", "MOST_REMEMBERED_BITS", "BitReader", "BitWriter", "BytesLike", "DoesNotFit", "ue_bits"]

BytesLike = bytes | bytearray | memoryview | mmap.mmap
"""What can be read: anything that gives a contiguous view of bytes."""

MAX_PREFIX_ZEROS = 32
"""Longest run of zeros that may open an exponential-Golomb code; longer ones are refused in both directions."""

MOST_REMEMBERED_BITS = 256
"""Longest part of a header that a writer hands out again."""

_LOOKAHEAD_BYTES = 9
_HEAD_BYTES = 64  # most headers are shorter; they are read from one integer
_FLOAT = struct.Struct("<f")


class DoesNotFit(InvalidConfig):
    """A value cannot be written with the descriptor of its syntax element."""


def ue_bits(value: int, order: int) -> int:
    """Return the length in bits of ``value`` >= 0 as ue(``order``).

    Source: definition of ue(k).
    """
    return 2 * (value + (1 << order)).bit_length() - 1 - order


class BitReader:
    """Reads descriptors from the bytes [``start``, ``end``) of ``data``, never outside of them.

    ``unit`` (index of the NNR unit) goes into errors. ``locate`` maps a byte position in ``data`` to the byte offset in
    the stream, for data that was reassembled; without it the two are the same.

    Every method raises :class:`netpress.InvalidBitstream`, with unit and byte offset, when a read would leave the
    window or meets a bit pattern that the descriptor does not allow.
    """

    __slots__ = ("_data", "_end", "_head", "_head_end", "_locate", "_position", "unit")

    def __init__(
        self,
        data: BytesLike,
        start: int = 0,
        end: int | None = None,
        *,
        unit: int | None = None,
        locate: Callable[[int], int] | None = None,
    ) -> None:
        view = data if type(data) is memoryview else memoryview(data)
        self._data = view if view.format == "B" and view.ndim == 1 else view.cast("B")
        stop = len(self._data) if end is None else end
        if not 0 <= start <= stop <= len(self._data):
            raise ValueError(f"window [{start}, {stop}) is outside of {len(self._data)} bytes")
        self._position = start * 8
        self._end = stop * 8
        head_end = min(start + _HEAD_BYTES, stop)
        self._head = int.from_bytes(self._data[start:head_end], "big")
        self._head_end = head_end * 8
        self._locate = locate
        self.unit = unit

    @property
    def position(self) -> int:
        """Position of the next bit, counted in bits from the start of ``data``."""
        return self._position

    @property
    def end(self) -> int:
        """First byte after the window."""
        return self._end >> 3

    @property
    def bits_left(self) -> int:
        """Bits between the position and the end of the window."""
        return self._end - self._position

    @property
    def offset(self) -> int:
        """Byte offset of the next bit in the stream."""
        here = self._position >> 3
        return here if self._locate is None else self._locate(here)

    def stream_bit(self, position: int) -> int:
        """Return where the bit ``position`` (as of :attr:`position`) lies in the stream, in bits."""
        return position if self._locate is None else self._locate(position >> 3) * 8 + (position & 7)

    def fail(self, message: str) -> NoReturn:
        """Raise :class:`netpress.InvalidBitstream` at the current position."""
        raise InvalidBitstream(message, unit=self.unit, offset=self.offset)

    def u(self, bits: int) -> int:
        """Read u(``bits``): an unsigned number of ``bits`` >= 0 bits."""
        stop = self._position + bits
        if stop <= self._head_end:
            self._position = stop
            return (self._head >> (self._head_end - stop)) & ((1 << bits) - 1)
        if stop > self._end:
            self.fail(f"{bits} bits needed but the unit ends after {self.bits_left}")
        word = int.from_bytes(self._data[self._position >> 3 : (stop + 7) >> 3], "big")
        self._position = stop
        return (word >> (-stop & 7)) & ((1 << bits) - 1)

    def ahead(self) -> tuple[int, int]:
        """Return the bits from the current position to the end of the first bytes of the window, and their number."""
        count = self._head_end - self._position
        return (self._head & ((1 << count) - 1), count) if count > 0 else (0, 0)

    def skip(self, bits: int) -> None:
        """Move on by ``bits``, which must not leave what :meth:`ahead` returns."""
        self._position += bits

    def i(self, bits: int) -> int:
        """Read i(``bits``): a two's complement number of ``bits`` >= 1 bits."""
        value = self.u(bits)
        return value - (1 << bits) if value >> (bits - 1) else value

    def ue(self, order: int) -> int:
        """Read ue(``order``): an unsigned exponential-Golomb code of at most ``MAX_PREFIX_ZEROS`` leading zeros."""
        bits_ahead = self._head_end - self._position
        if bits_ahead > 0:
            word = self._head & ((1 << bits_ahead) - 1)
            zeros = bits_ahead - word.bit_length()
            length = 2 * zeros + order + 1
            if length <= bits_ahead and zeros <= MAX_PREFIX_ZEROS:
                self._position += length
                return (word >> (bits_ahead - length)) - (1 << order)
        first = self._position >> 3
        stop = min(first + _LOOKAHEAD_BYTES, self._end >> 3)
        width = (stop << 3) - self._position
        word = int.from_bytes(self._data[first:stop], "big") & ((1 << width) - 1)
        zeros = width - word.bit_length()
        if zeros > MAX_PREFIX_ZEROS:
            self.fail(f"an exponential-Golomb code opens with more than {MAX_PREFIX_ZEROS} zeros")
        if not word:
            self.fail("an exponential-Golomb code leaves the unit")
        length = 2 * zeros + order + 1
        if length <= width:
            self._position += length
            return (word >> (width - length)) - (1 << order)
        return self.u(length) - (1 << order)

    def ie(self, order: int) -> int:
        """Read ie(``order``): a signed exponential-Golomb code."""
        code = self.ue(order)
        return (code + 1) >> 1 if code & 1 else -(code >> 1)

    def flt32(self) -> float:
        """Read flt(32): a binary32 number, least significant byte first, at any bit position."""
        value: float = _FLOAT.unpack(self.u(32).to_bytes(4, "big"))[0]
        return value

    def align(self) -> None:
        """Read the alignment element: a one, then zeros up to the next byte boundary (0x80 if already aligned)."""
        pad = 8 - (self._position & 7)
        if self.u(pad) != 1 << (pad - 1):
            self._position -= pad
            self.fail("the alignment bits are not a one followed by zeros")

    def view(self, count: int) -> memoryview:
        """Return the next ``count`` bytes, which must start on a byte boundary, without copying them."""
        if self._position & 7:
            self.fail("bytes start inside of a byte")
        first = self._position >> 3
        if first + count > self._end >> 3:
            self.fail(f"{count} bytes needed but the unit ends after {self.bits_left >> 3}")
        self._position += count << 3
        return self._data[first : first + count]

    def st(self, max_bytes: int, limit: str = "max_name_bytes") -> str:
        """Read st(v): UTF-8 text of at most ``max_bytes`` bytes and its terminating zero, byte-aligned.

        Raises :class:`netpress.LimitExceeded` naming ``limit`` when the text is longer.
        """
        if self._position & 7:
            self.fail("a string starts inside of a byte")
        first = self._position >> 3
        room = (self._end >> 3) - first
        length, looked, chunk = -1, 0, 128
        while length < 0 and looked <= max_bytes and looked < room:
            piece = bytes(self._data[first + looked : first + min(looked + chunk, room)])
            found = piece.find(0)
            length = looked + found if found >= 0 else -1
            looked += len(piece)
            chunk *= 4
        if length > max_bytes or (length < 0 and looked < room):
            message = f"a string is longer than {max_bytes} bytes ({limit})"
            raise LimitExceeded(message, limit=limit, unit=self.unit, offset=self.offset)
        if length < 0:
            self.fail("a string has no terminating zero inside of its unit")
        try:
            text = str(self._data[first : first + length], "utf-8")
        except UnicodeDecodeError:
            self.fail("a string is not valid UTF-8")
        self._position += (length + 1) << 3
        return text


class BitWriter:
    """Collects descriptors into bytes; raises :class:`DoesNotFit` for values that a descriptor cannot carry."""

    __slots__ = ("_bits", "_bytes", "_word")

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._word = 0
        self._bits = 0

    @property
    def position(self) -> int:
        """Bits written so far."""
        return len(self._bytes) * 8 + self._bits

    def _put(self, value: int, bits: int) -> None:
        """Append the low ``bits`` bits; ``value`` is known to fit."""
        self._word = self._word << bits | value
        self._bits += bits
        if self._bits >= 512:
            self._flush()

    def _flush(self) -> None:
        """Move whole bytes out of the word."""
        rest = self._bits & 7
        self._bytes += (self._word >> rest).to_bytes(self._bits >> 3, "big")
        self._word &= (1 << rest) - 1
        self._bits = rest

    def u(self, value: int, bits: int) -> None:
        """Write u(``bits``); 0 <= ``value`` < 2**bits."""
        number = value if type(value) is int else _integer(value)
        if number < 0 or number >> bits:
            raise DoesNotFit(f"{number} does not fit u({bits})")
        self._word = self._word << bits | number
        self._bits += bits
        if self._bits >= 512:
            self._flush()

    def i(self, value: int, bits: int) -> None:
        """Write i(``bits``); -2**(bits-1) <= ``value`` < 2**(bits-1)."""
        number = _integer(value)
        if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
            raise DoesNotFit(f"{number} does not fit i({bits})")
        self._put(number & ((1 << bits) - 1), bits)

    def ue(self, value: int, order: int) -> None:
        """Write ue(``order``); ``value`` >= 0, with at most ``MAX_PREFIX_ZEROS`` leading zeros."""
        number = value if type(value) is int else _integer(value)
        code = number + (1 << order)
        zeros = code.bit_length() - 1 - order
        if number < 0 or zeros > MAX_PREFIX_ZEROS:
            raise DoesNotFit(f"{number} does not fit ue({order})")
        self._put(code, 2 * zeros + order + 1)

    def ie(self, value: int, order: int) -> None:
        """Write ie(``order``)."""
        number = _integer(value)
        try:
            self.ue(2 * number - 1 if number > 0 else -2 * number, order)
        except DoesNotFit:
            raise DoesNotFit(f"{number} does not fit ie({order})") from None

    def flt32(self, value: float) -> None:
        """Write flt(32): ``value`` rounded to binary32."""
        try:
            raw = _FLOAT.pack(value)
        except (struct.error, OverflowError):
            raise DoesNotFit(f"{value!r} is not a binary32 number") from None
        self._put(int.from_bytes(raw, "big"), 32)

    def align(self) -> None:
        """Write the alignment element."""
        pad = 8 - (self._bits & 7)
        self._put(1 << (pad - 1), pad)

    def last(self, bits: int) -> int:
        """Return the last ``bits`` <= ``MOST_REMEMBERED_BITS`` bits written."""
        missing = bits - self._bits
        if missing <= 0:
            return self._word & ((1 << bits) - 1)
        count = (missing + 7) >> 3
        before = int.from_bytes(self._bytes[-count:], "big")
        return (before << self._bits | self._word) & ((1 << bits) - 1)

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes; the position must be byte-aligned."""
        if self._bits & 7:
            raise DoesNotFit("bytes must start on a byte boundary")
        self._flush()
        self._bytes += data

    def st(self, value: str) -> None:
        """Write st(v): the text in UTF-8 and a zero byte; the text must not contain NUL."""
        if not isinstance(value, str):
            raise DoesNotFit(f"{value!r} is not a text")
        if "\0" in value:
            raise DoesNotFit(f"the text {value!r} contains NUL")
        try:
            raw = value.encode("utf-8")
        except UnicodeEncodeError:
            raise DoesNotFit(f"the text {value!r} cannot be written as UTF-8") from None
        self.append(raw + b"\0")

    def getvalue(self) -> bytes:
        """Return everything written; the position must be byte-aligned."""
        if self._bits & 7:
            raise DoesNotFit("the bits written do not fill whole bytes")
        self._flush()
        return bytes(self._bytes)


def _integer(value: int) -> int:
    """Return ``value`` as a Python integer (NumPy integers and booleans included)."""
    try:
        return operator.index(value)
    except TypeError:
        raise DoesNotFit(f"{value!r} is not an integer") from None
