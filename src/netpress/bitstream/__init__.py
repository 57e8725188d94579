"""NNR units: headers as dataclasses, read from and written to streams; integers to payloads and back.

Source: ISO/IEC 15938-17, high-level syntax.
"""

from netpress.bitstream.bits import BitReader, BitWriter, DoesNotFit
from netpress.bitstream.codebook import Codebook, cheapest_egk
from netpress.bitstream.maps import (
    DecompositionEntry,
    DecompositionPerformanceMap,
    PruningEntry,
    PruningPerformanceMap,
    SparsificationEntry,
    SparsificationPerformanceMap,
    UnificationEntry,
    UnificationPerformanceMap,
)
from netpress.bitstream.members import (
    Member,
    MemberRole,
    block_row_count,
    codebook_of,
    entry_point_counts,
    factor_role,
    member_roles,
    payload_members,
    payload_roles,
)
from netpress.bitstream.reader import NetpressWarning, SkippedUnitWarning, UnitExtent, UnitReader, scan_units
from netpress.bitstream.trace import TracedElement, trace_stream
from netpress.bitstream.units import (
    CompressedParameterTypes,
    DataUnit,
    DecompressedDataFormat,
    EntryPoint,
    LayerParameterSet,
    ModelParameterSet,
    ParentIdType,
    PayloadType,
    Quantization,
    QuantizationMethod,
    Start,
    Topology,
    TopologyCompressionFormat,
    TopologyStorageFormat,
    Unit,
    UnitType,
)
from netpress.bitstream.writer import ByteSink, UnitWriter

__all__ = [
    "BitReader",
    "BitWriter",
    "ByteSink",
    "Codebook",
    "CompressedParameterTypes",
    "DataUnit",
    "DecompositionEntry",
    "DecompositionPerformanceMap",
    "DecompressedDataFormat",
    "DoesNotFit",
    "EntryPoint",
    "LayerParameterSet",
    "Member",
    "MemberRole",
    "ModelParameterSet",
    "NetpressWarning",
    "ParentIdType",
    "PayloadType",
    "PruningEntry",
    "PruningPerformanceMap",
    "Quantization",
    "QuantizationMethod",
    "SkippedUnitWarning",
    "SparsificationEntry",
    "SparsificationPerformanceMap",
    "Start",
    "Topology",
    "TopologyCompressionFormat",
    "TopologyStorageFormat",
    "TracedElement",
    "UnificationEntry",
    "UnificationPerformanceMap",
    "Unit",
    "UnitExtent",
    "UnitReader",
    "UnitType",
    "UnitWriter",
    "block_row_count",
    "cheapest_egk",
    "codebook_of",
    "entry_point_counts",
    "factor_role",
    "member_roles",
    "payload_members",
    "payload_roles",
    "scan_units",
    "trace_stream",
]
