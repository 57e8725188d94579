"""Random units over all syntax elements: written, parsed to the same values, written again to the same bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netpress.bitstream as nb
from netpress.bitstream import CompressedParameterTypes as Cpt
from netpress.bitstream import DataUnit, ModelParameterSet, PayloadType, Start, Topology, UnitReader, UnitWriter, tables
from netpress.bitstream.syntax import Syntax
from netpress.bitstream.units import Content
from netpress.errors import NetpressError

FLOATS = st.floats(width=32, allow_nan=False)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
SMALL = st.integers(0, 300)
FLAG = st.integers(0, 1)
FLOAT_TUPLES = st.lists(FLOATS, max_size=4).map(tuple)
BYTE_TUPLES = st.lists(st.integers(0, 255), max_size=3).map(tuple)

SPARSIFICATION = st.builds(nb.SparsificationEntry, FLOATS, FLOATS, FLOATS, SMALL, FLOAT_TUPLES)
PRUNING = st.builds(nb.PruningEntry, FLOATS, FLOATS, SMALL, FLOAT_TUPLES)
UNIFICATION = st.builds(
    nb.UnificationEntry,
    st.lists(SMALL, max_size=3).map(tuple),
    BYTE_TUPLES,
    BYTE_TUPLES,
    FLOATS,
    FLOATS,
    st.integers(0, 255),
    FLOAT_TUPLES,
)
DECOMPOSITION = st.builds(nb.DecompositionEntry, FLOATS, FLOATS, FLOATS, FLOAT_TUPLES)


def performance_map(kind: type, entries: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | st.builds(kind, st.lists(entries, max_size=3).map(tuple))


MAPS = {
    "sparsification_performance_map": performance_map(nb.SparsificationPerformanceMap, SPARSIFICATION),
    "pruning_performance_map": performance_map(nb.PruningPerformanceMap, PRUNING),
    "unification_performance_map": performance_map(nb.UnificationPerformanceMap, UNIFICATION),
}


@st.composite
def model_parameter_sets(draw: st.DrawFn, profile: int, indexed: int) -> ModelParameterSet:
    mps = draw(
        st.builds(
            ModelParameterSet,
            topology_carriage_flag=FLAG,
            mps_quantization_method_flags=st.integers(1, 7).filter(lambda flags: flags & 3),
            mps_topology_indexed_reference_flag=st.just(indexed),
            mps_qp_density=st.integers(0, 7),
            mps_quantization_parameter=st.integers(-4096, 4095),
            decomposition_performance_map=performance_map(nb.DecompositionPerformanceMap, DECOMPOSITION),
            **MAPS,
        )
    )
    if profile == 1:
        mps.base_model_id = draw(st.none() | TEXTS)
        mps.validation_set_performance = draw(st.none() | FLOATS)
        mps.metric_type_performance_map_valid_flag = draw(FLAG)
        if mps.validation_set_performance is not None or mps.metric_type_performance_map_valid_flag:
            mps.performance_metric_type = draw(TEXTS)
        mps.mps_parent_signalling_enabled_flag = draw(FLAG)
        mps.nnr_pre_flag = draw(FLAG) if mps.mps_parent_signalling_enabled_flag else 0
    return mps


@st.composite
def layer_parameter_sets(draw: st.DrawFn) -> nb.LayerParameterSet:
    lps = draw(
        st.builds(
            nb.LayerParameterSet,
            FLAG,
            st.integers(0, 7),
            st.integers(0, 7),
            st.integers(-4096, 4095),
            **MAPS,
        )
    )
    if not lps.lps_quantization_method_flags & 3:
        lps.lps_qp_density = lps.lps_quantization_parameter = None
    return lps


TOPOLOGIES = st.builds(
    Topology, st.integers(0, 255).filter(lambda code: code not in (5, 6)), st.integers(0, 255), st.binary(max_size=30)
)
QUANTIZATIONS = st.builds(nb.Quantization, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=30))


@st.composite
def codebooks(draw: st.DrawFn) -> nb.Codebook:
    values = sorted(draw(st.sets(st.integers(-(2**31), 2**31 - 1) | st.integers(-50, 50), min_size=1, max_size=12)))
    zero = draw(st.integers(0, len(values) - 1))
    if draw(st.booleans()):
        return nb.Codebook.cheapest(values, zero)
    return nb.Codebook(draw(st.integers(0, 15)), tuple(values), zero)


def set_node_ids(draw: st.DrawFn, unit: DataUnit, profile: int, mps: ModelParameterSet) -> None:
    unit.device_id = unit.parameter_id = unit.put_node_depth = None
    unit.node_id_present_flag = draw(FLAG) if profile == 1 else 0
    if unit.node_id_present_flag:
        unit.device_id, unit.parameter_id, unit.put_node_depth = draw(st.tuples(SMALL, SMALL, SMALL))
    if profile == 1 and mps.mps_parent_signalling_enabled_flag and draw(st.booleans()):
        unit.parent_node_id_present_flag = 1
        unit.parent_node_id_type = draw(st.integers(0, 2))
        unit.temporal_context_modeling_flag = draw(FLAG)
        if unit.parent_node_id_type == 0:
            unit.parent_device_id = draw(SMALL)
            if not unit.node_id_present_flag:
                unit.parameter_id, unit.put_node_depth = draw(st.tuples(SMALL, SMALL))
        elif unit.parent_node_id_type == 1:
            unit.parent_node_payload_sha256 = draw(st.binary(min_size=32, max_size=32))
        else:
            unit.parent_node_payload_sha512 = draw(st.binary(min_size=64, max_size=64))


def set_shape(draw: st.DrawFn, unit: DataUnit, dimensions: tuple[int, ...]) -> None:
    unit.tensor_dimensions = dimensions
    if unit.is_decomposed:
        unit.decomposition_rank = draw(st.integers(1, 40))
        rows = math.prod(dimensions)
        unit.g_number_of_rows = draw(st.sampled_from([r for r in range(1, 200) if rows % r == 0]))
    unit.input_parameters_present_flag = 1 if unit.compressed_parameter_types else draw(FLAG)
    if unit.input_parameters_present_flag:
        unit.tensor_dimensions_flag, unit.cabac_unary_length_flag = draw(st.tuples(FLAG, FLAG))
    else:
        unit.tensor_dimensions_flag = unit.cabac_unary_length_flag = 0
    unit.cabac_unary_length_minus1 = draw(st.integers(0, 255)) if unit.cabac_unary_length_flag else 9


def set_scan(draw: st.DrawFn, unit: DataUnit, profile: int) -> None:
    if len(unit.tensor_dimensions or ()) < 2:
        return
    if profile == 1:
        unit.first_tensor_dimension_shift = draw(st.integers(0, 9))
    unit.scan_order = draw(st.integers(0, 4))
    if min(nb.entry_point_counts(unit)) < 0:
        unit.scan_order = 0
    states = st.integers(0, 7) if unit.dq_flag else st.just(0)
    point = st.builds(nb.EntryPoint, st.integers(0, 255), states, st.integers(0, 60))
    count = sum(nb.entry_point_counts(unit))
    unit.entry_points = tuple(draw(st.lists(point, min_size=count, max_size=count)))


def finish_unit(draw: st.DrawFn, unit: DataUnit, profile: int, mps: ModelParameterSet) -> tuple[DataUnit, bytes]:
    set_node_ids(draw, unit, profile, mps)
    set_scan(draw, unit, profile)
    payload = draw(st.binary(max_size=30)).ljust(sum(point.bit_offset for point in unit.entry_points) // 8 + 1, b"\7")
    if unit.nnr_compressed_data_unit_payload_type == PayloadType.RAW_FLOAT:
        payload = bytes(4 * nb.payload_members(unit)[0].size)
        unit.scan_order, unit.entry_points = 0, ()
    return unit, payload


@st.composite
def data_units(draw: st.DrawFn, stem: str, profile: int, mps: ModelParameterSet) -> list[tuple[DataUnit, bytes]]:
    """One data unit, or the two of the factors of a decomposed weight; all names begin with ``stem``."""
    unit = DataUnit((stem,), nnr_compressed_data_unit_payload_type=draw(st.sampled_from(PayloadType)))
    payload_type = unit.nnr_compressed_data_unit_payload_type
    unit.nnr_decompressed_data_format = draw(st.none() | st.integers(0, 127))
    unit.dq_flag = 0 if payload_type == PayloadType.RAW_FLOAT else draw(FLAG)
    is_factor = False
    if unit.is_block:
        unit.compressed_parameter_types = draw(st.integers(1, 15))
        roles = nb.member_roles(unit.compressed_parameter_types)
        unit.topology_elem_ids = tuple(f"{stem}{role.value}" for role in roles)
    else:
        unit.compressed_parameter_types = draw(st.integers(0, 15) | st.just(0))
        is_factor = bool(unit.compressed_parameter_types & Cpt.DC) and draw(st.booleans())
    if unit.is_block and unit.is_decomposed:
        unit.topology_elem_ids = (f"{stem}_G", f"{stem}_H", *unit.topology_elem_ids[2:])
    most = 1 if unit.is_decomposed and not unit.is_block and not is_factor else 4
    sizes = st.integers(int(is_factor), 4 if payload_type == PayloadType.RAW_FLOAT else 40)
    set_shape(draw, unit, tuple(draw(st.lists(sizes, min_size=2 if is_factor else 1, max_size=most))))
    if payload_type in (PayloadType.FLOAT, PayloadType.BLOCK):
        unit.codebook = draw(st.none() | codebooks())
        if unit.codebook and unit.is_block and unit.is_decomposed:
            unit.codebook_h = draw(codebooks())
    if not is_factor:
        return [finish_unit(draw, unit, profile, mps)]
    units = []
    for suffix in ("_G", "_H"):
        unit = nb.DataUnit(**{name: getattr(unit, name) for name in DataUnit.__slots__})
        unit.topology_elem_ids = (stem + suffix,)
        unit.scan_order, unit.entry_points = 0, ()
        unit.parent_node_id_present_flag, unit.temporal_context_modeling_flag = 0, 0
        unit.parent_node_id_type = unit.parent_device_id = None
        unit.parent_node_payload_sha256 = unit.parent_node_payload_sha512 = None
        units.append(finish_unit(draw, unit, profile, mps))
    return units


@st.composite
def streams(draw: st.DrawFn) -> tuple[list[tuple[Content, bytes]], dict[str, tuple[int, ...]]]:
    """Units with payloads, and the dimensions that travel out of band."""
    profile = draw(st.sampled_from([1, 1, 0, 2, 255]))
    indexed = draw(FLAG)
    mps = draw(model_parameter_sets(profile, indexed))
    body: list[tuple[Content, bytes]] = []
    for index in range(draw(st.integers(0, 4))):
        kind = draw(st.integers(0, 6))
        if kind < 4:
            stem = draw(TEXTS) + str(index)
            if stem.endswith(("_G", "_H")):
                stem += "."
            body.extend(draw(data_units(f"{index}:{stem}", profile, mps)))
        else:
            other = draw([layer_parameter_sets(), TOPOLOGIES, QUANTIZATIONS][kind - 4])
            body.append((other, b""))
    units = [content for content, _ in body if isinstance(content, DataUnit)]
    names = [name for unit in units for name in unit.topology_elem_ids]
    dimensions = {u.weight_name: u.tensor_dimensions for u in units if not u.tensor_dimensions_flag}
    head: list[tuple[Content, bytes]] = [(Start(profile), b""), (mps, b"")]
    if indexed or draw(st.booleans()):
        listed = tuple(draw(st.permutations([*names, "unused", "unused too"])))
        head.append((Topology(6, draw(st.integers(0, 255)), topology_elem_ids=listed), b""))
        for unit in units if indexed else ():
            unit.topology_elem_id_indices = tuple(listed.index(name) for name in unit.topology_elem_ids)
    return head + body, {name: shape for name, shape in dimensions.items() if shape is not None}


def rewrite(units: list[nb.Unit]) -> bytes:
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    for u in units:
        writer.write(
            u.content,
            u.payload,
            independently_decodable_flag=u.independently_decodable_flag,
            partial_data_counter=u.partial_data_counter,
        )
    return sink.getvalue()


@settings(deadline=None, max_examples=200)
@given(streams(), st.data())
def test_write_parse_write(
    stream: tuple[list[tuple[Content, bytes]], dict[str, tuple[int, ...]]], data: st.DataObject
) -> None:
    units, dimensions = stream
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    flags = []
    for content, payload in units:
        flags.append(data.draw(FLAG))
        most = data.draw(st.none() | st.integers(100, 400))
        counter = data.draw(st.sampled_from([None, None, 0]))
        written = writer.write(
            content, payload, independently_decodable_flag=flags[-1], max_unit_bytes=most, partial_data_counter=counter
        )
        assert written > len(payload)
    writer.finish()
    raw = sink.getvalue()
    read = list(UnitReader(raw, dimensions=dimensions))
    assert [unit.content for unit in read] == [content for content, _ in units]
    assert [bytes(unit.payload) for unit in read] == [payload for _, payload in units]
    assert [unit.independently_decodable_flag for unit in read] == flags
    assert sum(unit.size for unit in read) == len(raw)
    assert rewrite(read) == raw
    elements = list(nb.trace_stream(raw, dimensions=dimensions))
    assert sum(element.bit_length for element in elements) == 8 * len(raw)


@settings(deadline=None, max_examples=100)
@given(streams(), st.data())
def test_damage_raises_cleanly(
    stream: tuple[list[tuple[Content, bytes]], dict[str, tuple[int, ...]]], data: st.DataObject
) -> None:
    units, dimensions = stream
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    for content, payload in units:
        writer.write(content, payload)
    raw = bytearray(sink.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    damaged = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        parsed = list(UnitReader(damaged, dimensions=dimensions))
        again = rewrite(parsed)
    except (NetpressError, nb.SkippedUnitWarning):
        return
    if all(len(e.name) for e in nb.trace_stream(damaged, dimensions=dimensions)):
        assert list(UnitReader(again, dimensions=dimensions)) is not None


@given(st.binary(max_size=64))
def test_noise_raises_cleanly(noise: bytes) -> None:
    for data in (noise, bytes.fromhex("000402010008068100400080") + noise):
        with contextlib.suppress(NetpressError, nb.SkippedUnitWarning):
            list(UnitReader(data))


class PlainReader(UnitReader):
    """A reader that walks every header."""

    _takes_shortcuts = False


def outcome(reader: UnitReader) -> tuple[list[str], str]:
    """Units up to an error, and the error, as texts: NaN is not equal to itself."""
    units: list[str] = []
    try:
        for unit in reader:
            units.append(repr(dataclasses.replace(unit, payload=bytes(unit.payload))))
    except (NetpressError, nb.SkippedUnitWarning) as error:
        return units, repr(error)
    return units, ""


@settings(deadline=None, max_examples=150)
@given(streams(), st.data())
def test_headers_from_memory_equal_walked_ones(
    stream: tuple[list[tuple[Content, bytes]], dict[str, tuple[int, ...]]], data: st.DataObject
) -> None:
    units, dimensions = stream
    again = []
    for content, payload in units:
        if isinstance(content, DataUnit) and content.topology_elem_id_indices is None:
            names = tuple("again " + name for name in content.topology_elem_ids)
            again.append((dataclasses.replace(content, topology_elem_ids=names), payload))
    dimensions |= {"again " + name: shape for name, shape in dimensions.items()}
    sinks = io.BytesIO(), io.BytesIO()
    writers = UnitWriter(sinks[0]), UnitWriter(sinks[1])
    writers[1]._memory = None
    for content, payload in units + again:
        for writer in writers:
            writer.write(content, payload)
    raw = sinks[0].getvalue()
    assert raw == sinks[1].getvalue()
    damaged = bytearray(raw)
    for _ in range(data.draw(st.integers(0, 3))):
        damaged[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    for version in (raw, bytes(damaged)):
        assert outcome(UnitReader(version, dimensions=dimensions)) == outcome(
            PlainReader(version, dimensions=dimensions)
        )


def test_equal_headers_do_come_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    walked: list[str] = []
    plain = tables._coding_parameters

    def counting(s: Syntax, h: DataUnit, *rest: Any) -> None:
        walked.append(h.name)
        plain(s, h, *rest)

    monkeypatch.setattr(tables, "_coding_parameters", counting)
    writer.write(Start())
    writer.write(ModelParameterSet())
    for index in range(3):
        unit = DataUnit((f"t{index}",), (16, 3), node_id_present_flag=0, device_id=None, parameter_id=None)
        unit.put_node_depth = None
        writer.write(unit, b"\0\0")
    assert walked == ["t0"]
    assert [unit.content.name for unit in UnitReader(sink.getvalue()) if isinstance(unit.content, DataUnit)] == [
        "t0",
        "t1",
        "t2",
    ]
    assert walked == ["t0", "t0"]
