"""Every published stream parses, and its units are written back byte for byte."""

from __future__ import annotations

import io

import pytest
from vectors import NAMES, vector

from netpress.bitstream import DataUnit, UnitReader, UnitWriter, payload_members, scan_units, trace_stream


@pytest.mark.parametrize("name", NAMES)
def test_headers_round_trip(name: str) -> None:
    v = vector(name)
    data, meta = v.stream, v.meta
    dimensions = meta.get("out_of_band_dimensions")
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    members = []
    units = list(UnitReader(data, dimensions=dimensions))
    for unit in units:
        writer.write(
            unit.content,
            unit.payload,
            independently_decodable_flag=unit.independently_decodable_flag,
            partial_data_counter=unit.partial_data_counter,
        )
        if isinstance(unit.content, DataUnit):
            members.extend(payload_members(unit.content))
    writer.finish()
    assert sink.getvalue() == data
    assert [unit.offset for unit in units] == [extent.offset for extent in scan_units(data)]
    assert [member.name for member in members] == meta["expected_order"]
    shapes = {name: tuple(tensor["shape"]) for name, tensor in meta["expected_tensors"].items()}
    assert {member.name: member.shape for member in members} == shapes
    elements = list(trace_stream(data, dimensions=dimensions))
    assert sum(element.bit_length for element in elements) == len(data) * 8
