"""The syntax tables of the NNR units, each written once: the same function parses, serialises and explains.

A row of the standard's table is a call of the visitor ``s`` (:class:`netpress.bitstream.syntax.Syntax`); what the
semantics demand follows as ``s.require``. ``h`` is the record of the unit, ``state`` what earlier units of the stream
have set.

Source: ISO/IEC 15938-17, syntax tables of the NNR units; the rows are in the order of the tables.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

from netpress.bitstream.codebook import Codebook
from netpress.bitstream.map_tables import (
    decomposition_performance_map,
    pruning_performance_map,
    sparsification_performance_map,
    unification_performance_map,
)
from netpress.bitstream.members import entry_point_counts, factor_role, member_roles
from netpress.bitstream.state import StreamState
from netpress.bitstream.syntax import Syntax
from netpress.bitstream.units import (
    INFERRED_UNARY_LENGTH_MINUS1,
    Content,
    DataUnit,
    EntryPoint,
    LayerParameterSet,
    ModelParameterSet,
    ParentIdType,
    PayloadType,
    Quantization,
    Start,
    Topology,
    TopologyStorageFormat,
    UnitType,
)

__all__ = ["CONTENT_TYPES", "UnitHeader", "nnr_unit_header", "nnr_unit_size", "unit_content"]

_MAX_SCAN_ORDER = 4
_MAX_BLOCK_MEMBERS = len(member_roles(15))
_NO_ENTRY_POINT = EntryPoint(0, 0, 0)


@dataclasses.dataclass(slots=True)
class UnitHeader:
    """The elements that open every unit. ``nnr_unit_size`` is the size of the whole unit in bytes."""

    nnr_unit_size_flag: int = 0
    nnr_unit_size: int = 0
    nnr_unit_type: int = 0
    independently_decodable_flag: int = 1
    partial_data_counter: int | None = None


def nnr_unit_size(s: Syntax, h: UnitHeader) -> None:
    """Handle the size of a unit: 2 or 4 bytes."""
    s.u(h, "nnr_unit_size_flag", 1)
    s.u(h, "nnr_unit_size", 15 + 16 * h.nnr_unit_size_flag)


def nnr_unit_header(s: Syntax, h: UnitHeader) -> None:
    """Handle the part of the unit header that all types share: 1 or 2 bytes."""
    s.u(h, "nnr_unit_type", 6)
    s.u(h, "independently_decodable_flag", 1)
    if s.flag("partial_data_counter_present_flag", h.partial_data_counter is not None):
        s.u(h, "partial_data_counter", 8)
    else:
        s.absent(h, None, "partial_data_counter")


def start(s: Syntax, h: Start, state: StreamState) -> None:
    """Handle NNR_STR."""
    s.u(h, "general_profile_idc", 8)


def model_parameter_set(s: Syntax, h: ModelParameterSet, state: StreamState) -> None:
    """Handle NNR_MPS."""
    s.u(h, "topology_carriage_flag", 1)
    sparsification = s.flag("mps_sparsification_flag", h.sparsification_performance_map is not None)
    pruning = s.flag("mps_pruning_flag", h.pruning_performance_map is not None)
    unification = s.flag("mps_unification_flag", h.unification_performance_map is not None)
    decomposition = s.flag("mps_decomposition_performance_map_flag", h.decomposition_performance_map is not None)
    s.u(h, "mps_quantization_method_flags", 3)
    s.u(h, "mps_topology_indexed_reference_flag", 1)
    validation = False
    if state.is_second_edition:
        validation = _second_edition_parameters(s, h)
    else:
        s.absent(h, 0, "metric_type_performance_map_valid_flag", "mps_parent_signalling_enabled_flag", "nnr_pre_flag")
        s.absent(h, None, "base_model_id", "performance_metric_type")
        s.reserved_zero("nnr_reserved_zero_7bits", 7)
    if h.mps_quantization_method_flags & 3:
        s.u(h, "mps_qp_density", 3)
        s.i(h, "mps_quantization_parameter", 13)
    else:
        s.absent(h, None, "mps_qp_density", "mps_quantization_parameter")
    h.sparsification_performance_map = (
        sparsification_performance_map(s, h.sparsification_performance_map) if sparsification else None
    )
    h.pruning_performance_map = pruning_performance_map(s, h.pruning_performance_map) if pruning else None
    h.unification_performance_map = (
        unification_performance_map(s, h.unification_performance_map) if unification else None
    )
    h.decomposition_performance_map = (
        decomposition_performance_map(s, h.decomposition_performance_map) if decomposition else None
    )
    if validation:
        s.flt(h, "validation_set_performance")
    else:
        s.absent(h, None, "validation_set_performance")
    s.align()


def _second_edition_parameters(s: Syntax, h: ModelParameterSet) -> bool:
    """Handle what profile 1 adds to the MPS; return validation_set_performance_present_flag."""
    base_model = s.flag("base_model_id_present_flag", h.base_model_id is not None)
    validation = s.flag("validation_set_performance_present_flag", h.validation_set_performance is not None)
    s.u(h, "metric_type_performance_map_valid_flag", 1)
    s.u(h, "mps_parent_signalling_enabled_flag", 1)
    if h.mps_parent_signalling_enabled_flag:
        s.u(h, "nnr_pre_flag", 1)
    else:
        s.absent(h, 0, "nnr_pre_flag")
        s.reserved_zero("nnr_reserved_zero_1bit", 1)
    s.reserved_zero("nnr_reserved_zero_2bits", 2)
    if base_model:
        s.st(h, "base_model_id")
    else:
        s.absent(h, None, "base_model_id")
    if validation or h.metric_type_performance_map_valid_flag:
        s.st(h, "performance_metric_type")
    else:
        s.absent(h, None, "performance_metric_type")
    return validation


def layer_parameter_set(s: Syntax, h: LayerParameterSet, state: StreamState) -> None:
    """Handle NNR_LPS."""
    s.u(h, "lps_self_contained_flag", 1)
    s.reserved_zero("nnr_reserved_zero_7bits", 7)
    s.reserved_zero("nnr_reserved_zero_1_bits", 1)
    sparsification = s.flag("lps_sparsification_flag", h.sparsification_performance_map is not None)
    pruning = s.flag("lps_pruning_flag", h.pruning_performance_map is not None)
    unification = s.flag("lps_unification_flag", h.unification_performance_map is not None)
    s.u(h, "lps_quantization_method_flags", 3)
    s.reserved_zero("nnr_reserved_zero_1bit", 1)
    if h.lps_quantization_method_flags & 3:
        s.u(h, "lps_qp_density", 3)
        s.i(h, "lps_quantization_parameter", 13)
    else:
        s.absent(h, None, "lps_qp_density", "lps_quantization_parameter")
    h.sparsification_performance_map = (
        sparsification_performance_map(s, h.sparsification_performance_map) if sparsification else None
    )
    h.pruning_performance_map = pruning_performance_map(s, h.pruning_performance_map) if pruning else None
    h.unification_performance_map = (
        unification_performance_map(s, h.unification_performance_map) if unification else None
    )
    s.align()


def topology(s: Syntax, h: Topology, state: StreamState) -> None:
    """Handle NNR_TPL."""
    s.u(h, "topology_storage_format", 8)
    s.u(h, "topology_compression_format", 8)
    if h.topology_storage_format == TopologyStorageFormat.REFLIST:
        h.topology_elem_ids = _element_ids(s, h.topology_elem_ids)
        s.absent(h, b"", "topology_data")
    else:
        terminated = h.topology_storage_format != TopologyStorageFormat.PRUN
        h.topology_data = s.rest("topology_data", h.topology_data, terminated=terminated)
        s.absent(h, (), "topology_elem_ids")


def quantization(s: Syntax, h: Quantization, state: StreamState) -> None:
    """Handle NNR_QNT."""
    s.u(h, "quantization_storage_format", 8)
    s.u(h, "quantization_compression_format", 8)
    h.quantization_data = s.rest("quantization_data", h.quantization_data, terminated=True)


def _element_ids(s: Syntax, names: tuple[str, ...], most: int | None = None) -> tuple[str, ...]:
    """Handle topology_elements_ids_list(0), of at most ``most`` names."""
    count = s.ue_value("count_topology_elements_minus2", len(names) - 2, 7) + 2
    s.require(most is None or count <= most, f"a block cannot have {count} topology elements")
    s.limit(count, "max_tensors")
    s.align()
    return s.st_array("topology_elem_id_list", names, count)


def _element_indices(s: Syntax, indices: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Handle topology_elements_ids_list(1), of at most ``most`` indices."""
    count = s.ue_value("count_topology_elements_minus2", len(indices) - 2, 7) + 2
    s.require(count <= most, f"a block cannot have {count} topology elements")
    read = s.ue_array("topology_elem_id_index_list", indices, count, 7)
    s.align()
    return read


def compressed_data_unit_header(s: Syntax, h: DataUnit, state: StreamState) -> None:
    """Handle the header of NNR_NDU, up to where the payload starts."""
    s.u(h, "nnr_compressed_data_unit_payload_type", 5)
    payload_type = h.nnr_compressed_data_unit_payload_type
    if payload_type > PayloadType.BLOCK:
        s.unsupported(f"payload type {payload_type}")
    elements = h.topology_elem_ids if h.topology_elem_id_indices is None else h.topology_elem_id_indices
    multiple = s.flag("nnr_multiple_topology_elements_present_flag", len(elements) > 1)
    data_format = s.flag("nnr_decompressed_data_format_present_flag", h.nnr_decompressed_data_format is not None)
    s.u(h, "input_parameters_present_flag", 1)
    s.require(multiple or not h.is_block, "a block with a single topology element")
    s.require(bool(h.input_parameters_present_flag) or not h.is_block, "a block without parameter types")
    if multiple and not h.is_block:
        s.unsupported("a tensor of several topology elements (topology_tensor_dimension_mapping)")
    _topology_references(s, h, state, multiple)
    _node_ids(s, h, state)
    if h.is_block or not h.input_parameters_present_flag:
        _coding_parameters(s, h, state, data_format)
        return

    def part(t: Syntax) -> None:
        _coding_parameters(t, h, state, data_format)

    s.recurring(part, h, (payload_type, data_format), _CODING_FIELDS, _depends_on_name)


_CODING_FIELDS = (
    "codebook",
    "codebook_h",
    "dq_flag",
    "nnr_decompressed_data_format",
    "tensor_dimensions_flag",
    "cabac_unary_length_flag",
    "compressed_parameter_types",
    "decomposition_rank",
    "g_number_of_rows",
    "tensor_dimensions",
    "cabac_unary_length_minus1",
    "first_tensor_dimension_shift",
    "scan_order",
    "entry_points",
)


def _depends_on_name(h: DataUnit) -> bool:
    """Whether names decide on the meaning of the coding parameters; codebooks are left out because of their length."""
    return h.is_decomposed or not h.tensor_dimensions_flag or h.codebook is not None


def _coding_parameters(s: Syntax, h: DataUnit, state: StreamState, data_format: bool) -> None:
    """Handle what follows names and ids, the attributes ``_CODING_FIELDS``."""
    payload_type = h.nnr_compressed_data_unit_payload_type
    codebooks = False
    if payload_type in (PayloadType.FLOAT, PayloadType.BLOCK):
        codebooks = s.flag("codebook_present_flag", h.codebook is not None)
    _optional_codebook(s, h, "codebook", codebooks)
    if payload_type != PayloadType.RAW_FLOAT:
        s.u(h, "dq_flag", 1)
    else:
        s.absent(h, 0, "dq_flag")
    if data_format:
        s.u(h, "nnr_decompressed_data_format", 7)
    else:
        s.absent(h, None, "nnr_decompressed_data_format")
    _input_parameters(s, h, state)
    second = codebooks and h.is_block and h.is_decomposed
    _optional_codebook(s, h, "codebook_h", second)
    _check_dimensions(s, h)
    _scan(s, h, state)
    s.align()


def _optional_codebook(s: Syntax, h: DataUnit, name: str, present: bool) -> None:
    """Handle a codebook that is there or not."""
    if present:
        setattr(h, name, codebook(s, getattr(h, name)))
    else:
        s.absent(h, None, name)


def _topology_references(s: Syntax, h: DataUnit, state: StreamState, multiple: bool) -> None:
    """Handle the names of the tensors, or their indices into the reference list."""
    if not state.has_indexed_references:
        s.absent(h, None, "topology_elem_id_indices")
        if multiple:
            h.topology_elem_ids = _element_ids(s, h.topology_elem_ids, _MAX_BLOCK_MEMBERS)
        else:
            names = s.entries(h.topology_elem_ids, 1, str)
            h.topology_elem_ids = tuple([s.st_value("topology_elem_id", name) for name in names])
        return
    indices = h.topology_elem_id_indices or ()
    if multiple:
        h.topology_elem_id_indices = _element_indices(s, indices, _MAX_BLOCK_MEMBERS)
    else:
        given = s.entries(indices, 1, int)
        h.topology_elem_id_indices = tuple([s.ue_value("topology_elem_id_index", index, 7) for index in given])
    h.topology_elem_ids = state.referenced_names(s, h.topology_elem_id_indices)


def _node_ids(s: Syntax, h: DataUnit, state: StreamState) -> None:
    """Handle the node id and the parent's; a writer of another profile than 1 drops the node id."""
    if not state.is_second_edition:
        if not s.writing:
            s.absent(h, 0, "node_id_present_flag")
            s.absent(h, None, "device_id", "parameter_id", "put_node_depth")
        _no_parent(s, h)
        return
    s.u(h, "node_id_present_flag", 1)
    if h.node_id_present_flag:
        s.ue(h, "device_id", 1)
        s.ue(h, "parameter_id", 5)
        s.ue(h, "put_node_depth", 4)
    else:
        s.absent(h, None, "device_id")
    if state.has_parent_signalling:
        s.u(h, "parent_node_id_present_flag", 1)
    else:
        s.absent(h, 0, "parent_node_id_present_flag")
    if h.parent_node_id_present_flag:
        _parent_node_id(s, h)
    else:
        _no_parent(s, h)
        if not h.node_id_present_flag:
            s.absent(h, None, "parameter_id", "put_node_depth")


def _no_parent(s: Syntax, h: DataUnit) -> None:
    """Handle a unit without parent."""
    s.absent(h, 0, "parent_node_id_present_flag", "temporal_context_modeling_flag")
    s.absent(h, None, "parent_node_id_type", "parent_device_id")
    s.absent(h, None, "parent_node_payload_sha256", "parent_node_payload_sha512")


def _parent_node_id(s: Syntax, h: DataUnit) -> None:
    """Handle the parent's id, in one of its three forms."""
    s.u(h, "parent_node_id_type", 2)
    s.u(h, "temporal_context_modeling_flag", 1)
    s.require(h.parent_node_id_type in tuple(ParentIdType), "parent_node_id_type is 3")
    if h.parent_node_id_type == ParentIdType.ICNN_NDU_ID:
        s.ue(h, "parent_device_id", 1)
        if not h.node_id_present_flag:
            s.ue(h, "parameter_id", 5)
            s.ue(h, "put_node_depth", 4)
    else:
        s.absent(h, None, "parent_device_id")
        if not h.node_id_present_flag:
            s.absent(h, None, "parameter_id", "put_node_depth")
    if h.parent_node_id_type == ParentIdType.ICNN_NDU_PL_SHA256:
        s.digest(h, "parent_node_payload_sha256", 256)
    else:
        s.absent(h, None, "parent_node_payload_sha256")
    if h.parent_node_id_type == ParentIdType.ICNN_NDU_PL_SHA512:
        s.digest(h, "parent_node_payload_sha512", 512)
    else:
        s.absent(h, None, "parent_node_payload_sha512")


def codebook(s: Syntax, given: Codebook | None) -> Codebook:
    """Handle codebook(): the entry at the zero offset, then the gaps to its left and to its right."""
    values, zero = (given.values, given.zero_offset) if given else ((), 0)
    s.require(given is not None or not s.writing, "a codebook is missing")
    s.require(not s.writing or 0 <= zero < len(values), "the zero offset of a codebook lies outside of it")
    gaps = [int(right) - int(left) - 1 for left, right in itertools.pairwise(values)]
    egk = s.u_value("codebook_egk", given.egk if given else 0, 4)
    size = s.ue_value("codebook_size", len(values), 2)
    s.require(size >= 1, "an empty codebook")
    s.limit(size, "max_codebook_size")
    zero = (size >> 1) + s.ie_value("codebook_center_offset", zero - (len(values) >> 1), 2)
    s.require(0 <= zero < size, "the zero offset of a codebook lies outside of it")
    middle = s.ie_value("codebook_zero_value", values[zero] if s.writing else 0, 7)
    left = s.ue_array("codebook_delta_left", gaps[:zero][::-1], zero, egk)
    right = s.ue_array("codebook_delta_right", gaps[zero:], size - 1 - zero, egk)
    lower = list(itertools.accumulate(left, lambda value, delta: value - delta - 1, initial=middle))
    upper = itertools.accumulate(right, lambda value, delta: value + delta + 1, initial=middle)
    result = (*reversed(lower), *itertools.islice(upper, 1, None))
    in_range = result[0] >= -(1 << 31) and result[-1] < 1 << 31
    s.require(in_range, "an entry of a codebook exceeds 32 bits")
    return Codebook(egk, result, zero)


def _input_parameters(s: Syntax, h: DataUnit, state: StreamState) -> None:
    """Handle what input_parameters_present_flag governs; fill in what comes from outside of the stream."""
    if h.input_parameters_present_flag:
        s.u(h, "tensor_dimensions_flag", 1)
        s.u(h, "cabac_unary_length_flag", 1)
        s.u(h, "compressed_parameter_types", 4)
    else:
        s.absent(h, 0, "compressed_parameter_types")
        if not s.writing:
            s.absent(h, 0, "tensor_dimensions_flag", "cabac_unary_length_flag")
    if h.is_decomposed:
        s.ue(h, "decomposition_rank", 3)
        s.ue(h, "g_number_of_rows", 3)
    else:
        s.absent(h, None, "decomposition_rank", "g_number_of_rows")
    if h.input_parameters_present_flag and h.tensor_dimensions_flag:
        dimensions = h.tensor_dimensions or ()
        s.require(not s.writing or h.tensor_dimensions is not None, "the tensor dimensions are missing")
        count = s.ue_value("count_tensor_dimensions", len(dimensions), 1)
        s.limit(count, "max_dimensions")
        h.tensor_dimensions = s.ue_array("tensor_dimensions", dimensions, count, 7)
    else:
        h.tensor_dimensions = state.dimensions_of(s, h)
    if h.input_parameters_present_flag and h.cabac_unary_length_flag:
        s.u(h, "cabac_unary_length_minus1", 8)
    elif not s.writing:
        s.absent(h, INFERRED_UNARY_LENGTH_MINUS1, "cabac_unary_length_minus1")
    else:
        inferred = h.cabac_unary_length_minus1 == INFERRED_UNARY_LENGTH_MINUS1
        s.require(inferred, f"a unary length that is not written must be {INFERRED_UNARY_LENGTH_MINUS1}")


def _check_dimensions(s: Syntax, h: DataUnit) -> None:
    """Check dimensions and decomposition against each other and the limits, before anything is sized by them."""
    dimensions = h.tensor_dimensions or ()
    raw = h.nnr_compressed_data_unit_payload_type == PayloadType.RAW_FLOAT
    s.require(bool(dimensions) or raw, "a tensor without dimensions in an arithmetic codeword")
    s.limit(math.prod(max(dimension, 1) for dimension in dimensions), "max_elements")
    if h.is_block:
        members = len(member_roles(h.compressed_parameter_types))
        agree = members == len(h.topology_elem_ids)
        s.require(agree, f"{len(h.topology_elem_ids)} topology elements where {members} parameter types are named")
    if h.is_decomposed:
        rank, rows = h.decomposition_rank or 0, h.g_number_of_rows or 0
        s.require(rank > 0, "decomposition_rank is 0")
        s.require(rows > 0, "g_number_of_rows is 0")
        is_factor = h.is_block or factor_role(h) is not None
        s.require(is_factor or len(dimensions) < 2, "a decomposed tensor that is neither factor G nor H by its name")
        if is_factor:
            divides = math.prod(dimensions) % rows == 0
            s.require(divides, "g_number_of_rows does not divide the number of weights")
            s.limit(rows * rank, "max_elements")
            s.limit(rank * (math.prod(dimensions) // rows), "max_elements")


def _scan(s: Syntax, h: DataUnit, state: StreamState) -> None:
    """Handle scan order and entry points."""
    if len(h.tensor_dimensions or ()) <= 1:
        s.absent(h, 0, "first_tensor_dimension_shift", "scan_order")
        s.absent(h, (), "entry_points")
        return
    if state.is_second_edition:
        s.ue(h, "first_tensor_dimension_shift", 1)
    else:
        s.absent(h, 0, "first_tensor_dimension_shift")
    s.u(h, "scan_order", 4)
    s.require(h.scan_order <= _MAX_SCAN_ORDER, f"scan_order {h.scan_order} is above {_MAX_SCAN_ORDER}")
    if not h.scan_order:
        s.absent(h, (), "entry_points")
        return
    counts = entry_point_counts(h)
    s.require(min(counts) >= 0, "a block scan of a tensor without rows")
    s.limit(sum(counts), "max_entry_points")
    h.entry_points = _entry_points(s, h, sum(counts))


def _entry_points(s: Syntax, h: DataUnit, count: int) -> tuple[EntryPoint, ...]:
    """Handle the entry points; each bit offset is coded as the difference to the one before."""
    points: list[EntryPoint] = []
    previous: int | None = None
    for point in s.entries(h.entry_points, count, lambda: _NO_ENTRY_POINT):
        value = s.u_value("value", point.value, 8)
        dq_state = s.u_value("dq_state", point.dq_state, 3) if h.dq_flag else 0
        if previous is None:
            bit_offset = s.ue_value("bit_offset", point.bit_offset, 11)
        else:
            bit_offset = previous + s.ie_value("bit_offset", point.bit_offset - previous, 7)
        s.require(bit_offset >= 0, "the bit offset of an entry point is negative")
        points.append(EntryPoint(value, dq_state, bit_offset))
        previous = bit_offset
    return tuple(points)


CONTENT_TYPES: dict[UnitType, type[Content]] = {
    UnitType.STR: Start,
    UnitType.MPS: ModelParameterSet,
    UnitType.LPS: LayerParameterSet,
    UnitType.TPL: Topology,
    UnitType.QNT: Quantization,
    UnitType.NDU: DataUnit,
}
"""The record of each type of unit that has a table here."""


def unit_content(s: Syntax, content: Content, state: StreamState) -> None:
    """Handle the type-specific header and, but for data units, the payload of a unit."""
    if isinstance(content, DataUnit):
        compressed_data_unit_header(s, content, state)
    elif isinstance(content, ModelParameterSet):
        model_parameter_set(s, content, state)
    elif isinstance(content, LayerParameterSet):
        layer_parameter_set(s, content, state)
    elif isinstance(content, Topology):
        topology(s, content, state)
    elif isinstance(content, Quantization):
        quantization(s, content, state)
    else:
        start(s, content, state)
