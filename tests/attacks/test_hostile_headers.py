"""Hostile headers: every check of the reader, with the error class that it must raise, and bounded time and memory."""

from __future__ import annotations

import dataclasses
import time
import tracemalloc
from collections.abc import Callable

import pytest

from netpress.bitstream import SkippedUnitWarning, UnitReader, scan_units, trace_stream
from netpress.bitstream.bits import BitWriter
from netpress.errors import InvalidBitstream, LimitExceeded, NetpressError, UnsupportedBitstream
from netpress.limits import DecodeLimits

STR = bytes.fromhex("00040201")
MPS = bytes.fromhex("0008068100400080")
MPS_WITHOUT_QP = bytes.fromhex("000606800080")
HEAD = STR + MPS
LPS = bytes.fromhex("00080a0002400080")
PARENT_MPS = bytes.fromhex("0008068108400080")
INDEXED_MPS = bytes.fromhex("0008068180400080")
NDU, TPL, QNT = 5, 3, 4


def unit(unit_type: int, body: bytes, *, size: int | None = None, fixed: int | None = None) -> bytes:
    """A unit with any size field and any byte of fixed header."""
    head = bytes([unit_type << 2 | 2 if fixed is None else fixed])
    return (len(head + body) + 2 if size is None else size).to_bytes(2, "big") + head + body


@dataclasses.dataclass
class Header:
    """A data unit header as a list of (descriptor, parameter, value) by name, to be tampered with."""

    rows: list[tuple[str, str, int, object]]

    def put(self, **values: object) -> Header:
        """Replace values."""
        assert set(values) <= {name for name, *_ in self.rows}
        return Header([(name, kind, p, values.get(name, value)) for name, kind, p, value in self.rows])

    def drop(self, *names: str) -> Header:
        """Leave elements out."""
        return Header([row for row in self.rows if row[0] not in names])

    def after(self, name: str, *rows: tuple[str, str, int, object]) -> Header:
        """Add elements."""
        at = [row[0] for row in self.rows].index(name) + 1
        return Header(self.rows[:at] + list(rows) + self.rows[at:])

    def bits(self) -> BitWriter:
        """Everything written, without alignment."""
        writer = BitWriter()
        for _, kind, parameter, value in self.rows:
            if kind in ("align", "st"):
                getattr(writer, kind)(*([] if kind == "align" else [value]))
            elif kind == "raw":
                for bit in str(value):
                    writer.u(int(bit), 1)
            else:
                getattr(writer, kind)(value, parameter)
        return writer

    def unit(self, payload: bytes = b"\0" * 8) -> bytes:
        """The aligned header and the payload in a unit."""
        writer = self.bits()
        writer.align()
        return unit(NDU, writer.getvalue() + payload)


FLOAT = Header(
    [
        ("payload_type", "u", 5, 1),
        ("multiple", "u", 1, 0),
        ("format_present", "u", 1, 0),
        ("input_parameters", "u", 1, 1),
        ("name", "st", 0, "w"),
        ("node_id_present", "u", 1, 1),
        ("device_id", "ue", 1, 0),
        ("parameter_id", "ue", 5, 0),
        ("depth", "ue", 4, 0),
        ("codebook_present", "u", 1, 0),
        ("dq", "u", 1, 0),
        ("dimensions_flag", "u", 1, 1),
        ("unary_flag", "u", 1, 1),
        ("types", "u", 4, 0),
        ("count", "ue", 1, 2),
        ("d0", "ue", 7, 20),
        ("d1", "ue", 7, 6),
        ("unary", "u", 8, 10),
        ("shift", "ue", 1, 0),
        ("scan", "u", 4, 0),
    ]
)
RANK_AND_ROWS = (("rank", "ue", 3, 2), ("rows", "ue", 3, 20))
BLOCK = FLOAT.put(payload_type=3, multiple=1, types=8).drop("name")
BLOCK = BLOCK.after("input_parameters", ("elements", "ue", 7, 0), ("pad", "align", 0, 0))
BLOCK = BLOCK.after("pad", ("name", "st", 0, "w_G"), ("name2", "st", 0, "w_H"))
DECOMPOSED = BLOCK.put(types=1).after("types", *RANK_AND_ROWS)
FACTOR = FLOAT.put(name="w_G", types=1).after("types", *RANK_AND_ROWS)
SCANNED = FLOAT.put(scan=1).after(
    "scan", ("value0", "u", 8, 3), ("o0", "ue", 11, 5), ("value1", "u", 8, 3), ("o1", "ie", 7, 0)
)
CODEBOOK = FLOAT.put(codebook_present=1).after(
    "codebook_present",
    ("egk", "u", 4, 0),
    ("size", "ue", 2, 3),
    ("offset", "ie", 2, 0),
    ("zero", "ie", 7, 0),
    ("left", "ue", 0, 0),
    ("right", "ue", 0, 0),
)
RAW = FLOAT.put(payload_type=2, count=1, d0=2).drop("codebook_present", "dq", "d1", "shift", "scan")
PARENT = FLOAT.after("depth", ("parent", "u", 1, 1), ("parent_type", "u", 2, 3), ("temporal", "u", 1, 0))


def read(data: bytes, limits: DecodeLimits | None = None) -> int:
    return len(list(UnitReader(data, limits=limits)))


@pytest.mark.parametrize("header", [FLOAT, BLOCK, DECOMPOSED, SCANNED, CODEBOOK, RAW])
def test_untampered_headers_are_read(header: Header) -> None:
    assert read(HEAD + header.unit()) == 3


INVALID: dict[str, bytes] = {
    "empty stream": b"",
    "one byte": b"\0",
    "half of a long size": b"\x80\0\0",
    "size 0": b"\0\0\2\1",
    "size 2": b"\0\2\2\1",
    "long size 4": b"\x80\0\0\4\2\1",
    "size beyond the end": b"\0\5\2\1",
    "size cuts the header": STR + b"\0\3\6" + MPS[3:],
    "counter outside of the unit": STR + bytes.fromhex("00030700"),
    "bytes left over in STR": bytes.fromhex("0005020100"),
    "bytes left over in MPS": STR + bytes.fromhex("000906810040008000"),
    "no start unit": MPS,
    "unknown unit first": unit(40, b"") + HEAD,
    "second start unit": HEAD + STR,
    "second MPS": HEAD + MPS,
    "MPS after NDU": HEAD + FLOAT.unit() + MPS,
    "TPL before MPS": STR + unit(TPL, b"\0\0\0"),
    "LPS before MPS": STR + LPS,
    "NDU before MPS": STR + FLOAT.unit(),
    "MPS padding": STR + MPS[:-1] + b"\x81",
    "MPS without align": STR + MPS[:-1] + b"\x00",
    "MPS reserved 1 bit": STR + bytes.fromhex("0008068104400080"),
    "MPS reserved 2 bits": STR + bytes.fromhex("0008068101400080"),
    "MPS reserved 7 bits": bytes.fromhex("000402000008068101400080"),
    "LPS reserved 7 bits": HEAD + bytes.fromhex("00080a0102400080"),
    "LPS reserved first bit": HEAD + bytes.fromhex("00080a0082400080"),
    "LPS reserved last bit": HEAD + bytes.fromhex("00080a0003400080"),
    "map count 0": STR + unit(1, bytes.fromhex("c10040000080")),
    "map leaves the unit": STR + unit(1, bytes.fromhex("c1004000ff80")),
    "TPL without terminator": HEAD + unit(TPL, b"\0\0abc"),
    "TPL without data": HEAD + unit(TPL, b"\0\0"),
    "TPL short header": HEAD + unit(TPL, b"\0"),
    "QNT without terminator": HEAD + unit(QNT, b"\0\0x"),
    "reference list leaves the unit": HEAD + unit(TPL, b"\6\0\x81\x80a\0b\0"),
    "reference list left over": HEAD + unit(TPL, b"\6\0\x80\x80a\0b\0c\0"),
    "no qp density": STR + MPS_WITHOUT_QP + FLOAT.unit(),
    "name without terminator": HEAD + unit(NDU, b"\x09abc"),
    "name beyond the unit": HEAD + unit(NDU, b"\x09abc") + b"\0\4\0\0",
    "name not UTF-8": HEAD + unit(NDU, b"\x09\xc3\x28\0" + bytes(20)),
    "NDU ends in its header": HEAD + unit(NDU, FLOAT.unit()[3:8]),
    "NDU alignment": HEAD + unit(NDU, FLOAT.unit(b"")[3:-1] + b"\xc0"),
    "duplicate names": HEAD + FLOAT.unit() + FLOAT.unit(),
    "duplicate names in a block": HEAD + BLOCK.put(name2="w_G").unit(),
    "block name used before": HEAD + FLOAT.put(name="w_H").unit() + BLOCK.unit(),
    "long zero run": HEAD + FLOAT.drop("device_id").after("node_id_present", ("z", "raw", 0, "0" * 200)).unit(),
    "block of one element": HEAD + BLOCK.put(multiple=0).unit(),
    "block of nine elements": HEAD + BLOCK.put(elements=7).unit(),
    "too few elements for the types": HEAD + BLOCK.put(types=12).unit(),
    "too many elements for the types": HEAD + BLOCK.put(types=0).unit(),
    "block without input parameters": HEAD
    + BLOCK.put(input_parameters=0).drop("dimensions_flag", "unary_flag", "types", "count", "d0", "d1", "unary").unit(),
    "no dimensions": HEAD + FLOAT.put(count=0).drop("d0", "d1", "shift", "scan").unit(),
    "no dimensions, int": HEAD
    + FLOAT.put(payload_type=0, count=0).drop("codebook_present", "d0", "d1", "shift", "scan").unit(),
    "block without dimensions": HEAD + BLOCK.put(count=0).drop("d0", "d1", "shift", "scan").unit(),
    "block scan without rows": HEAD + FLOAT.put(d0=0, scan=1).unit(),
    "block scan of G, too few entry points": HEAD + DECOMPOSED.put(scan=1).unit(b""),
    "scan order 5": HEAD + FLOAT.put(scan=5).unit(),
    "scan order 15": HEAD + FLOAT.put(scan=15).unit(),
    "rank 0": HEAD + DECOMPOSED.put(rank=0).unit(),
    "rows of G 0": HEAD + DECOMPOSED.put(rows=0).unit(),
    "rows of G do not divide": HEAD + DECOMPOSED.put(rows=7).unit(),
    "factor rank 0": HEAD + FACTOR.put(rank=0).unit(),
    "factor rows 0": HEAD + FACTOR.put(rows=0).unit(),
    "factor rows do not divide": HEAD + FACTOR.put(rows=7).unit(),
    "decomposed, neither G nor H": HEAD + FACTOR.put(name="w_X").unit(),
    "H without G": HEAD + FACTOR.put(name="w_H").unit(),
    "G without H": HEAD + FACTOR.unit(),
    "G twice": HEAD + FACTOR.unit() + FACTOR.put(name="v_G").unit(),
    "G, then another tensor": HEAD + FACTOR.unit() + FLOAT.unit(),
    "G, then a topology": HEAD + FACTOR.unit() + unit(TPL, b"\0\0\0"),
    "H of another weight": HEAD + FACTOR.unit() + FACTOR.put(name="v_H").unit(),
    "H of another rank": HEAD + FACTOR.unit() + FACTOR.put(name="w_H", rank=3).unit(),
    "H of another shape": HEAD + FACTOR.unit() + FACTOR.put(name="w_H", d1=8).unit(),
    "empty codebook": HEAD + CODEBOOK.put(size=0).unit(),
    "codebook zero offset negative": HEAD + CODEBOOK.put(offset=-2).unit(),
    "codebook zero offset too large": HEAD + CODEBOOK.put(offset=2).unit(),
    "codebook larger than the unit": HEAD + CODEBOOK.put(size=100000).unit(),
    "codebook entry above 32 bits": HEAD + CODEBOOK.put(zero=2**31 - 1).unit(),
    "codebook entry below 32 bits": HEAD + CODEBOOK.put(zero=-(2**31)).unit(),
    "entry point offset negative": HEAD + SCANNED.put(o1=-6).unit(),
    "entry point past the payload": HEAD + SCANNED.put(o0=60, o1=0).unit(),
    "entry point far past the payload": HEAD + SCANNED.put(o0=2**40).unit(),
    "entry points leave the unit": HEAD + FLOAT.put(scan=1, d0=100000).unit(),
    "parent id type 3": STR + PARENT_MPS + PARENT.unit(),
    "hash leaves the unit": STR + PARENT_MPS + PARENT.put(parent_type=2).unit(),
    "raw payload too short": HEAD + RAW.unit(bytes(7)),
    "raw payload too long": HEAD + RAW.unit(bytes(9)),
    "index without list": STR + INDEXED_MPS + FLOAT.drop("name").after("input_parameters", ("i", "ue", 7, 0)).unit(),
    "index outside of the list": STR
    + INDEXED_MPS
    + unit(TPL, b"\6\0\x80\x80a\0b\0")
    + FLOAT.drop("name").after("input_parameters", ("i", "ue", 7, 2)).unit(),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid(name: str) -> None:
    with pytest.raises(InvalidBitstream) as caught:
        read(INVALID[name])
    assert caught.value.unit is not None
    assert caught.value.offset is not None
    assert 0 <= caught.value.offset <= len(INVALID[name])
    with pytest.raises(InvalidBitstream):
        list(trace_stream(INVALID[name]))


def test_error_location() -> None:
    with pytest.raises(InvalidBitstream) as caught:
        read(HEAD + FLOAT.put(scan=5).unit())
    assert (caught.value.unit, caught.value.offset) == (2, 12 + 3 + 10)


@pytest.mark.parametrize(
    "data",
    [
        HEAD + FLOAT.put(payload_type=4).unit(),
        HEAD + FLOAT.put(payload_type=31).unit(),
        HEAD + BLOCK.put(payload_type=1).unit(),
        HEAD + FLOAT.put(dimensions_flag=0).drop("count", "d0", "d1").unit(),
        HEAD + FLOAT.put(input_parameters=0).drop("dimensions_flag", "unary_flag", "types", "count", "d0", "d1").unit(),
    ],
)
def test_unsupported(data: bytes) -> None:
    with pytest.raises(UnsupportedBitstream) as caught:
        read(data)
    assert caught.value.unit == 2


ROW_OF_DIMENSIONS = FLOAT.put(count=65).after("d1", *[(f"e{j}", "ue", 7, 1) for j in range(63)])
HUGE: dict[str, tuple[str, Callable[[], bytes]]] = {
    "many dimensions": ("max_dimensions", ROW_OF_DIMENSIONS.unit),
    "count of dimensions": ("max_dimensions", FLOAT.put(count=2**32).unit),
    "many elements": ("max_elements", FLOAT.put(d0=2**20, d1=2**20).unit),
    "huge dimension beside a zero": ("max_elements", FLOAT.put(d0=2**38, d1=0).unit),
    "product beyond 64 bits": ("max_elements", FLOAT.put(d0=2**38, d1=2**38).unit),
    "few bytes, many values": ("max_cheap_elements", FLOAT.put(d0=2**16, d1=2**14).unit),
    "huge rank": ("max_elements", DECOMPOSED.put(rank=2**33).unit),
    "large recomposed weight": ("max_cheap_elements", DECOMPOSED.put(d0=2**15, d1=2**15, rows=2**15, rank=1).unit),
    "large codebook": ("max_codebook_size", CODEBOOK.put(size=2**33).unit),
    "many entry points": ("max_entry_points", FLOAT.put(d0=2**30, d1=1, scan=1).unit),
    "large reference list": ("max_tensors", lambda: unit(TPL, b"\6\0" + b"\0\0\0\1" + bytes(20))),
}


@pytest.mark.parametrize("name", HUGE)
def test_limits_come_before_allocation(name: str) -> None:
    limit, make = HUGE[name]
    data = HEAD + make()
    tracemalloc.start()
    begun = time.perf_counter()
    with pytest.raises(LimitExceeded) as caught:
        read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.limit == limit
    assert (caught.value.unit, caught.value.offset is not None) == (2, True)
    assert peak < 1 << 20
    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (DecodeLimits(max_units=3), "max_units"),
        (DecodeLimits(max_tensors=2), "max_tensors"),
        (DecodeLimits(max_dimensions=1), "max_dimensions"),
        (DecodeLimits(max_elements=300), "max_elements"),
        (DecodeLimits(max_total_bytes=1000), "max_total_bytes"),
        (DecodeLimits(max_name_bytes=0), "max_name_bytes"),
        (DecodeLimits(max_topology_bytes=2), "max_topology_bytes"),
        (DecodeLimits(max_unit_bytes=20), "max_unit_bytes"),
    ],
)
def test_every_limit_holds(limits: DecodeLimits, limit: str) -> None:
    data = HEAD + unit(TPL, b"\0\0abc\0") + FLOAT.unit() + FLOAT.put(name="v").unit() + FLOAT.put(name="u").unit()
    assert read(data) == 6
    with pytest.raises(LimitExceeded) as caught:
        read(data, limits)
    assert caught.value.limit == limit


def parts(body: bytes, counters: list[int], fixed: int = NDU << 2 | 3) -> list[bytes]:
    share = -(-len(body) // len(counters))
    return [
        unit(NDU, bytes([counter]) + body[index * share : (index + 1) * share], fixed=fixed)
        for index, counter in enumerate(counters)
    ]


def test_partial_units() -> None:
    body = FLOAT.unit()[3:]
    first, second, third = parts(body, [2, 1, 0])
    assert read(HEAD + first + second + third) == 3
    assert read(HEAD + b"".join(parts(body, [0]))) == 3
    dependent = parts(body, [2, 1, 0], fixed=NDU << 2 | 1)
    plain = FLOAT.put(name="v").unit()
    for wrong in (
        first + second,
        first,
        first + third + second,
        first + third,
        first + first + second + third,
        first + plain + second + third,
        first + unit(40, b"") + second + third,
        first + dependent[1] + third,
        first + unit(TPL, b"\1" + body, fixed=TPL << 2 | 3) + third,
    ):
        with pytest.raises(InvalidBitstream):
            read(HEAD + wrong)
    for headless in (second + third, third, first + second + third + third):
        with pytest.raises(NetpressError):
            read(HEAD + headless)
    with pytest.raises(LimitExceeded) as caught:
        read(HEAD + first + second + third, DecodeLimits(max_unit_bytes=len(first) + len(second)))
    assert caught.value.limit == "max_unit_bytes"


def test_error_location_in_a_partial_unit() -> None:
    body = FLOAT.put(scan=5).unit()[3:]
    pieces = parts(body, [2, 1, 0])
    with pytest.raises(InvalidBitstream) as caught:
        read(HEAD + b"".join(pieces))
    position, share = 10, -(-len(body) // 3)
    where = len(HEAD) + sum(len(piece) for piece in pieces[: position // share]) + 4 + position % share
    assert (caught.value.unit, caught.value.offset) == (2, where)


@pytest.mark.parametrize("unit_type", [6, 7, 63])
def test_unknown_units_are_skipped_with_a_warning(unit_type: int) -> None:
    data = HEAD + unit(unit_type, b"whatever") + FLOAT.unit()
    with pytest.warns(SkippedUnitWarning, match=f"type {unit_type} .*unit 2, byte 12"):
        units = list(UnitReader(data))
    assert [u.index for u in units] == [0, 1, 3]
    assert [extent.unit_type for extent in scan_units(data)] == [0, 1, unit_type, 5]


def test_pruning_topology_is_kept_as_bytes_with_a_warning() -> None:
    with pytest.warns(SkippedUnitWarning, match="pruning"):
        units = list(UnitReader(HEAD + unit(TPL, b"\5\0anything")))
    assert units[-1].content.topology_data == b"anything"  # type: ignore[union-attr]


def test_binary_topology_data_is_tolerated() -> None:
    units = list(UnitReader(HEAD + unit(TPL, b"\2\1\0\xff\0\0")))
    assert units[-1].content.topology_data == b"\0\xff\0"  # type: ignore[union-attr]


def test_first_edition_blocks_may_have_wrong_entry_points() -> None:
    first_edition = bytes.fromhex("00040200") + MPS
    scanned = SCANNED.put(o0=200)
    block = BLOCK.put(scan=1).after("scan", *scanned.rows[-4:])
    node_ids = ("node_id_present", "device_id", "parameter_id", "depth", "shift")
    assert read(first_edition + block.drop(*node_ids).unit()) == 3
    for data in (first_edition + scanned.drop(*node_ids).unit(), HEAD + block.unit()):
        with pytest.raises(InvalidBitstream, match="past the payload"):
            read(data)


def test_every_prefix_and_every_bit_flip_raises_cleanly() -> None:
    data = HEAD + unit(TPL, b"\0\0abc\0") + CODEBOOK.unit() + SCANNED.put(name="s").unit() + DECOMPOSED.unit()
    for length in range(len(data)):
        try:
            read(data[:length])
        except NetpressError:
            continue
    for position in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[position >> 3] ^= 0x80 >> (position & 7)
        try:
            read(bytes(damaged))
        except (NetpressError, SkippedUnitWarning):
            continue


def test_scan_checks_sizes() -> None:
    for data in (b"\0", b"\0\2\2", STR + b"\0\x09\2"):
        with pytest.raises(InvalidBitstream):
            list(scan_units(data))
    with pytest.raises(LimitExceeded):
        list(scan_units(HEAD, limits=DecodeLimits(max_units=1)))
