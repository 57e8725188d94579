"""Unit tables: the worked examples of the format description, members, codebooks, writer and reader behaviour."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest

import netpress.bitstream as nb
from netpress.bitstream import (
    Codebook,
    DataUnit,
    EntryPoint,
    LayerParameterSet,
    MemberRole,
    ModelParameterSet,
    PayloadType,
    Start,
    Topology,
    UnitReader,
    UnitType,
    UnitWriter,
)
from netpress.bitstream.units import Content, Unit
from netpress.errors import InvalidBitstream, InvalidConfig, InvalidModel, UnsupportedBitstream

EXAMPLE = bytes.fromhex(
    "00040201 00080681 00400080 00060e00000000151609 6100 d041c120a0c2a080f74e8004b57758".replace(" ", "")
)


def write(*units: Content | tuple[Content, bytes], **options: int) -> bytes:
    """Bytes of a stream; ``options`` go to every unit but the first two."""
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    for index, unit in enumerate(units):
        content, payload = unit if isinstance(unit, tuple) else (unit, b"")
        writer.write(content, payload, **(options if index > 1 else {}))  # type: ignore[arg-type]
    writer.finish()
    return sink.getvalue()


def rewrite(units: Iterable[Unit]) -> bytes:
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    for unit in units:
        writer.write(
            unit.content,
            unit.payload,
            independently_decodable_flag=unit.independently_decodable_flag,
            partial_data_counter=unit.partial_data_counter,
        )
    return sink.getvalue()


def read_last(data: bytes, **options: object) -> DataUnit:
    content = list(UnitReader(data, **options))[-1].content  # type: ignore[arg-type]
    assert isinstance(content, DataUnit)
    return content


def test_example_one_tensor() -> None:
    assert len(EXAMPLE) == 4 + 8 + 6 + 21
    unit = DataUnit(("a",), (2, 3), dq_flag=1)
    assert write(Start(), ModelParameterSet(), Topology(), (unit, EXAMPLE[-7:])) == EXAMPLE
    units = list(UnitReader(EXAMPLE))
    assert [u.unit_type for u in units] == [UnitType.STR, UnitType.MPS, UnitType.TPL, UnitType.NDU]
    assert [u.content for u in units] == [Start(), ModelParameterSet(), Topology(), unit]
    last = units[-1]
    assert (last.index, last.offset, last.size, last.header_bytes) == (3, 18, 21, 14)
    assert bytes(last.payload) == EXAMPLE[-7:]
    assert (last.qp_density, last.base_qp, last.general_profile_idc) == (2, 0, 1)
    assert rewrite(units) == EXAMPLE


def test_example_trace() -> None:
    elements = [e for e in nb.trace_stream(EXAMPLE) if e.unit == 3]
    expected = [
        ("node_id_present_flag", 1, "u(1)", 1),
        ("device_id", 0, "ue(1)", 2),
        ("parameter_id", 0, "ue(5)", 6),
        ("put_node_depth", 0, "ue(4)", 5),
        ("codebook_present_flag", 0, "u(1)", 1),
        ("dq_flag", 1, "u(1)", 1),
        ("tensor_dimensions_flag", 1, "u(1)", 1),
        ("cabac_unary_length_flag", 1, "u(1)", 1),
        ("compressed_parameter_types", 0, "u(4)", 4),
        ("count_tensor_dimensions", 2, "ue(1)", 4),
        ("tensor_dimensions[0]", 2, "ue(7)", 8),
        ("tensor_dimensions[1]", 3, "ue(7)", 8),
        ("cabac_unary_length_minus1", 10, "u(8)", 8),
        ("first_tensor_dimension_shift", 0, "ue(1)", 2),
        ("scan_order", 0, "u(4)", 4),
        ("alignment", 1, "align", 8),
        ("nnr_unit_payload", 7, "bytes", 56),
    ]
    tail = elements[-len(expected) :]
    assert [(e.name, e.value, e.descriptor, e.bit_length) for e in tail] == expected
    assert [e.name for e in elements[: -len(expected)]] == [
        "nnr_unit_size_flag",
        "nnr_unit_size",
        "nnr_unit_type",
        "independently_decodable_flag",
        "partial_data_counter_present_flag",
        "nnr_compressed_data_unit_payload_type",
        "nnr_multiple_topology_elements_present_flag",
        "nnr_decompressed_data_format_present_flag",
        "input_parameters_present_flag",
        "topology_elem_id",
    ]


def test_trace_covers_every_bit_and_stops_at_errors() -> None:
    position = 0
    for element in nb.trace_stream(EXAMPLE):
        assert element.bit_position == position
        position += element.bit_length
    assert position == len(EXAMPLE) * 8
    elements: list[nb.TracedElement] = []
    with pytest.raises(InvalidBitstream):
        elements.extend(nb.trace_stream(EXAMPLE[:-8]))
    assert (elements[-1].unit, elements[-1].name) == (3, "nnr_unit_size")


@pytest.mark.parametrize(("depth", "temporal", "header"), [(1, 0, "d0462704 82830a82"), (2, 1, "d04a6704 82830a82")])
def test_example_update(depth: int, temporal: int, header: str) -> None:
    unit = DataUnit(
        ("a",),
        (2, 3),
        dq_flag=1,
        put_node_depth=depth,
        parent_node_id_present_flag=1,
        parent_node_id_type=nb.ParentIdType.ICNN_NDU_ID,
        temporal_context_modeling_flag=temporal,
        parent_device_id=0,
    )
    mps = ModelParameterSet(mps_parent_signalling_enabled_flag=1)
    data = write(Start(), mps, (unit, b"\1\2"))
    assert data[4:12].hex() == "0008068108400080"
    assert data[18:-2] == bytes.fromhex(header)
    assert read_last(data) == unit
    pre = ModelParameterSet(mps_parent_signalling_enabled_flag=1, nnr_pre_flag=1)
    assert write(Start(), pre)[4:].hex() == "000806810c400080"


def test_example_block() -> None:
    names = ("conv1.weight", "conv1.weight_scaling", "conv1.weight.bias")
    unit = DataUnit(names, (6, 3, 3, 3), PayloadType.BLOCK, dq_flag=1, compressed_parameter_types=0b1010)
    header = bytes.fromhex("1d8180") + b"".join(name.encode() + b"\0" for name in names)
    header += bytes.fromhex("d041e9a1a0e0e0c2a080")
    payload = b"\xb5" + bytes(325 - 3 - len(header) - 1)
    data = write(Start(), ModelParameterSet(), Topology(), (unit, payload))
    assert data[18:] == bytes.fromhex("014516") + header + payload
    assert read_last(data) == unit
    assert [(m.name, m.role, m.shape) for m in nb.payload_members(unit)] == [
        (names[1], MemberRole.SCALING, (6,)),
        (names[2], MemberRole.BIAS, (6,)),
        (names[0], MemberRole.WEIGHT, (6, 3, 3, 3)),
    ]


def test_first_edition_has_no_node_ids() -> None:
    unit = DataUnit(("a",), (2, 3), parameter_id=9)
    data = write(Start(0), ModelParameterSet(), (unit, b"xy"))
    assert data[:12].hex() == "000402000008068100400080"
    read = read_last(data)
    assert (read.node_id_present_flag, read.parameter_id) == (0, None)
    assert rewrite(UnitReader(data)) == data


def test_members_of_a_full_decomposed_block() -> None:
    names = ("w_G", "w_H", "s", "be", "ga", "me", "va", "bi")
    points = (EntryPoint(1, 0, 5), EntryPoint(2, 0, 3), EntryPoint(3, 0, 9))
    unit = DataUnit(
        names,
        (20, 10),
        PayloadType.BLOCK,
        compressed_parameter_types=15,
        decomposition_rank=9,
        g_number_of_rows=20,
        scan_order=1,
        entry_points=points,
    )
    members = nb.payload_members(unit)
    assert [m.name for m in members] == ["s", "bi", "be", "ga", "me", "va", "w_G", "w_H"]
    assert [m.position for m in members] == [2, 7, 3, 4, 5, 6, 0, 1]
    assert [m.shape for m in members] == [(20,)] * 6 + [(20, 9), (9, 10)]
    assert (members[-2].entry_points, members[-1].entry_points) == (points[:2], points[2:])
    assert nb.entry_point_counts(unit) == (2, 1)
    assert unit.weight_name == "w"
    assert read_last(write(Start(), ModelParameterSet(), (unit, b"xyz"))) == unit


def test_single_tensor_and_factor_members() -> None:
    single = DataUnit(("x_G",), (9, 2), scan_order=1, entry_points=(EntryPoint(0, 0, 1),))
    (member,) = nb.payload_members(single)
    assert (member.role, member.shape, member.entry_points) == (MemberRole.TENSOR, (9, 2), single.entry_points)
    factor = DataUnit(("x_H",), (9, 4), compressed_parameter_types=1, decomposition_rank=2, g_number_of_rows=9)
    assert [(m.role, m.shape) for m in nb.payload_members(factor)] == [(MemberRole.H, (2, 4))]
    assert (single.weight_name, factor.weight_name) == ("x_G", "x")


def test_factors_in_units_of_their_own() -> None:
    common = {"compressed_parameter_types": 1, "decomposition_rank": 9, "g_number_of_rows": 20}
    g = DataUnit(("w_G",), (20, 10), scan_order=1, entry_points=(EntryPoint(0, 0, 1),) * 2, **common)  # type: ignore[arg-type]
    h = DataUnit(("w_H",), (20, 10), scan_order=1, entry_points=(EntryPoint(0, 0, 1),), **common)  # type: ignore[arg-type]
    data = write(Start(), ModelParameterSet(), (g, b"abc"), (h, b"abc"))
    assert [u.content for u in UnitReader(data)][2:] == [g, h]
    with pytest.raises(InvalidModel, match="does not follow a factor G"):
        write(Start(), ModelParameterSet(), (h, b"abc"))
    with pytest.raises(InvalidConfig, match="ends before the factor H"):
        write(Start(), ModelParameterSet(), (g, b"abc"))


def test_cheapest_codebook() -> None:
    assert nb.cheapest_egk([5]) == 0
    assert nb.cheapest_egk([0, 1, 2, 3]) == 0
    assert nb.cheapest_egk([0, 1 << 20]) == 15
    assert nb.cheapest_egk([0, 5]) == 1
    with pytest.raises(InvalidModel):
        nb.cheapest_egk([1, 1])
    sizes = []
    values = (-90, -31, -7, 0, 4, 5, 31, 64, 120)
    for egk in range(16):
        unit = DataUnit(("a",), (4,), codebook=Codebook(egk, values, 3))
        data = write(Start(), ModelParameterSet(), (unit, b""))
        assert read_last(data) == unit
        sizes.append(next(e for e in reversed(list(nb.trace_stream(data))) if e.name == "dq_flag").bit_position)
    assert Codebook.cheapest(values, 3) == Codebook(sizes.index(min(sizes)), values, 3)


def test_layer_parameter_set_overrides_the_model_parameter_set() -> None:
    data = write(
        Start(),
        ModelParameterSet(mps_qp_density=3, mps_quantization_parameter=-7),
        (DataUnit(("a",), (1,)), b""),
        LayerParameterSet(lps_qp_density=1, lps_quantization_parameter=5),
        (DataUnit(("b",), (1,)), b""),
        LayerParameterSet(lps_quantization_method_flags=0, lps_qp_density=None, lps_quantization_parameter=None),
        (DataUnit(("c",), (1,)), b""),
    )
    units = [u for u in UnitReader(data) if u.unit_type == UnitType.NDU]
    assert [(u.qp_density, u.base_qp) for u in units] == [(3, -7), (1, 5), (3, -7)]
    assert rewrite(UnitReader(data)) == data


def test_indexed_references() -> None:
    names = ("w", "b", "v")
    block = DataUnit(("w", "b"), (3, 2), PayloadType.BLOCK, compressed_parameter_types=8)
    data = write(
        Start(),
        ModelParameterSet(mps_topology_indexed_reference_flag=1),
        Topology(6, topology_elem_ids=names),
        (block, b"xx"),
        (DataUnit(topology_elem_id_indices=(2,), tensor_dimensions=(4,)), b"xx"),
    )
    assert block.topology_elem_id_indices is None
    contents = [u.content for u in UnitReader(data)]
    assert [(c.topology_elem_ids, c.topology_elem_id_indices) for c in contents if isinstance(c, DataUnit)] == [
        (("w", "b"), (0, 1)),
        (("v",), (2,)),
    ]
    assert rewrite(UnitReader(data)) == data
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    writer.write(Start())
    writer.write(ModelParameterSet(mps_topology_indexed_reference_flag=1))
    for wrong in (DataUnit(("w",), (1,)), DataUnit((), (1,), topology_elem_id_indices=(0,))):
        with pytest.raises(InvalidModel):
            writer.write(wrong)


def test_dimensions_out_of_band() -> None:
    names = ("w_G", "w_H")
    unit = DataUnit(
        names,
        (4, 6),
        PayloadType.BLOCK,
        compressed_parameter_types=1,
        decomposition_rank=2,
        g_number_of_rows=4,
        tensor_dimensions_flag=0,
    )
    bare = DataUnit(("x",), (5, 7), input_parameters_present_flag=0, cabac_unary_length_minus1=9)
    data = write(Start(), ModelParameterSet(), (unit, b""), (bare, b""))
    read = [u.content for u in UnitReader(data, dimensions={"w": (4, 6), "x": [5, 7]})][2:]
    assert read[0] == unit
    assert isinstance(read[1], DataUnit)
    assert (read[1].tensor_dimensions, read[1].cabac_unary_length_minus1) == ((5, 7), 9)
    assert read[1].tensor_dimensions_flag == read[1].cabac_unary_length_flag == 0
    with pytest.raises(UnsupportedBitstream, match="'w'"):
        list(UnitReader(data))
    with pytest.raises(ValueError, match="negative"):
        UnitReader(data, dimensions={"x": (-1,)})


@pytest.mark.parametrize(("size", "size_bytes"), [(32767, 2), (32770, 4)])
def test_size_form(size: int, size_bytes: int) -> None:
    unit = DataUnit(("a",), (4,))
    header = len(write(Start(), ModelParameterSet(), (unit, b""))) - 12 - 2
    data = write(Start(), ModelParameterSet(), (unit, bytes(size - size_bytes - header)))
    extents = list(nb.scan_units(data))
    assert extents[-1].size == size
    assert extents[-1].body - extents[-1].offset == size_bytes + 1
    assert extents[-1].end == len(data)


def test_partial_units() -> None:
    unit = DataUnit(("a",), (2, 3))
    payload = bytes(range(100))
    whole = write(Start(), ModelParameterSet(), (unit, payload))
    for options in ({"partial_data_counter": 3}, {"max_unit_bytes": 40}, {"partial_data_counter": 0}):
        data = write(Start(), ModelParameterSet(), (unit, payload), **options)
        (read,) = list(UnitReader(data))[2:]
        assert (read.content, bytes(read.payload)) == (unit, payload)
        assert read.size == len(data) - 12
        assert read.header_bytes == read.size - 100
        assert rewrite(UnitReader(data)) == data
        extents = list(nb.scan_units(data))[2:]
        assert read.partial_data_counter == len(extents) - 1
        assert max(e.size for e in extents) - min(e.size for e in extents) <= 1
    assert (
        max(e.size for e in nb.scan_units(write(Start(), ModelParameterSet(), (unit, payload), max_unit_bytes=40)))
        <= 40
    )
    assert write(Start(), ModelParameterSet(), (unit, payload), max_unit_bytes=1000) == whole
    positions = [e.bit_position for e in nb.trace_stream(data)]
    assert positions == sorted(positions)
    for wrong in ({"partial_data_counter": 256}, {"partial_data_counter": 200}, {"max_unit_bytes": 4}):
        with pytest.raises(InvalidConfig):
            write(Start(), ModelParameterSet(), (unit, payload), **wrong)
    with pytest.raises(InvalidConfig):
        write(Start(), ModelParameterSet(), (unit, bytes(5000)), max_unit_bytes=6)


@pytest.mark.parametrize(
    "unit",
    [
        DataUnit((), (1,)),
        DataUnit(("a\0b",), (1,)),
        DataUnit(("a",), None),
        DataUnit(("a",), ()),
        DataUnit(("a",), (-1,)),
        DataUnit(("a", "b"), (1,)),
        DataUnit(("a", "b"), (1,), PayloadType.BLOCK),
        DataUnit(("a",), (1,), PayloadType.BLOCK),
        DataUnit(("a",), (1,), 4),
        DataUnit(("a",), (1,), PayloadType.RAW_FLOAT),
        DataUnit(("a",), (1,), PayloadType.INT, codebook=Codebook(0, (1,), 0)),
        DataUnit(("a",), (1,), codebook=Codebook(0, (2, 1), 0)),
        DataUnit(("a",), (1,), codebook=Codebook(0, (1, 2), 2)),
        DataUnit(("a",), (1,), codebook=Codebook(0, (), 0)),
        DataUnit(("a",), (1,), codebook=Codebook(16, (1,), 0)),
        DataUnit(("a",), (1,), codebook=Codebook(0, (1 << 31,), 0)),
        DataUnit(("a",), (1,), codebook_h=Codebook(0, (1,), 0)),
        DataUnit(("a",), (1,), scan_order=1),
        DataUnit(("a",), (1, 1), scan_order=5),
        DataUnit(("a",), (0, 1), scan_order=1),
        DataUnit(("a",), (9, 1), scan_order=1),
        DataUnit(("a",), (1, 1), entry_points=(EntryPoint(0, 0, 0),)),
        DataUnit(("a",), (9, 1), scan_order=1, entry_points=(EntryPoint(0, 0, 1000),)),
        DataUnit(("a",), (1,), cabac_unary_length_minus1=256),
        DataUnit(("a",), (1,), cabac_unary_length_flag=0),
        DataUnit(("a",), (1,), device_id=None),
        DataUnit(("a",), (1,), node_id_present_flag=0, parameter_id=3),
        DataUnit(("a",), (1,), temporal_context_modeling_flag=1),
        DataUnit(("a",), (1,), parent_node_id_present_flag=1, parent_node_id_type=0, parent_device_id=0),
        DataUnit(("a",), (1,), decomposition_rank=1),
        DataUnit(("a",), (2, 2), compressed_parameter_types=1, decomposition_rank=1, g_number_of_rows=2),
        DataUnit(("a",), (1,), topology_elem_id_indices=(3,)),
    ],
)
def test_writer_refuses_impossible_tensors(unit: DataUnit) -> None:
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    writer.write(Start())
    writer.write(ModelParameterSet())
    before = sink.getvalue()
    with pytest.raises(InvalidModel):
        writer.write(unit, b"xy")
    assert sink.getvalue() == before
    writer.write(DataUnit(("a",), (1,)), b"xy")


@pytest.mark.parametrize(
    "mps",
    [
        ModelParameterSet(mps_qp_density=8),
        ModelParameterSet(mps_qp_density=None),
        ModelParameterSet(mps_quantization_parameter=5000),
        ModelParameterSet(mps_quantization_method_flags=4),
        ModelParameterSet(nnr_pre_flag=1),
        ModelParameterSet(base_model_id="a\0"),
        ModelParameterSet(performance_metric_type="top1"),
        ModelParameterSet(metric_type_performance_map_valid_flag=1),
        ModelParameterSet(performance_metric_type="x", validation_set_performance=1e300),
    ],
)
def test_writer_refuses_impossible_parameter_sets(mps: ModelParameterSet) -> None:
    with pytest.raises(InvalidConfig):
        write(Start(), mps)


def test_writer_refuses_wrong_order_and_duplicates() -> None:
    tensor = (DataUnit(("a",), (1,)), b"x")
    for units in (
        [ModelParameterSet()],
        [Start(), Start()],
        [Start(), Topology()],
        [Start(), LayerParameterSet()],
        [Start(), ModelParameterSet(), ModelParameterSet()],
        [Start(0), ModelParameterSet(mps_parent_signalling_enabled_flag=1)],
        [Start(), (ModelParameterSet(), b"x")],
        [Start(), ModelParameterSet(), Topology(topology_data="x")],  # type: ignore[arg-type]
        [Start(), ModelParameterSet(), Topology(6, topology_elem_ids=("x",))],
        [],
    ):
        with pytest.raises(InvalidConfig):
            write(*units)  # type: ignore[arg-type]
    for units in ([Start(), tensor], [Start(), ModelParameterSet(), tensor, tensor]):
        with pytest.raises(InvalidModel, match="tensor 'a'"):
            write(*units)  # type: ignore[arg-type]


def test_every_iteration_starts_anew() -> None:
    reader = UnitReader(EXAMPLE)
    assert list(reader) == list(reader)
    assert reader.size == len(EXAMPLE)
