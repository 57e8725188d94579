"""NNR units as dataclasses that carry the element names of the standard.

A flag that only says whether another element is present has no field of its own: the other field is None when the flag
is 0. Fields that the syntax leaves out hold the inferred value where the standard infers one, otherwise None. All
defaults are what the reference encoder writes.

Source: ISO/IEC 15938-17, the syntax tables and semantics of the NNR unit types.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any, NamedTuple

from netpress.bitstream.codebook import Codebook
from netpress.bitstream.maps import (
    DecompositionPerformanceMap,
    PruningPerformanceMap,
    SparsificationPerformanceMap,
    UnificationPerformanceMap,
)

__all__ = [
    "INFERRED_UNARY_LENGTH_MINUS1",
    "CompressedParameterTypes",
    "Content",
    "DataUnit",
    "DecompressedDataFormat",
    "EntryPoint",
    "LayerParameterSet",
    "ModelParameterSet",
    "ParentIdType",
    "PayloadType",
    "Quantization",
    "QuantizationMethod",
    "Start",
    "Topology",
    "TopologyCompressionFormat",
    "TopologyStorageFormat",
    "Unit",
    "UnitType",
]

INFERRED_UNARY_LENGTH_MINUS1 = 9
"""cabac_unary_length_minus1 of a data unit that does not carry it."""


class UnitType(enum.IntEnum):
    """nnr_unit_type, u(6)."""

    STR = 0
    MPS = 1
    LPS = 2
    TPL = 3
    QNT = 4
    NDU = 5
    AGG = 6


class PayloadType(enum.IntEnum):
    """nnr_compressed_data_unit_payload_type, u(5)."""

    INT = 0
    FLOAT = 1
    RAW_FLOAT = 2
    BLOCK = 3


class CompressedParameterTypes(enum.IntFlag):
    """compressed_parameter_types, u(4): what a layer has beside its weight."""

    DC = 1
    LS = 2
    BN = 4
    BI = 8


class ParentIdType(enum.IntEnum):
    """parent_node_id_type, u(2)."""

    ICNN_NDU_ID = 0
    ICNN_NDU_PL_SHA256 = 1
    ICNN_NDU_PL_SHA512 = 2


class TopologyStorageFormat(enum.IntEnum):
    """topology_storage_format, u(8)."""

    UNREC = 0
    NNEF = 1
    ONNX = 2
    PYT = 3
    TEF = 4
    PRUN = 5
    REFLIST = 6


class TopologyCompressionFormat(enum.IntEnum):
    """topology_compression_format, u(8)."""

    RAW = 0
    DFL = 1


class QuantizationMethod(enum.IntFlag):
    """mps_quantization_method_flags and lps_quantization_method_flags, u(3)."""

    QSU = 1
    QCB = 2


class DecompressedDataFormat(enum.IntEnum):
    """nnr_decompressed_data_format, u(7)."""

    INT32 = 0
    FLOAT32 = 1
    INT2 = 2
    INT3 = 3
    INT4 = 4
    INT8 = 5
    INT16 = 6
    INT64 = 7
    FLOAT16 = 8
    FLOAT64 = 9


@dataclasses.dataclass(slots=True)
class Start:
    """NNR_STR. ``general_profile_idc`` u(8) is 1 for the second edition; every other value reads like 0, the first."""

    general_profile_idc: int = 1


@dataclasses.dataclass(slots=True)
class ModelParameterSet:
    """NNR_MPS. Source: syntax table of the NNR model parameter set unit payload.

    ``mps_qp_density`` (0..7) and ``mps_quantization_parameter`` (-4096..4095) are None iff
    ``mps_quantization_method_flags`` names neither method. ``performance_metric_type`` is present iff
    ``validation_set_performance`` is or ``metric_type_performance_map_valid_flag`` is 1. With a general_profile_idc
    other than 1, the fields from ``base_model_id`` to ``nnr_pre_flag`` and ``validation_set_performance`` do not exist.
    """

    topology_carriage_flag: int = 1
    mps_quantization_method_flags: int = 1
    mps_topology_indexed_reference_flag: int = 0
    base_model_id: str | None = None
    performance_metric_type: str | None = None
    metric_type_performance_map_valid_flag: int = 0
    mps_parent_signalling_enabled_flag: int = 0
    nnr_pre_flag: int = 0
    mps_qp_density: int | None = 2
    mps_quantization_parameter: int | None = 0
    sparsification_performance_map: SparsificationPerformanceMap | None = None
    pruning_performance_map: PruningPerformanceMap | None = None
    unification_performance_map: UnificationPerformanceMap | None = None
    decomposition_performance_map: DecompositionPerformanceMap | None = None
    validation_set_performance: float | None = None


@dataclasses.dataclass(slots=True)
class LayerParameterSet:
    """NNR_LPS: applies to all data units up to the next one. Source: syntax table of the layer parameter set unit.

    ``lps_qp_density`` and ``lps_quantization_parameter`` are None iff ``lps_quantization_method_flags`` names neither
    method; the values of the model parameter set then stay in force.
    """

    lps_self_contained_flag: int = 0
    lps_quantization_method_flags: int = 1
    lps_qp_density: int | None = 2
    lps_quantization_parameter: int | None = 0
    sparsification_performance_map: SparsificationPerformanceMap | None = None
    pruning_performance_map: PruningPerformanceMap | None = None
    unification_performance_map: UnificationPerformanceMap | None = None


@dataclasses.dataclass(slots=True)
class Topology:
    """NNR_TPL. Source: syntax table of the topology unit.

    ``topology_data`` is everything up to the final zero byte of the unit. For other decoders it must be UTF-8 without
    NUL; this package reads and writes any bytes. ``topology_elem_ids`` (two names or more) replaces the data in format
    REFLIST: the list that indexed topology references point into. In format PRUN, whose syntax is not implemented,
    ``topology_data`` is the whole payload as it stands.
    """

    topology_storage_format: int = TopologyStorageFormat.UNREC
    topology_compression_format: int = TopologyCompressionFormat.RAW
    topology_data: bytes = b""
    topology_elem_ids: tuple[str, ...] = ()


@dataclasses.dataclass(slots=True)
class Quantization:
    """NNR_QNT; ``quantization_data`` is all up to the final zero byte. Source: table of the quantisation unit."""

    quantization_storage_format: int = 0
    quantization_compression_format: int = 0
    quantization_data: bytes = b""


class EntryPoint(NamedTuple):
    """Where a block row starts in the codeword: ``value`` u(8), ``dq_state`` u(3), ``bit_offset`` >= 0 in bits.

    ``bit_offset`` is the distance to the entry point before, for the first of a tensor to the start of its
    coefficients.
    """

    value: int
    dq_state: int
    bit_offset: int


@dataclasses.dataclass(slots=True)
class DataUnit:
    """The header of an NNR_NDU. Source: syntax table of the compressed data unit header.

    ``topology_elem_ids`` holds the names in id-list order (one, or two and more for BLOCK). When
    mps_topology_indexed_reference_flag is 1, ``topology_elem_id_indices`` holds what is written and the names are
    looked up in the reference list; otherwise it is None.

    ``tensor_dimensions`` is that of the recomposed weight for BLOCK and for the factors G and H. It is always filled
    in: with ``tensor_dimensions_flag`` 0 it is not in the stream but comes from the caller's table of dimensions.
    ``input_parameters_present_flag`` 0 leaves out dimensions, unary length and parameter types alike.
    ``cabac_unary_length_minus1`` is 9 whenever ``cabac_unary_length_flag`` is 0.

    The node id (``device_id``, ``parameter_id``, ``put_node_depth``) exists in profile 1 only; a writer of another
    profile leaves it out. Parent fields need mps_parent_signalling_enabled_flag.
    """

    topology_elem_ids: tuple[str, ...] = ()
    tensor_dimensions: tuple[int, ...] | None = None
    nnr_compressed_data_unit_payload_type: int = PayloadType.FLOAT
    topology_elem_id_indices: tuple[int, ...] | None = None
    nnr_decompressed_data_format: int | None = None
    input_parameters_present_flag: int = 1
    node_id_present_flag: int = 1
    device_id: int | None = 0
    parameter_id: int | None = 0
    put_node_depth: int | None = 0
    parent_node_id_present_flag: int = 0
    parent_node_id_type: int | None = None
    temporal_context_modeling_flag: int = 0
    parent_device_id: int | None = None
    parent_node_payload_sha256: bytes | None = None
    parent_node_payload_sha512: bytes | None = None
    codebook: Codebook | None = None
    codebook_h: Codebook | None = None
    dq_flag: int = 0
    tensor_dimensions_flag: int = 1
    cabac_unary_length_flag: int = 1
    cabac_unary_length_minus1: int = 10
    compressed_parameter_types: int = 0
    decomposition_rank: int | None = None
    g_number_of_rows: int | None = None
    first_tensor_dimension_shift: int = 0
    scan_order: int = 0
    entry_points: tuple[EntryPoint, ...] = ()

    @property
    def name(self) -> str:
        """The first topology element id."""
        return self.topology_elem_ids[0]

    @property
    def is_block(self) -> bool:
        """Whether the unit holds the members of one layer (payload type BLOCK)."""
        return self.nnr_compressed_data_unit_payload_type == PayloadType.BLOCK

    @property
    def is_decomposed(self) -> bool:
        """Whether the layer's weight is decomposed (bit DC of compressed_parameter_types)."""
        return self.compressed_parameter_types & 1 == 1

    @property
    def weight_name(self) -> str:
        """The name that dimensions are looked up by: the first id, without a final ``_G`` or ``_H`` if decomposed."""
        if self.is_decomposed and (self.name.endswith("_G") or (self.name.endswith("_H") and not self.is_block)):
            return self.name[:-2]
        return self.name


Content = Start | ModelParameterSet | LayerParameterSet | Topology | Quantization | DataUnit


@dataclasses.dataclass(slots=True)
class Unit:
    """One NNR unit of a stream, after reassembly of partial units.

    ``index`` counts the units of the stream as they stand, from 0; ``offset`` is the byte offset of the (first) unit,
    ``size`` its bytes (of all parts together), of which ``header_bytes`` are not payload. ``partial_data_counter`` is
    that of the first part, so the number of parts is one more; None without a counter. ``payload`` is empty but for
    data units, and a view into the data where that is possible: copy it (``bytes(unit.payload)``) to keep it.

    ``general_profile_idc``, ``mps`` and ``lps`` are those in force for this unit.
    """

    unit_type: UnitType
    independently_decodable_flag: int
    partial_data_counter: int | None
    content: Content
    payload: bytes | memoryview
    index: int
    offset: int
    size: int
    header_bytes: int
    general_profile_idc: int
    mps: ModelParameterSet | None
    lps: LayerParameterSet | None

    def __reduce__(self) -> tuple[Any, ...]:
        # A view into the data travels to other processes as bytes.
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Unit, tuple(bytes(value) if isinstance(value, memoryview) else value for value in values)

    @property
    def qp_density(self) -> int | None:
        """The qp density in force, 0..7: that of the LPS if it has one, else of the MPS; None without any."""
        if self.lps is not None and self.lps.lps_qp_density is not None:
            return self.lps.lps_qp_density
        return None if self.mps is None else self.mps.mps_qp_density

    @property
    def base_qp(self) -> int | None:
        """The base qp in force, -4096..4095, from the same parameter set as :attr:`qp_density`."""
        if self.lps is not None and self.lps.lps_qp_density is not None:
            return self.lps.lps_quantization_parameter
        return None if self.mps is None else self.mps.mps_quantization_parameter
