"""Writes the seed corpora of the C++ fuzz targets from the payload vectors: ``python fuzz/make_seeds.py FOLDER``.

A seed is the data of a vector followed by its parameters, last parameter first, as ``core/fuzz/input.h`` reads them.
"""

from __future__ import annotations

import json
import math
import random
import struct
import sys
from pathlib import Path
from typing import Any

VECTORS = Path(__file__).parents[1] / "tests" / "golden" / "vectors" / "payload_vectors.json"


class Tail:
    """Parameters in the order in which a target reads them, from the end of its input."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def put8(self, *values: int) -> None:
        """Append bytes."""
        self._bytes.extend(value & 255 for value in values)

    def put16(self, value: int) -> None:
        """Append a 16-bit number."""
        self.put8(value >> 8, value)

    def put32(self, value: int) -> None:
        """Append a 32-bit number."""
        self.put16(value >> 16)
        self.put16(value)

    def getvalue(self) -> bytes:
        """Return the bytes as they stand at the end of an input."""
        return bytes(reversed(self._bytes))


def put_tensor(tail: Tail, vector: dict[str, Any], *, valid: bool) -> None:
    """Write how the tensor of a vector is coded; see ``read_tensor`` in ``core/fuzz/input.h``."""
    shape = vector["shape"]
    rows, columns = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (math.prod(shape), 1)
    base, history = vector["temporal_base"], vector["hdsp_history"]
    flags = (vector["profile"] == 1) | 4 * bool(vector["dq_flag"]) | 8 * bool(vector["parent_flag"])
    flags |= 16 * bool(vector["qp_bits"]) | 32 * bool(vector["codebook_size"])
    flags |= 64 * (base is not None) | 128 * (history is not None)
    tail.put8(flags)
    tail.put8(vector["scan_order"] << 2 | 3, 240 if rows * columns > 512 else 0)
    tail.put16(rows)
    tail.put16(columns)
    if vector["unary_length"] <= 20:
        tail.put8(vector["unary_length"] - 1)
    elif valid:
        tail.put8(255, vector["unary_length"] - 1)
    else:
        tail.put8(255)
        tail.put16(vector["unary_length"])
    if vector["qp_bits"]:
        tail.put8(vector["qp_bits"])
    if vector["codebook_size"]:
        tail.put16(vector["codebook_size"])
        tail.put16(vector["codebook_zero_offset"])
    for pattern in (base, history):
        if pattern is not None:
            part = pattern[:256] or [0]
            tail.put8(len(part) - 1, *(max(-128, min(127, v)) for v in part))


def payload_seed(vector: dict[str, Any]) -> bytes:
    """Return an input of ``fuzz_payload``: the payload of a vector and its parameters."""
    tail = Tail()
    tail.put8(0)
    put_tensor(tail, vector, valid=False)
    return bytes.fromhex(vector["payload"]) + tail.getvalue()


def roundtrip_seed(vector: dict[str, Any]) -> bytes:
    """Return an input of ``fuzz_roundtrip``: the integers of a vector and its parameters."""
    tail = Tail()
    tail.put8(0)
    put_tensor(tail, vector, valid=True)
    tail.put8(bool(vector["row_skip"]) | 2 * (vector["hdsp"] == "on"))
    if vector["qp_bits"]:
        tail.put32((vector["qp_value"] or 0) & 0xFFFFFFFF)
    data = b"".join(
        struct.pack("b", value) if -120 <= value <= 120 else b"\x80" + struct.pack(">i", value)
        for value in vector["values"]
    )
    return data + tail.getvalue()


def twins_seeds(generator: random.Random) -> list[bytes]:
    """Return inputs of ``fuzz_twins``: bytes around a few values for each pair of ``core/tests/pairs.h``."""
    seeds = []
    for pair in range(8):
        for _ in range(4):
            tail = Tail()
            tail.put8(pair)
            for _ in range(16):
                tail.put16(generator.randrange(1 << 16))
            data = bytes(round(generator.gauss(0, 40)) & 255 for _ in range(160))
            seeds.append(data + tail.getvalue())
    return seeds


def main(folder: str) -> None:
    """Write ``folder``/TARGET/* for each C++ target."""
    vectors = json.loads(VECTORS.read_text())
    corpora = {
        "fuzz_payload": [payload_seed(v) for v in vectors],
        "fuzz_roundtrip": [roundtrip_seed(v) for v in vectors],
        "fuzz_twins": twins_seeds(random.Random(1)),
    }
    for target, seeds in corpora.items():
        corpus = Path(folder) / target
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds):
            (corpus / f"seed-{number:03d}").write_bytes(seed)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
