"""Mutations of NNC streams that know where units begin, and the streams to start from."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import netpress
from netpress.bitstream import Topology, UnitExtent, UnitReader, scan_units

GOLDEN = Path(__file__).parents[1] / "tests" / "golden" / "conformance"
PLAIN, PACKED = b"netpress:", b"netpress-z:"
TOPOLOGY = 3

NUMBERS = (0, 1, -1, 2, 63, 255, 65536, 2**31 - 1, 2**31, 2**63, 10**30, -(10**30), 1e308, float("inf"), float("nan"))
VALUES = (*NUMBERS, None, True, "", "0", "-1", "0-3", "0-99999999999999999999", "5-1/0", "bfloat16", "a\0b", "\ud800")


def models() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return small models and settings whose streams use the parts of the format that only our encoder writes."""
    g = np.random.default_rng(1)
    weight = g.normal(0, 0.1, (12, 9)).astype(np.float32)
    mixed = {
        "w": weight,
        "half": weight[:4].astype(np.float16),
        "brain": weight[:5].astype(ml_dtypes.bfloat16),
        "scalar": np.float32(3).reshape(()),
        "steps": np.int64(2**40 + 7).reshape(()),
        "wide": np.array([1, -1, 2**40], np.int64),
        "flags": np.array([True, False, True]),
        "none": np.zeros((0, 3), np.float32),
        "bytes": np.arange(20, dtype=np.uint8),
    }
    norm = {
        "c.weight": g.normal(0, 1, (4, 3, 3, 3)).astype(np.float32),
        "n.weight": np.ones(4, np.float32),
        "n.bias": np.zeros(4, np.float32),
        "n.running_mean": np.full(4, 0.5, np.float32),
        "n.running_var": np.full(4, 2, np.float32),
    }
    block = netpress.Block(
        weight="c.weight", bn_gamma="n.weight", bn_beta="n.bias", bn_mean="n.running_mean", bn_var="n.running_var"
    )
    zero = weight.copy()
    zero[3:9] = 0
    return [
        (mixed, {}),
        (norm, {"fold_batch_norm": True, "blocks": (block,)}),
        ({"w": g.normal(0, 1, (70, 20)).astype(np.float32)}, {"scan_order": 2, "qp": -8}),
        ({"w": zero}, {"row_skipping": True, "codebook_mode": 1, "qp": -6}),
        ({"w": weight, "b": weight[0]}, {"profile": 0, "qp": -8}),
        ({"w": weight}, {"raw_float": ("w",)}),
        ({"w": weight, "i": np.array([1, 2, 3], np.int32)}, {"checksums": True}),
    ]


def seed_streams() -> list[bytes]:
    """Return the golden streams and those of :func:`models`, with an update among them."""
    streams = [path.read_bytes() for path in sorted(GOLDEN.glob("*/*.nnc"))]
    for model, options in models():
        streams.append(netpress.encode(model, **options))
    model, _ = models()[0]
    changed = {**model, "w": model["w"] + np.float32(0.01)}
    streams.append(netpress.encode(changed, base=model))
    return streams


def seed_records() -> list[bytes]:
    """Return the texts of the records in :func:`seed_streams`, and one with every field."""
    full = {
        "v": 1,
        "types": {"float16": "0", "int64": "1-2"},
        "scalars": "1",
        "shapes": {"2": [0, 3]},
        "names": {"0": "x"},
        "upper": {"3": 1},
        "folded": [[0, 1, 2, 3, 1e-5, "n"], [0, 1, 2, 0, 0.1, ["a", "b", "c", "d"]]],
        "order": "2,0-1",
        "base": "0123456789abcdef",
        "complete": "0",
        "removed": ["y"],
    }
    records = [PLAIN + json.dumps(full).encode()]
    for stream in seed_streams():
        records.extend(records_of(stream))
    return records


def records_of(stream: bytes) -> list[bytes]:
    """Return the texts of our records in a stream, as far as it can be read."""
    texts = []
    with contextlib.suppress(netpress.NetpressError):
        for unit in UnitReader(stream):
            if isinstance(unit.content, Topology) and unit.content.topology_data.startswith((PLAIN, PACKED)):
                texts.append(bytes(unit.content.topology_data))
    return texts


class Mutator:
    """Makes new streams from old ones; the same seed gives the same streams."""

    def __init__(self, seed: int, streams: Sequence[bytes], records: Sequence[bytes]) -> None:
        self.random = random.Random(seed)
        self.streams = list(streams)
        self.records = list(records)

    def stream(self, start: bytes | None = None) -> bytes:
        """Return a stream with one to four mutations, the start being one of the seeds if none is given."""
        data = self.random.choice(self.streams) if start is None else start
        steps = (
            self.flip_bits,
            self.flip_header_bits,
            self.flip_header_bits,
            self.set_bytes,
            self.truncate,
            self.splice,
            self.lie_about_size,
            self.move_unit,
            self.resize_unit,
            self.resize_unit,
            self.replace_record,
            self.replace_record,
        )
        for _ in range(self.random.choice((1, 1, 1, 2, 2, 3, 4))):
            data = self.random.choice(steps)(data)
        return data

    def record(self) -> bytes:
        """Return the text of a record, damaged in its values, its text or its bytes."""
        text = self.random.choice(self.records)
        kind = self.random.randrange(4)
        if kind == 0:
            return self.flip_bits(text)
        plain = text[len(PLAIN) :]
        if text.startswith(PACKED):
            plain = zlib.decompress(base64.b85decode(text[len(PACKED) :]))
        if kind == 1:
            plain = self.random.choice((self.set_bytes, self.truncate, self.resize))(plain)
        else:
            content = json.loads(plain)
            for _ in range(self.random.choice((1, 1, 2))):
                content = self._damage(content)
            plain = json.dumps(content).encode()
        if self.random.randrange(2):
            return PACKED + base64.b85encode(zlib.compress(plain))
        return PLAIN + plain

    def _damage(self, value: object) -> object:
        """Replace one value somewhere inside of a JSON value."""
        if isinstance(value, dict) and value and self.random.randrange(8):
            key = self.random.choice(list(value))
            if self.random.randrange(4) == 0:
                return {**value, str(self.random.choice((*VALUES, key))): value[key]}
            return {**value, key: self._damage(value[key])}
        if isinstance(value, list) and value and self.random.randrange(8):
            at = self.random.randrange(len(value))
            return [*value[:at], self._damage(value[at]), *value[at + 1 :]]
        if isinstance(value, str) and value and self.random.randrange(2):
            at = self.random.randrange(len(value))
            return value[:at] + self.random.choice("0123456789-,/ xé") + value[at + self.random.randrange(2) :]
        return self.random.choice((*VALUES, [], {}, [0], {"0": 0}))

    def units(self, data: bytes) -> list[UnitExtent]:
        """Return the units at the front of a stream, as far as their sizes make sense."""
        extents = []
        try:
            for extent in scan_units(data):
                extents.append(extent)
                if len(extents) == 100:
                    break
        except netpress.NetpressError:
            pass
        return extents

    def flip_bits(self, data: bytes) -> bytes:
        """Flip one to eight bits anywhere."""
        return self._flip(data, 0, len(data))

    def flip_header_bits(self, data: bytes) -> bytes:
        """Flip bits near the front of a unit, after its size."""
        units = self.units(data)
        if not units:
            return self.flip_bits(data)
        unit = self.random.choice(units)
        return self._flip(data, unit.offset + 2, min(unit.end, unit.offset + 64))

    def _flip(self, data: bytes, begin: int, end: int) -> bytes:
        if end <= begin:
            return data
        result = bytearray(data)
        for _ in range(self.random.choice((1, 1, 1, 2, 4, 8))):
            result[self.random.randrange(begin, end)] ^= 1 << self.random.randrange(8)
        return bytes(result)

    def set_bytes(self, data: bytes) -> bytes:
        """Overwrite some bytes by a telling or a random one."""
        if not data:
            return data
        result = bytearray(data)
        at = self.random.randrange(len(result))
        value = self.random.choice((0, 255, 0x80, 0x7F, self.random.randrange(256)))
        for i in range(at, min(len(result), at + self.random.choice((1, 1, 2, 4, 16)))):
            result[i] = value
        return bytes(result)

    def truncate(self, data: bytes) -> bytes:
        """Cut off the end."""
        return data[: self.random.randrange(len(data))] if data else data

    def resize(self, data: bytes) -> bytes:
        """Take bytes out or put random ones in."""
        at = self.random.randrange(len(data) + 1)
        count = self.random.choice((1, 1, 2, 3, 8))
        if self.random.randrange(2):
            return data[:at] + data[at + count :]
        return data[:at] + self.random.randbytes(count) + data[at:]

    def splice(self, data: bytes) -> bytes:
        """Continue with another stream, at unit borders or anywhere."""
        other = self.random.choice(self.streams)
        if self.random.randrange(2):
            mine, theirs = self.units(data), self.units(other)
            if mine and theirs:
                return data[: self.random.choice(mine).offset] + other[self.random.choice(theirs).offset :]
        return data[: self.random.randrange(len(data) + 1)] + other[self.random.randrange(len(other) + 1) :]

    def lie_about_size(self, data: bytes) -> bytes:
        """Write another size into a unit."""
        units = self.units(data)
        if not units:
            return data
        unit = self.random.choice(units)
        lie = self.random.choice((0, 1, 2, 3, 4, unit.size - 1, unit.size + 1, 0x7FFF, self.random.randrange(1 << 15)))
        size = lie.to_bytes(2, "big") if lie >= 0 else b"\0\0"
        if self.random.randrange(4) == 0:
            size = (1 << 31 | self.random.choice((lie, 2**31 - 1, 2**30))).to_bytes(4, "big")
        return data[: unit.offset] + size + data[unit.offset + 2 :]

    def move_unit(self, data: bytes) -> bytes:
        """Swap two units, double one or leave one out."""
        units = self.units(data)
        if len(units) < 2:
            return data
        pieces = [data[u.offset : u.end] for u in units]
        i, j = self.random.randrange(len(pieces)), self.random.randrange(len(pieces))
        kind = self.random.randrange(3)
        if kind == 0:
            pieces[i], pieces[j] = pieces[j], pieces[i]
        elif kind == 1:
            pieces.insert(j, pieces[i])
        else:
            del pieces[i]
        return b"".join(pieces) + data[units[-1].end :]

    def resize_unit(self, data: bytes) -> bytes:
        """Insert, remove or change bytes of a unit and write its new size, so that the parser stays in step."""
        units = self.units(data)
        if not units:
            return self.resize(data)
        unit = self.random.choice(units)
        body = self.random.choice((self.resize, self.set_bytes, self.truncate))(data[unit.body : unit.end])
        return data[: unit.offset] + self._sized(data, unit, body) + data[unit.end :]

    def replace_record(self, data: bytes) -> bytes:
        """Put a damaged record into the topology unit."""
        topologies = [u for u in self.units(data) if u.unit_type == TOPOLOGY]
        if not topologies:
            return self.flip_header_bits(data)
        unit = topologies[0]
        body = data[unit.body : unit.end]
        at = body.find(b"netpress")
        if at < 0:
            return self.resize_unit(data)
        return data[: unit.offset] + self._sized(data, unit, body[:at] + self.record() + b"\0") + data[unit.end :]

    @staticmethod
    def _sized(data: bytes, unit: UnitExtent, body: bytes) -> bytes:
        """Return the unit with another body and the size that it has then."""
        wide = data[unit.offset] >> 7
        head = data[unit.offset + (4 if wide else 2) : unit.body]
        short = 2 + len(head) + len(body)
        size = short.to_bytes(2, "big") if short < 1 << 15 else (1 << 31 | short + 2).to_bytes(4, "big")
        return size + head + body
