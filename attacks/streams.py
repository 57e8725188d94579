"""Hostile streams, one idea each; tests/attacks runs them all.

    python attacks/streams.py FOLDER     # writes them as files

Each attack has a number, says what a naive decoder would do, and names the error that netpress answers with. All of
them are refused within a second and 64 MiB of resident memory.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import netpress
from netpress.bitstream import (
    BitWriter,
    Codebook,
    DataUnit,
    EntryPoint,
    ModelParameterSet,
    PayloadType,
    Start,
    Topology,
    Unit,
    UnitReader,
    UnitWriter,
    scan_units,
)

__all__ = ["ATTACKS", "Attack"]

_RNG = np.random.default_rng(0)
_MODEL = {
    "w": _RNG.laplace(0, 0.3, (40, 33)).astype(np.float32),
    "b": _RNG.normal(0, 1, 12).astype(np.float32),
}
_HONEST = netpress.encode(_MODEL, qp=-20)


@dataclasses.dataclass(frozen=True)
class Attack:
    """A hostile stream: why it is dangerous, and the error it has to end in."""

    number: int
    name: str
    rationale: str
    error: type[netpress.NetpressError]
    build: Callable[[], bytes]


ATTACKS: list[Attack] = []


def attack(error: type[netpress.NetpressError]) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Register a function that builds a stream; its docstring is the rationale."""

    def register(build: Callable[[], bytes]) -> Callable[[], bytes]:
        rationale = " ".join((build.__doc__ or "").split())
        ATTACKS.append(Attack(len(ATTACKS) + 1, build.__name__, rationale, error, build))
        return build

    return register


def stream(*contents: tuple[Any, bytes]) -> bytes:
    """A stream with the usual head, followed by these units."""
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    for content in (Start(), ModelParameterSet(), Topology()):
        writer.write(content)
    for content, payload in contents:
        writer.write(content, payload)
    return sink.getvalue()


def changed(**fields: Any) -> bytes:
    """The honest stream with other values in the header of its matrix."""
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    for unit in UnitReader(_HONEST):
        content = unit.content
        if isinstance(content, DataUnit) and content.name == "w":
            content = dataclasses.replace(content, **fields)
        writer.write(content, bytes(unit.payload))
    return sink.getvalue()


def raw_unit(unit_type: int, body: bytes, *, size: int | None = None) -> bytes:
    """A unit written by hand, whose size may lie."""
    claimed = 3 + len(body) if size is None else size
    return claimed.to_bytes(2, "big") + bytes([unit_type << 2 | 2]) + body


def matrix() -> Unit:
    """The data unit of the honest matrix."""
    return next(u for u in UnitReader(_HONEST) if isinstance(u.content, DataUnit) and u.content.name == "w")


def matrix_in_parts(count: int) -> tuple[bytes, list[bytes]]:
    """The head of a stream, and the data unit of the honest matrix as partial units."""
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    for content in (Start(), ModelParameterSet(), Topology()):
        writer.write(content)
    head = sink.getvalue()
    unit = matrix()
    writer.write(unit.content, bytes(unit.payload), partial_data_counter=count - 1)
    data = sink.getvalue()[len(head) :]
    return head, [data[part.offset : part.end] for part in scan_units(data)]


def record(**content: Any) -> bytes:
    """The honest stream with a record of ours in front."""
    text = b"netpress:" + json.dumps({"v": 1, **content}).encode()
    return with_topology(text)


def with_topology(text: bytes) -> bytes:
    """The honest stream with a text in its topology unit."""
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    for unit in UnitReader(_HONEST):
        content = Topology(topology_data=text) if isinstance(unit.content, Topology) else unit.content
        writer.write(content, bytes(unit.payload))
    return sink.getvalue()


@attack(netpress.InvalidBitstream)
def size_beyond_the_end() -> bytes:
    """The last unit claims more bytes than there are: a reader that trusts it runs off its buffer."""
    return _HONEST + raw_unit(5, b"\x09w\0", size=30000)


@attack(netpress.InvalidBitstream)
def size_of_zero() -> bytes:
    """A unit of size 0 never advances: a reader that skips by size loops forever."""
    return _HONEST + b"\0\0" * 8


@attack(netpress.InvalidBitstream)
def size_cuts_the_header() -> bytes:
    """The size ends in the middle of the header, whose fields would be read from the next unit."""
    return _HONEST[:12] + raw_unit(5, b"\x09name", size=7) + _HONEST[18:]


@attack(netpress.InvalidBitstream)
def size_leaves_a_gap() -> bytes:
    """The payload ends before its unit does: bytes that nobody reads are a place to hide."""
    unit = matrix()
    return stream((unit.content, bytes(unit.payload) + bytes(500)))


@attack(netpress.InvalidBitstream)
def garbage_behind_the_stream() -> bytes:
    """Trailing garbage is not a unit."""
    return _HONEST + b"\xff" * 37


@attack(netpress.LimitExceeded)
def dimensions_that_overflow() -> bytes:
    """2**32 by 2**33 values: the product of 32- or 64-bit sizes wraps to a small allocation, or it is 2**65 bytes."""
    unit = matrix()
    bits = BitWriter()
    bits.u(int(PayloadType.FLOAT), 5)
    bits.u(0b001, 3)
    bits.st("w")
    bits.u(0, 1)  # no node id
    bits.u(0, 1)  # no codebook
    bits.u(1, 1)  # dq_flag
    bits.u(0b110000, 6)
    bits.ue(2, 1)
    bits.ue(1 << 31, 7)
    bits.ue((1 << 31) - 1, 7)
    bits.u(10, 8)
    bits.ue(0, 1)
    bits.u(0, 4)
    bits.align()
    return _HONEST[:18] + raw_unit(5, bits.getvalue() + bytes(unit.payload)[:40])


@attack(netpress.LimitExceeded)
def bomb_of_a_terabyte() -> bytes:
    """2**40 values in a few bytes: adaptive coding allows many zeros per byte, but not because a header says so."""
    return changed(tensor_dimensions=(1 << 20, 1 << 20))


@attack(netpress.InvalidBitstream)
def bomb_just_below_the_limit() -> bytes:
    """2**28 values pass the limits; the payload runs out after some thousand, before the memory is touched."""
    return changed(tensor_dimensions=(1 << 14, 1 << 14))


@attack(netpress.InvalidBitstream)
def rows_without_end() -> bytes:
    """2**28 rows of one flag each: the flags have to come before they are stored."""
    return changed(tensor_dimensions=(1 << 27, 2))


@attack(netpress.LimitExceeded)
def thousand_dimensions() -> bytes:
    """A tensor of 1000 dimensions of 1: cheap to claim, dear in every loop over shapes."""
    return changed(tensor_dimensions=(1,) * 1000)


@attack(netpress.InvalidBitstream)
def golomb_prefix_without_end() -> bytes:
    """A prefix of zeros up to the end of the unit stands for a number of thousands of digits."""
    return _HONEST[:18] + raw_unit(5, b"\x09w\0" + b"\x80" + bytes(20000))


@attack(netpress.InvalidBitstream)
def name_without_end() -> bytes:
    """A name without its zero byte runs into the payload."""
    return _HONEST[:18] + raw_unit(5, b"\x09" + b"n" * 200)


@attack(netpress.InvalidBitstream)
def name_that_is_not_text() -> bytes:
    """A name that is not UTF-8 breaks whoever prints or stores it."""
    return _HONEST[:18] + raw_unit(5, b"\x09\xff\xfe\0" + bytes(20))


@attack(netpress.InvalidBitstream)
def same_name_twice() -> bytes:
    """The second tensor of a name replaces the first: a check of one, a use of the other."""
    body = _HONEST[18:]
    return _HONEST + body


@attack(netpress.InvalidBitstream)
def entry_points_outside_of_the_payload() -> bytes:
    """A decoder that jumps to an entry point reads wherever it says."""
    data = netpress.encode(_MODEL, qp=-20, scan_order=1)
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    for unit in UnitReader(data):
        content = unit.content
        if isinstance(content, DataUnit) and content.entry_points:
            points = tuple(EntryPoint(p.value, p.dq_state, p.bit_offset ^ 5) for p in content.entry_points)
            content = dataclasses.replace(content, entry_points=points)
        writer.write(content, bytes(unit.payload))
    return sink.getvalue()


@attack(netpress.InvalidBitstream)
def codebook_without_the_index() -> bytes:
    """Indexes point outside of a codebook that was swapped for a smaller one."""
    data = netpress.encode({"w": _MODEL["w"]}, qp=-4, codebook_mode=1, profile=0, payload_variant="2")
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    for unit in UnitReader(data):
        content = unit.content
        if isinstance(content, DataUnit):
            content = dataclasses.replace(content, codebook=Codebook.cheapest((0, 1), 0))
        writer.write(content, bytes(unit.payload))
    return sink.getvalue()


@attack(netpress.InvalidBitstream)
def payload_cut_short() -> bytes:
    """Half a payload: an arithmetic decoder without an end reads past its input."""
    unit = matrix()
    return stream((unit.content, bytes(unit.payload)[: len(unit.payload) // 2]))


@attack(netpress.InvalidBitstream)
def payload_of_ones() -> bytes:
    """A first window that no encoder can produce breaks the invariant of the decoder."""
    unit = matrix()
    return stream((unit.content, b"\xff" * len(unit.payload)))


@attack(netpress.InvalidBitstream)
def payload_of_random_bits() -> bytes:
    """Noise decodes to something for a while; the stop pattern and the length tell."""
    unit = matrix()
    return stream((unit.content, np.random.default_rng(1).bytes(len(unit.payload))))


@attack(netpress.InvalidBitstream)
def partial_units_out_of_order() -> bytes:
    """Parts of a unit in the wrong order are strung together to another unit."""
    head, parts = matrix_in_parts(3)
    return head + parts[1] + parts[0] + parts[2]


@attack(netpress.InvalidBitstream)
def partial_unit_without_its_end() -> bytes:
    """The last part never comes: a reader that waits for it keeps everything in memory."""
    head, parts = matrix_in_parts(4)
    return head + b"".join(parts[:-1])


@attack(netpress.InvalidBitstream)
def second_start() -> bytes:
    """A second start unit would switch the edition in the middle of the stream."""
    return _HONEST + _HONEST


@attack(netpress.InvalidBitstream)
def no_parameter_set() -> bytes:
    """Without a model parameter set there is no density of the qp: the step size would be whatever was there before."""
    return _HONEST[:4] + _HONEST[12:]


@attack(netpress.BaseMismatch)
def update_without_its_past() -> bytes:
    """An update asks for temporal contexts of an update that was never decoded."""
    encoder = netpress.Encoder(differences=True, temporal_contexts=True, qp=-20)
    encoder.encode(_MODEL)
    return encoder.encode(_MODEL)


@attack(netpress.InvalidBitstream)
def record_that_inflates() -> bytes:
    """80 kB of record become 60 MB of JSON and more than a GB of objects."""
    text = b'{"v":1,"x":[' + b"{}," * (20 << 20) + b"0]}"
    return with_topology(b"netpress-z:" + base64.b85encode(zlib.compress(text, 9)))


@attack(netpress.InvalidBitstream)
def record_of_other_tensors() -> bytes:
    """The record names tensors that the stream does not have."""
    return record(scalars="0-5000")


@attack(netpress.InvalidBitstream)
def record_with_a_cycle() -> bytes:
    """Each of two tensors claims to be the upper half of the other."""
    return record(types={"int64": "0-1"}, upper={"0": 1, "1": 0})


@attack(netpress.InvalidBitstream)
def record_that_renames() -> bytes:
    """Two tensors get the same name: one of them disappears."""
    return record(names={"0": "b"})


@attack(netpress.InvalidBitstream)
def checksums_cut_off() -> bytes:
    """The tail with the checksums is cut off, and with it the last tensor: what is left reads well."""
    data = netpress.encode(_MODEL, qp=-20, checksums=True)
    units = list(UnitReader(data))
    return data[: units[-2].offset]


@attack(netpress.InvalidBitstream)
def checksum_of_something_else() -> bytes:
    """One bit of a payload is flipped where the decoder does not notice."""
    data = bytearray(netpress.encode({"r": _MODEL["w"]}, raw_float=("r",), checksums=True))
    data[len(data) // 2] ^= 1
    return bytes(data)


def main() -> None:
    """Write all streams into a folder."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "hostile")
    folder.mkdir(parents=True, exist_ok=True)
    for item in ATTACKS:
        (folder / f"{item.number:02}-{item.name}.nnc").write_bytes(item.build())
        print(f"{item.number:2} {item.name}: {item.rationale} -> {item.error.__name__}")


if __name__ == "__main__":
    main()
