"""Integers of one data unit to payload bytes, and back.

Source: ISO/IEC 15938-17, syntax of the compressed data unit payload.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

import netpress.native as _core
from netpress.bitstream import DataUnit, EntryPoint, Member, PayloadType, Unit, payload_members
from netpress.errors import InvalidBitstream, InvalidModel

__all__ = [
    "SEARCH_BEST",
    "SEARCH_OFF",
    "SEARCH_REFERENCE",
    "CodedLevels",
    "DecodedLevels",
    "PayloadBatch",
    "decode_payload",
    "encode_payload",
    "flat",
    "matrix_shape",
    "qp_field_bits",
]

SEARCH_OFF, SEARCH_REFERENCE, SEARCH_BEST = 0, 1, 2

Levels = npt.NDArray[np.int32]
History = npt.NDArray[np.uint8]
Value = TypeVar("Value", bound=np.generic)


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Return rows and row length of a tensor: the first dimension, and the product of the others.

    Source: tensor geometry of the entropy coder.
    """
    if len(shape) < 2:
        return math.prod(shape), 1
    return shape[0], math.prod(shape[1:])


def flat(array: npt.NDArray[Value]) -> npt.NDArray[Value]:
    """Return a vector as the core takes it, contiguous and aligned; a copy only where the array is not.

    Arrays that come from another process can begin at any address.
    """
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        array = np.require(array, requirements=["C", "A"])
    return array.reshape(-1)


def qp_field_bits(qp_density: int) -> int:
    """Return the width of the qp field of a tensor."""
    return 6 + qp_density


@dataclasses.dataclass(slots=True)
class CodedLevels:
    """One tensor of a data unit as the payload coder takes it.

    ``levels`` are C-contiguous int32 of any shape (for a codebook: index less zero offset); ``qp`` is relative to the
    base qp, None for integers. ``codebook`` is its size and zero offset, (0, 0) without one. ``base`` are the integers
    of the update before, ``history`` is 1 where an earlier update was not zero; both have the size of ``levels``.
    """

    levels: Levels
    shape: tuple[int, ...]
    qp: int | None
    codebook: tuple[int, int] = (0, 0)
    base: Levels | None = None
    history: History | None = None


@dataclasses.dataclass(slots=True)
class DecodedLevels:
    """One tensor out of a payload; ``levels`` as in :class:`CodedLevels`, flat.

    Where ``values`` is given, it is the dequantised tensor, in the memory of ``levels``, which are gone.
    """

    member: Member
    levels: Levels
    qp: int | None
    history_used: bool
    rows_skipped: bool
    values: npt.NDArray[np.float32] | None = None


def encode_payload(
    tensors: Sequence[CodedLevels],
    *,
    qp_density: int,
    dependent: bool,
    unary_length: int,
    scan_order: int = 0,
    second_edition: bool = True,
    first_edition_1_0: bool = False,
    has_parent: bool = False,
    skip_rows: bool = False,
    use_history: bool = False,
    search: int = SEARCH_BEST,
) -> tuple[bytes, tuple[EntryPoint, ...]]:
    """Code the tensors of a data unit, in payload order, into one codeword.

    Args:
        tensors: the tensors; those with a qp None are coded without a qp field.
        qp_density: 0..7.
        dependent: dq_flag.
        unary_length: cabac_unary_length_minus1 + 1, 1..256.
        scan_order: 0..4, of the tensors that are matrices.
        second_edition: general_profile_idc is 1.
        first_edition_1_0: the payload variant of NNCodec 1.0 (profile 0).
        has_parent: parent_node_id_present_flag.
        skip_rows: row_skip_flag.
        use_history: hdsp_flag.
        search: SEARCH_OFF, SEARCH_REFERENCE or SEARCH_BEST.

    Returns:
        The payload, and the entry points of all tensors.

    Raises:
        InvalidModel: a level or qp does not fit the syntax.
    """
    encoder = _core.PayloadEncoder()
    try:
        for tensor in tensors:
            if tensor.qp is not None:
                encoder.field(tensor.qp, qp_field_bits(qp_density))
            rows, columns = matrix_shape(tensor.shape)
            encoder.tensor(
                flat(tensor.levels),
                rows,
                columns,
                scan_order=scan_order,
                second_edition=second_edition,
                first_edition_1_0=first_edition_1_0,
                dependent=dependent,
                unary_length=unary_length,
                has_parent=has_parent,
                skip_rows=skip_rows,
                use_history=use_history,
                history=None if tensor.history is None else flat(tensor.history),
                base=None if tensor.base is None else flat(tensor.base),
                codebook_size=tensor.codebook[0],
                codebook_zero_offset=tensor.codebook[1],
                search=search,
            )
        payload, points = encoder.finish()
    except _core.Failure as error:
        raise InvalidModel(str(error)) from None
    return payload, tuple(EntryPoint(value, state, distance) for part in points for distance, value, state in part)


def decode_payload(
    unit: Unit,
    *,
    first_edition_1_0: bool = False,
    bases: Mapping[str, Levels] | None = None,
    histories: Mapping[str, History] | None = None,
) -> list[DecodedLevels]:
    """Decode the integers of a data unit (not RAW_FLOAT), in payload order.

    Args:
        unit: a data unit.
        first_edition_1_0: read a profile-0 payload in the variant of NNCodec 1.0.
        bases: integers of the update before by name, used if the unit asks for temporal contexts.
        histories: maps of earlier non-zero positions by name, used if the payload asks for them.

    Raises:
        InvalidBitstream: the payload is damaged, or its entry points are not those in the header.
    """
    header = unit.content
    if not isinstance(header, DataUnit):
        raise TypeError("only data units have a payload of integers")
    has_qp = header.nnr_compressed_data_unit_payload_type != PayloadType.INT
    density = unit.qp_density or 0
    second_edition = unit.general_profile_idc == 1
    result = []
    try:
        decoder = _core.PayloadDecoder(np.frombuffer(unit.payload, np.uint8))
        for member in payload_members(header):
            qp = decoder.field(qp_field_bits(density)) + (unit.base_qp or 0) if has_qp else None
            codebook = member_codebook(header, member)
            rows, columns = matrix_shape(member.shape)
            levels = np.empty(member.size, np.int32)
            base = (bases or {}).get(member.name) if header.temporal_context_modeling_flag else None
            history = (histories or {}).get(member.name)
            history_used, rows_skipped, points = decoder.tensor(
                levels,
                rows,
                columns,
                scan_order=header.scan_order,
                second_edition=second_edition,
                first_edition_1_0=first_edition_1_0,
                dependent=bool(header.dq_flag) and has_qp,
                unary_length=header.cabac_unary_length_minus1 + 1,
                has_parent=bool(header.parent_node_id_present_flag),
                history=None if history is None else flat(history),
                base=None if base is None else flat(base),
                codebook_size=codebook[0],
                codebook_zero_offset=codebook[1],
            )
            _check_entry_points(unit, member, points)
            result.append(DecodedLevels(member, levels, qp, history_used, rows_skipped))
        decoder.finish()
    except _core.Failure as error:
        raise _damaged(unit, header, str(error)) from None
    return result


class PayloadBatch:
    """Payloads of data units that do not depend on each other, to be decoded together.

    That is faster than :func:`decode_payload` for each, because a thread works on several at a time, and gives the
    same. Not for payloads in the variant of NNCodec 1.0.
    """

    def __init__(self) -> None:
        self._decoder = _core.BatchDecoder()
        self._units: list[tuple[Unit, DataUnit, list[tuple[Member, Levels, bool]]]] = []

    def add(
        self,
        unit: Unit,
        *,
        keep_levels: bool = False,
        bases: Mapping[str, Levels] | None = None,
        histories: Mapping[str, History] | None = None,
    ) -> None:
        """Add a data unit (not RAW_FLOAT).

        Args:
            unit: the unit.
            keep_levels: leave the integers as they are; otherwise those of uniformly quantised tensors become values.
            bases, histories: see :func:`decode_payload`.
        """
        header = unit.content
        if not isinstance(header, DataUnit):
            raise TypeError("only data units have a payload of integers")
        has_qp = header.nnr_compressed_data_unit_payload_type != PayloadType.INT
        density, base_qp = unit.qp_density or 0, unit.base_qp or 0
        field_bits = qp_field_bits(density) if has_qp else 0
        is_temporal = bool(header.temporal_context_modeling_flag)
        members: list[tuple[Member, Levels, bool]] = []
        self._decoder.begin(np.frombuffer(unit.payload, np.uint8))
        for member in payload_members(header):
            codebook = member_codebook(header, member)
            rows, columns = matrix_shape(member.shape)
            levels: Levels = np.empty(rows * columns, np.int32)
            base = bases.get(member.name) if bases and is_temporal else None
            history = histories.get(member.name) if histories else None
            dequantizes = has_qp and not keep_levels and codebook[0] == 0
            self._decoder.add(
                levels,
                rows,
                columns,
                field_bits,
                header.scan_order,
                unit.general_profile_idc == 1,
                has_qp and header.dq_flag == 1,
                header.cabac_unary_length_minus1 + 1,
                header.parent_node_id_present_flag == 1,
                None if history is None else flat(history),
                None if base is None else flat(base),
                codebook[0],
                codebook[1],
                dequantizes,
                base_qp,
                density,
            )
            members.append((member, levels, dequantizes))
        self._units.append((unit, header, members))

    def run(self) -> None:
        """Decode until no payload is left to begin with; every thread that takes part calls it once."""
        self._decoder.run()

    def results(self) -> Iterator[list[DecodedLevels]]:
        """Yield the tensors of each unit, in the order of adding, when all threads have returned.

        Raises:
            InvalidBitstream: the payload of the next unit is damaged, or its entry points are not those in the header.
        """
        for (unit, header, members), result in zip(self._units, self._decoder.results(), strict=True):
            if isinstance(result, str):
                raise _damaged(unit, header, result)
            has_qp = header.nnr_compressed_data_unit_payload_type != PayloadType.INT
            base_qp = unit.base_qp or 0
            parts = []
            for (member, levels, dequantized), (field, history_used, rows_skipped, points) in zip(
                members, result, strict=True
            ):
                if points or member.entry_points:
                    _check_entry_points(unit, member, points)
                qp = field + base_qp if has_qp else None
                values = levels.view(np.float32) if dequantized else None
                parts.append(DecodedLevels(member, levels, qp, history_used, rows_skipped, values))
            yield parts


def _check_entry_points(unit: Unit, member: Member, points: Sequence[tuple[int, int, int]]) -> None:
    """Compare the entry points met in the payload with those in the header."""
    observed = tuple(EntryPoint(value, state, distance) for distance, value, state in points)
    # NNCodec 1.0 writes wrong entry points into blocks; the integers are right when read in sequence.
    is_block = isinstance(unit.content, DataUnit) and unit.content.is_block
    if observed != member.entry_points and not (is_block and unit.general_profile_idc != 1):
        raise InvalidBitstream(
            f"the entry points of tensor {member.name!r} do not fit its payload", unit=unit.index, offset=unit.offset
        )


def _damaged(unit: Unit, header: DataUnit, message: str) -> InvalidBitstream:
    place = unit.offset + unit.header_bytes
    return InvalidBitstream(f"data unit of {header.name!r}: {message}", unit=unit.index, offset=place)


def member_codebook(header: DataUnit, member: Member) -> tuple[int, int]:
    """Return size and zero offset of the codebook of a member of a data unit, (0, 0) if it has none."""
    codebook = header.codebook
    if member.role.value == "h" and header.is_block:
        codebook = header.codebook_h
    elif header.is_block and not member.role.is_weight:
        codebook = None
    return (0, 0) if codebook is None else (len(codebook.values), codebook.zero_offset)
