"""The core against the vectors of the format description: payload bytes, entry points, levels and floats."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netpress import native

VECTORS = Path(__file__).parents[1] / "golden" / "vectors"
PAYLOADS = json.loads((VECTORS / "payload_vectors.json").read_text())
QUANTIZERS = json.loads((VECTORS / "quantizer_vectors.json").read_text())


def matrix(shape: list[int]) -> tuple[int, int]:
    count = int(np.prod(shape, dtype=np.int64))
    return (shape[0], count // shape[0]) if len(shape) > 1 else (count, 1)


def coding(v: dict[str, Any], **flags: bool) -> native.TensorCoding:
    return native.TensorCoding(
        *matrix(v["shape"]),
        scan_order=v["scan_order"],
        second_edition=v["profile"] == 1,
        dependent=bool(v["dq_flag"]),
        unary_length=v["unary_length"],
        has_parent=bool(v["parent_flag"]),
        history=None if v["hdsp_history"] is None else np.array(v["hdsp_history"], np.uint8),
        base=None if v["temporal_base"] is None else np.array(v["temporal_base"], np.int32),
        codebook_size=v["codebook_size"],
        codebook_zero_offset=v["codebook_zero_offset"],
        **flags,
    )


def unpack(points: list[tuple[int, int, int]]) -> list[int]:
    return [distance << 11 | value << 3 | state for distance, value, state in points]


@pytest.mark.parametrize("v", PAYLOADS, ids=[v["name"] for v in PAYLOADS])
def test_payload_vector(v: dict[str, Any]) -> None:
    levels = np.array(v["values"], np.int32)
    encoder = native.PayloadEncoder()
    if v["qp_bits"]:
        encoder.field(v["qp_value"], v["qp_bits"])
    given = coding(v, skip_rows=bool(v["row_skip"]), use_history=v["hdsp"] == "on")
    encoder.tensor(levels, given, native.Search(int(v["param_opt"])))
    payload, points = encoder.finish()
    assert payload.hex() == v["payload"]
    assert unpack(points[0]) == v["entry_points"]

    decoder = native.PayloadDecoder(np.frombuffer(payload, np.uint8))
    if v["qp_bits"]:
        assert decoder.field(v["qp_bits"]) == v["qp_value"]
    decoded = np.full(levels.size, 77, np.int32)
    _, _, points = decoder.tensor(decoded, coding(v))
    decoder.finish()
    assert decoded.tolist() == (v["values"] if v["decoded"] is None else v["decoded"])
    assert unpack(points) == v["entry_points"]


@pytest.mark.parametrize("v", QUANTIZERS, ids=[v["name"] for v in QUANTIZERS])
def test_quantizer_vector(v: dict[str, Any]) -> None:
    rows, columns = matrix(v["shape"])
    weights = np.array([int(h, 16) for h in v["weights_f32_hex"]], np.uint32).view(np.float32)
    levels = np.zeros(weights.size, np.int32)
    quantize = native.quantize_trellis if v["dq_flag"] else native.quantize_uniform
    used = quantize(
        weights,
        levels,
        rows,
        columns,
        v["qp"],
        scan_order=v["scan_order"],
        qp_density=v["qp_density"],
        lambda_scale=v["lambda_scale"],
        unary_length=v["rate_unary_length"] + 1,
    )
    assert used == v["qp_out"]
    assert levels.tolist() == v["levels"]
    step = np.array([int(v["step_f32_hex"], 16)], np.uint32).view(np.float32)[0]
    values = levels.view(np.float32)
    native.dequantize_uniform(levels, values, float(step))
    assert [f"{b:08x}" for b in values.view(np.uint32)] == v["reconstructed_f32_hex"]
