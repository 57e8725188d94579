"""Descriptors: worked values, bounds of the window, refusals."""

from __future__ import annotations

import mmap

import pytest

from netpress.bitstream.bits import MAX_PREFIX_ZEROS, BitReader, BitWriter, DoesNotFit, ue_bits
from netpress.errors import InvalidBitstream, InvalidConfig, LimitExceeded


def written(method: str, *arguments: object) -> str:
    """Bits that one call of a writer appends."""
    writer = BitWriter()
    getattr(writer, method)(*arguments)
    length = writer.position
    writer.u(0, -length % 8)
    return "".join(f"{byte:08b}" for byte in writer.getvalue())[:length]


def reader_of(bits: str) -> BitReader:
    return BitReader(bytes(int(bits[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(bits), 8)))


@pytest.mark.parametrize(
    ("value", "order", "bits"),
    [
        (0, 1, "10"),
        (1, 1, "11"),
        (2, 1, "0100"),
        (3, 1, "0101"),
        (3, 7, "10000011"),
        (0, 0, "1"),
        (0, 11, "1" + "0" * 11),
    ],
)
def test_ue_examples(value: int, order: int, bits: str) -> None:
    assert written("ue", value, order) == bits
    assert reader_of(bits).ue(order) == value
    assert ue_bits(value, order) == len(bits)


@pytest.mark.parametrize(("value", "bits"), [(0, "100"), (1, "101"), (-1, "110"), (2, "111"), (-2, "01000")])
def test_ie_examples(value: int, bits: str) -> None:
    assert written("ie", value, 2) == bits
    assert reader_of(bits).ie(2) == value


@pytest.mark.parametrize("value", [0, 1, 2**31 - 1, 2**32, (2**33 - 1) * 2**11 - 1 - 2**11])
@pytest.mark.parametrize("before", range(8))
def test_ue_large_at_every_bit_position(value: int, before: int) -> None:
    writer = BitWriter()
    writer.u(0, before)
    writer.ue(value, 11)
    writer.align()
    reader = BitReader(writer.getvalue())
    reader.u(before)
    assert reader.ue(11) == value
    reader.align()
    assert reader.bits_left == 0


def test_ue_prefix_is_bounded() -> None:
    largest = 2 ** (MAX_PREFIX_ZEROS + 1) - 2
    assert reader_of(written("ue", largest, 0)).ue(0) == largest
    with pytest.raises(DoesNotFit):
        written("ue", largest + 1, 0)
    with pytest.raises(InvalidBitstream, match="more than 32 zeros"):
        BitReader(bytes(4) + b"\x40" + bytes(8)).ue(0)
    with pytest.raises(InvalidBitstream, match="more than 32 zeros"):
        BitReader(bytes(100)).ue(0)


@pytest.mark.parametrize("data", [b"", b"\x00", bytes(4), b"\x00\x01"])
def test_ue_stays_in_window(data: bytes) -> None:
    with pytest.raises(InvalidBitstream):
        BitReader(data + b"\xff", 0, len(data)).ue(3)


def test_u_and_i() -> None:
    assert written("u", 5, 4) == "0101"
    assert written("i", -1, 13) == "1" * 13
    assert reader_of("1" * 13).i(13) == -1
    assert reader_of("0" + "1" * 12).i(13) == 4095
    assert reader_of("").u(0) == 0
    wide = BitWriter()
    wide.u(3, 2)
    wide.u(2**512 - 2, 512)
    wide.u(1, 6)
    reader = BitReader(wide.getvalue())
    assert (reader.u(2), reader.u(512), reader.u(6)) == (3, 2**512 - 2, 1)


@pytest.mark.parametrize(
    ("method", "value", "parameter"),
    [
        ("u", 8, 3),
        ("u", -1, 3),
        ("i", 4096, 13),
        ("i", -4097, 13),
        ("ue", -1, 1),
        ("ie", 2**40, 1),
        ("u", 1.5, 3),
        ("u", None, 3),
    ],
)
def test_values_that_do_not_fit(method: str, value: object, parameter: int) -> None:
    with pytest.raises(DoesNotFit) as caught:
        written(method, value, parameter)
    assert isinstance(caught.value, InvalidConfig)


def test_float_is_little_endian_and_needs_no_alignment() -> None:
    assert written("flt32", 1.0) == "00000000" * 2 + "10000000" + "00111111"
    writer = BitWriter()
    writer.u(1, 1)
    writer.flt32(-0.15625)
    writer.u(0, 7)
    reader = BitReader(writer.getvalue())
    assert (reader.u(1), reader.flt32()) == (1, -0.15625)
    for value in (1e39, "x", None):
        with pytest.raises(DoesNotFit):
            writer.flt32(value)  # type: ignore[arg-type]


def test_align() -> None:
    assert written("align") == "10000000"
    writer = BitWriter()
    writer.u(0, 3)
    writer.align()
    assert writer.getvalue() == b"\x10"
    for wrong in (b"\x00", b"\x11", b"\x18", b"\x08"):
        reader = BitReader(wrong)
        reader.u(3)
        with pytest.raises(InvalidBitstream, match="alignment"):
            reader.align()
    with pytest.raises(InvalidBitstream):
        BitReader(b"").align()


@pytest.mark.parametrize("text", ["", "a", "ünïcode/重み", "x" * 127, "x" * 128, "x" * 5000])
def test_string_round_trip(text: str) -> None:
    writer = BitWriter()
    writer.st(text)
    writer.u(0xAB, 8)
    reader = BitReader(writer.getvalue())
    assert (reader.st(1 << 16), reader.u(8)) == (text, 0xAB)


def test_string_refusals() -> None:
    with pytest.raises(InvalidBitstream, match="no terminating zero"):
        BitReader(b"abc\0", 0, 3).st(100)
    with pytest.raises(InvalidBitstream, match="UTF-8"):
        BitReader(b"\xff\xfe\0").st(100)
    with pytest.raises(LimitExceeded) as caught:
        BitReader(b"abcd\0").st(3)
    assert caught.value.limit == "max_name_bytes"
    with pytest.raises(LimitExceeded):
        BitReader(b"a" * 5000 + b"\0").st(1000)
    assert BitReader(b"abc\0").st(3) == "abc"
    assert BitReader(b"\0").st(0) == ""
    reader = BitReader(b"ab\0")
    reader.u(1)
    with pytest.raises(InvalidBitstream, match="inside of a byte"):
        reader.st(3)
    for wrong in ("a\0b", "\ud800", 5):
        with pytest.raises(DoesNotFit):
            BitWriter().st(wrong)  # type: ignore[arg-type]


def test_window_and_error_location() -> None:
    reader = BitReader(b"\1\2\3\4", 1, 3, unit=7)
    assert (reader.u(8), reader.position, reader.bits_left, reader.end) == (2, 16, 8, 3)
    with pytest.raises(InvalidBitstream) as caught:
        reader.u(9)
    assert (caught.value.unit, caught.value.offset) == (7, 2)
    assert reader.u(8) == 3
    moved = BitReader(b"\1\2", locate=lambda position: position + 100)
    moved.u(9)
    assert (moved.offset, moved.stream_bit(moved.position)) == (101, 809)
    with pytest.raises(ValueError, match="outside"):
        BitReader(b"", 0, 1)


def test_views_are_not_copies_and_stay_inside() -> None:
    data = bytearray(b"abcdef")
    reader = BitReader(data, 1, 5)
    view = reader.view(3)
    data[1] = ord("x")
    assert bytes(view) == b"xcd"
    with pytest.raises(InvalidBitstream):
        reader.view(2)
    reader.u(4)
    with pytest.raises(InvalidBitstream):
        reader.view(0)


def test_reads_memory_maps_and_typed_views() -> None:
    with mmap.mmap(-1, 4) as area:
        area[:] = b"\1\2\3\4"
        reader = BitReader(area)
        assert reader.u(32) == 0x01020304
        del reader
    assert BitReader(memoryview(b"\1\2\3\4").cast("H")).u(16) == 0x0102


def test_writer_needs_whole_bytes() -> None:
    writer = BitWriter()
    writer.u(1, 3)
    for call in (writer.getvalue, lambda: writer.append(b"x"), lambda: writer.st("x")):
        with pytest.raises(DoesNotFit):
            call()
