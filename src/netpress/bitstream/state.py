"""What one unit of a stream means for the next: parameter sets in force, names seen, totals.

Reader and writer keep the same state and ask it the same questions, so a writer cannot produce an order of units, a
name or a length that the reader refuses.

Source: ISO/IEC 15938-17, order of NNR units and semantics of the unit types.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from netpress.bitstream.members import MemberRole, factor_role, payload_members
from netpress.bitstream.syntax import Syntax
from netpress.bitstream.units import (
    Content,
    DataUnit,
    LayerParameterSet,
    ModelParameterSet,
    PayloadType,
    Start,
    Topology,
    TopologyStorageFormat,
    UnitType,
)

__all__ = ["StreamState"]

_BYTES_PER_VALUE = 4
_VALUES_PER_STREAM_BYTE = 4096


@dataclasses.dataclass(slots=True)
class StreamState:
    """State of a stream after its units so far.

    ``dimensions`` is the caller's table of tensor dimensions by name, for those that travel out of band.
    ``stream_bytes`` is the length of the whole stream where it is known, for the limit on cheap elements.
    """

    dimensions: Mapping[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    stream_bytes: int = 0
    general_profile_idc: int | None = None
    mps: ModelParameterSet | None = None
    lps: LayerParameterSet | None = None
    reference_ids: tuple[str, ...] | None = None
    names: set[str] = dataclasses.field(default_factory=set)
    awaited: DataUnit | None = None
    tensors: int = 0
    elements: int = 0
    has_data_units: bool = False

    @property
    def is_second_edition(self) -> bool:
        """Whether general_profile_idc is 1; every other value reads like 0."""
        return self.general_profile_idc == 1

    @property
    def has_indexed_references(self) -> bool:
        """mps_topology_indexed_reference_flag."""
        return self.mps is not None and self.mps.mps_topology_indexed_reference_flag == 1

    @property
    def has_parent_signalling(self) -> bool:
        """mps_parent_signalling_enabled_flag."""
        return self.mps is not None and self.mps.mps_parent_signalling_enabled_flag == 1

    def referenced_names(self, s: Syntax, indices: tuple[int, ...]) -> tuple[str, ...]:
        """Return the names that the indices stand for in the last topology reference list."""
        names = self.reference_ids
        s.require(names is not None, "indexed topology elements without a topology reference list before")
        known = names or ()
        for index in indices:
            s.require(0 <= index < len(known), f"topology element index {index} of {len(known)}")
        return tuple(known[index] for index in indices)

    def dimensions_of(self, s: Syntax, unit: DataUnit) -> tuple[int, ...] | None:
        """Return dimensions that are not in the stream: the unit's own when writing, else those of the table."""
        if s.writing:
            s.require(unit.tensor_dimensions is not None, "the tensor dimensions are missing")
            return unit.tensor_dimensions
        name = unit.weight_name
        found = self.dimensions.get(name, self.dimensions.get(unit.name))
        if found is None:
            s.unsupported(f"the dimensions of {name!r} are not in the stream; give them in `dimensions`")
        return found

    def check_order(self, s: Syntax, unit_type: int) -> None:
        """Check that a unit of this type may come now."""
        if self.general_profile_idc is None:
            s.require(unit_type == UnitType.STR, "the stream does not begin with a start unit")
            return
        s.require(unit_type != UnitType.STR, "a second start unit")
        if self.awaited is not None and unit_type != UnitType.NDU:
            s.require(False, f"the factor H of {self.awaited.weight_name!r} does not follow its factor G")
        if unit_type == UnitType.MPS:
            s.require(self.mps is None, "a second model parameter set")
            s.require(not self.has_data_units, "a model parameter set after a data unit")
        elif self.mps is None and unit_type in (UnitType.LPS, UnitType.TPL, UnitType.NDU):
            s.require(False, f"a unit of type {UnitType(unit_type).name} before the model parameter set")

    def finish(self, s: Syntax) -> None:
        """Check that the stream may end now."""
        s.require(self.general_profile_idc is not None, "an empty stream")
        if self.awaited is not None:
            s.require(False, f"the stream ends before the factor H of {self.awaited.weight_name!r}")

    def accept(self, s: Syntax, content: Content, payload_bytes: int) -> None:
        """Check a complete unit against the stream and take over what it sets; nothing changes if it is refused."""
        if isinstance(content, DataUnit):
            self._accept_data_unit(s, content, payload_bytes)
        elif isinstance(content, Start):
            self.general_profile_idc = content.general_profile_idc
        elif isinstance(content, ModelParameterSet):
            self.mps = content
        elif isinstance(content, LayerParameterSet):
            self.lps = content
        elif isinstance(content, Topology) and content.topology_storage_format == TopologyStorageFormat.REFLIST:
            self.reference_ids = content.topology_elem_ids

    def _accept_data_unit(self, s: Syntax, unit: DataUnit, payload_bytes: int) -> None:
        """Check names, totals, payload length and the order of factors."""
        if unit.nnr_compressed_data_unit_payload_type in (PayloadType.FLOAT, PayloadType.BLOCK):
            s.require(self._has_qp_density(), "a quantised tensor without qp density in force")
        seen = set(unit.topology_elem_ids)
        if len(seen) < len(unit.topology_elem_ids) or not seen.isdisjoint(self.names):
            s.require(False, f"a tensor of {unit.topology_elem_ids} occurs twice")
        elements = self._check_totals(s, unit, payload_bytes)
        awaited = self._check_factors(s, unit)
        self._check_entry_points(s, unit, payload_bytes)
        self.names |= seen
        self.tensors += len(seen)
        self.elements += elements
        self.awaited = awaited
        self.has_data_units = True

    def _has_qp_density(self) -> bool:
        """Whether a parameter set gives a qp density."""
        layer = self.lps is not None and self.lps.lps_qp_density is not None
        return layer or (self.mps is not None and self.mps.mps_qp_density is not None)

    def _check_totals(self, s: Syntax, unit: DataUnit, payload_bytes: int) -> int:
        """Check the sizes against limits and payload; return the number of values, recomposed weight included."""
        recomposed = 0
        if unit.is_block or unit.is_decomposed:
            members = payload_members(unit)
            count, elements = len(members), sum(member.size for member in members)
            if any(member.role is MemberRole.G for member in members):
                recomposed = math.prod(unit.tensor_dimensions or ())
        else:
            count, elements = 1, math.prod(unit.tensor_dimensions or ())
        if unit.nnr_compressed_data_unit_payload_type == PayloadType.RAW_FLOAT:
            needed = _BYTES_PER_VALUE * elements
            if payload_bytes != needed:
                s.require(False, f"{payload_bytes} payload bytes for raw values of {needed} bytes")
        elements += recomposed
        total = self.elements + elements
        s.limit(self.tensors + count, "max_tensors")
        s.limit(total, "max_elements")
        s.limit(total * _BYTES_PER_VALUE, "max_total_bytes")
        s.limit(total - self.stream_bytes * _VALUES_PER_STREAM_BYTE, "max_cheap_elements")
        return elements

    def _check_factors(self, s: Syntax, unit: DataUnit) -> DataUnit | None:
        """Check that a factor H follows its G; return the unit if its H has to follow."""
        role = factor_role(unit)
        if self.awaited is not None:
            before = self.awaited
            fits = (
                role is MemberRole.H
                and unit.weight_name == before.weight_name
                and unit.tensor_dimensions == before.tensor_dimensions
                and unit.decomposition_rank == before.decomposition_rank
                and unit.g_number_of_rows == before.g_number_of_rows
            )
            s.require(fits, f"the factor H of {before.weight_name!r} does not follow its factor G")
        elif role is MemberRole.H:
            s.require(False, f"the factor H of {unit.weight_name!r} does not follow a factor G")
        return unit if role is MemberRole.G else None

    def _check_entry_points(self, s: Syntax, unit: DataUnit, payload_bytes: int) -> None:
        """Check that entry points lie in the payload; those of first-edition blocks are not trustworthy anyway."""
        if unit.entry_points and (self.is_second_edition or not unit.is_block):
            distance = sum(point.bit_offset for point in unit.entry_points)
            s.require(distance <= payload_bytes * 8, "an entry point lies past the payload")
