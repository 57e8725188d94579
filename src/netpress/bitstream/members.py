"""The tensors inside of one data unit: which, in which order, of which shape.

Source: ISO/IEC 15938-17, decoding process of NNR_PT_BLOCK units; syntax table of the compressed data unit header.
"""

from __future__ import annotations

import enum
import functools
import math
from typing import NamedTuple

from netpress.bitstream.codebook import Codebook
from netpress.bitstream.units import CompressedParameterTypes, DataUnit, EntryPoint

__all__ = [
    "Member",
    "MemberRole",
    "block_row_count",
    "codebook_of",
    "entry_point_counts",
    "factor_role",
    "member_roles",
    "payload_members",
    "payload_roles",
]


class MemberRole(enum.Enum):
    """What a tensor of a data unit is. ``TENSOR``: the only tensor of a unit that is neither a block nor a factor."""

    TENSOR = "tensor"
    WEIGHT = "weight"
    G = "g"
    H = "h"
    SCALING = "scaling"
    BIAS = "bias"
    BN_BETA = "bn_beta"
    BN_GAMMA = "bn_gamma"
    BN_MEAN = "bn_mean"
    BN_VAR = "bn_var"

    @property
    def is_weight(self) -> bool:
        """Whether it is the weight of a block or one of its factors: what codebook, scan and entry points apply to."""
        return self in (MemberRole.WEIGHT, MemberRole.G, MemberRole.H)


_BATCH_NORM = (MemberRole.BN_BETA, MemberRole.BN_GAMMA, MemberRole.BN_MEAN, MemberRole.BN_VAR)
_PAYLOAD_RANK = {MemberRole.SCALING: 0, MemberRole.BIAS: 1, MemberRole.G: 3, MemberRole.H: 3, MemberRole.WEIGHT: 3}


class Member(NamedTuple):
    """One tensor of a data unit. ``position`` is that of its name in the id list; ``entry_points`` are its own."""

    name: str
    role: MemberRole
    shape: tuple[int, ...]
    position: int
    entry_points: tuple[EntryPoint, ...] = ()

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@functools.lru_cache
def member_roles(compressed_parameter_types: int) -> tuple[MemberRole, ...]:
    """Return the roles of the members of a BLOCK unit in the order of its id list.

    Source: syntax table of the compressed data unit header, order of topology_elem_id_list.
    """
    types = CompressedParameterTypes(compressed_parameter_types)
    roles = [MemberRole.WEIGHT]
    if types & CompressedParameterTypes.DC:
        roles = [MemberRole.G, MemberRole.H]
    if types & CompressedParameterTypes.LS:
        roles.append(MemberRole.SCALING)
    if types & CompressedParameterTypes.BN:
        roles.extend(_BATCH_NORM)
    if types & CompressedParameterTypes.BI:
        roles.append(MemberRole.BIAS)
    return tuple(roles)


@functools.lru_cache
def payload_roles(compressed_parameter_types: int) -> tuple[MemberRole, ...]:
    """Return the roles of the members of a BLOCK unit in the order of its payload.

    Source: decoding process of NNR_PT_BLOCK units.
    """
    return tuple(sorted(member_roles(compressed_parameter_types), key=_payload_rank))


def _payload_rank(role: MemberRole) -> int:
    return _PAYLOAD_RANK.get(role, 2)


def codebook_of(unit: DataUnit, role: MemberRole) -> Codebook | None:
    """Return the codebook of one tensor of a data unit. Source: semantics of codebook_present_flag."""
    if not unit.is_block:
        return unit.codebook
    if not role.is_weight:
        return None
    return unit.codebook_h if role is MemberRole.H else unit.codebook


def factor_role(unit: DataUnit) -> MemberRole | None:
    """Return G or H if the unit carries only that factor of a decomposed weight, else None.

    It does if it is not a block, has the DC bit, more than one dimension, and a name that ends in ``_G`` or ``_H``.
    """
    if unit.is_block or not unit.is_decomposed or len(unit.tensor_dimensions or ()) < 2:
        return None
    return {"_G": MemberRole.G, "_H": MemberRole.H}.get(unit.name[-2:])


def _shape(unit: DataUnit, role: MemberRole) -> tuple[int, ...]:
    """Shape of the member. Source: semantics of decomposition_rank and g_number_of_rows."""
    dimensions = unit.tensor_dimensions or ()
    if role in (MemberRole.TENSOR, MemberRole.WEIGHT):
        return dimensions
    rank, rows = unit.decomposition_rank or 0, unit.g_number_of_rows or 1
    if role is MemberRole.G:
        return (rows, rank)
    if role is MemberRole.H:
        return (rank, math.prod(dimensions) // rows)
    return (dimensions[0],)


def block_row_count(rows: int, scan_order: int) -> int:
    """Return the number of rows of blocks, of edge 4 << ``scan_order``, that ``rows`` rows make (BlockRows)."""
    return (rows + (4 << scan_order) - 1) >> (2 + scan_order)


def _coded_weights(unit: DataUnit) -> tuple[MemberRole, ...]:
    """Roles of the tensors of the unit that can have entry points, in payload order."""
    if unit.is_block:
        return (MemberRole.G, MemberRole.H) if unit.is_decomposed else (MemberRole.WEIGHT,)
    return (factor_role(unit) or MemberRole.TENSOR,)


def entry_point_counts(unit: DataUnit) -> tuple[int, ...]:
    """Return how many entry points the header holds for each tensor that can have them, in payload order.

    That is one number, or two for a BLOCK with decomposed weight (G, then H). All are 0 without a block scan; a tensor
    without rows gives -1, which no header may have.

    Source: syntax table of the compressed data unit header, entry points.
    """
    if unit.scan_order == 0 or len(unit.tensor_dimensions or ()) < 2:
        return tuple(0 for _ in _coded_weights(unit))
    return tuple(block_row_count(_shape(unit, role)[0], unit.scan_order) - 1 for role in _coded_weights(unit))


def payload_members(unit: DataUnit) -> tuple[Member, ...]:
    """Return the tensors of a valid data unit in the order in which its payload holds them.

    For a BLOCK that is: local scaling, bias, batch norm beta, gamma, mean, variance, weight (or G, H), as far as the
    block has them. For any other unit it is its only tensor. Shapes follow from ``tensor_dimensions``: factors have
    (g_number_of_rows, decomposition_rank) and (decomposition_rank, product / g_number_of_rows), the other members
    (tensor_dimensions[0],).

    Source: decoding process of NNR_PT_BLOCK units.

    Example:
        >>> unit = DataUnit(("w", "b"), (6, 3), 3, compressed_parameter_types=8)
        >>> [(member.name, member.shape) for member in payload_members(unit)]
        [('b', (6,)), ('w', (6, 3))]
    """
    if not unit.is_block and not unit.is_decomposed:
        return (Member(unit.name, MemberRole.TENSOR, unit.tensor_dimensions or (), 0, unit.entry_points),)
    roles = member_roles(unit.compressed_parameter_types) if unit.is_block else _coded_weights(unit)
    points: dict[MemberRole, tuple[EntryPoint, ...]] = {}
    used = 0
    for role, count in zip(_coded_weights(unit), entry_point_counts(unit), strict=True):
        points[role] = unit.entry_points[used : used + count]
        used += count
    members = [
        Member(unit.topology_elem_ids[position], role, _shape(unit, role), position, points.get(role, ()))
        for position, role in enumerate(roles)
    ]
    return tuple(sorted(members, key=lambda member: _payload_rank(member.role)))
