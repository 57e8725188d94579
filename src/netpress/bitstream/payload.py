"""Integers of one data unit to payload bytes, and back.

Source: ISO/IEC 15938-17, syntax of the compressed data unit payload.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from netpress.bitstream import DataUnit, EntryPoint, Member, PayloadType, Unit, codebook_of, payload_members
from netpress.errors import InvalidBitstream, InvalidModel, Reason
from netpress.native import (
    BatchDecoder,
    Failure,
    PayloadDecoder,
    PayloadEncoder,
    Search,
    TensorCoding,
    failing_as,
    flat,
    matrix_shape,
    reason_of,
)

__all__ = [
    "CodedLevels",
    "DecodedLevels",
    "PayloadBatch",
    "decode_payload",
    "encode_payload",
    "first_qp",
    "qp_field_bits",
]

Levels = npt.NDArray[np.int32]
History = npt.NDArray[np.uint8]


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
    tensors: Sequence[CodedLevels], coding: TensorCoding, *, qp_density: int, search: Search = Search.BEST
) -> tuple[bytes, tuple[EntryPoint, ...]]:
    """Code the tensors of a data unit, in payload order, into one codeword.

    Args:
        tensors: the tensors; those with a qp None are coded without a qp field.
        coding: what they have in common: scan order (of those that are matrices), edition, dq_flag, unary length,
            presence of a parent, and the flags of the tools. Sizes, arrays and codebooks are those of the tensors.
        qp_density: 0..7.
        search: how the parameter sets of the contexts are chosen.

    Returns:
        The payload, and the entry points of all tensors.

    Raises:
        InvalidModel: a level or qp does not fit the syntax.
    """
    encoder = PayloadEncoder()
    with failing_as(lambda message, reason: InvalidModel(message, reason=reason)):
        for tensor in tensors:
            if tensor.qp is not None:
                encoder.field(tensor.qp, qp_field_bits(qp_density))
            rows, columns = matrix_shape(tensor.shape)
            encoder.tensor(
                flat(tensor.levels),
                coding.for_tensor(
                    rows,
                    columns,
                    None if tensor.history is None else flat(tensor.history),
                    None if tensor.base is None else flat(tensor.base),
                    *tensor.codebook,
                ),
                search,
            )
        payload, points = encoder.finish()
    return payload, tuple(EntryPoint(value, state, distance) for part in points for distance, value, state in part)


class _UnitPayload:
    """What a data unit says about its payload, and where the integers of its tensors go."""

    __slots__ = ("base_qp", "field_bits", "has_qp", "header", "members", "unit")

    def __init__(
        self,
        unit: Unit,
        first_edition_1_0: bool,
        bases: Mapping[str, Levels] | None,
        histories: Mapping[str, History] | None,
    ) -> None:
        header = unit.content
        if not isinstance(header, DataUnit):
            raise TypeError("only data units have a payload of integers")
        self.unit = unit
        self.header = header
        self.has_qp = header.nnr_compressed_data_unit_payload_type != PayloadType.INT
        self.base_qp = unit.base_qp or 0
        self.field_bits = qp_field_bits(unit.qp_density or 0) if self.has_qp else 0
        shared = TensorCoding(
            scan_order=header.scan_order,
            second_edition=unit.general_profile_idc == 1,
            first_edition_1_0=first_edition_1_0,
            dependent=self.has_qp and header.dq_flag == 1,
            unary_length=header.cabac_unary_length_minus1 + 1,
            has_parent=header.parent_node_id_present_flag == 1,
        )
        if not header.temporal_context_modeling_flag:
            bases = None
        self.members: list[tuple[Member, Levels, TensorCoding]] = []
        for member in payload_members(header):
            rows, columns = matrix_shape(member.shape)
            base = bases.get(member.name) if bases else None
            history = histories.get(member.name) if histories else None
            coding = shared.for_tensor(
                rows,
                columns,
                None if history is None else flat(history),
                None if base is None else flat(base),
                *_codebook_size(header, member),
            )
            self.members.append((member, np.empty(rows * columns, np.int32), coding))

    def damaged(self, message: str, reason: Reason) -> InvalidBitstream:
        """Return the error for a payload that the core refuses."""
        place = self.unit.offset + self.unit.header_bytes
        return InvalidBitstream(
            f"data unit of {self.header.name!r}: {message}", unit=self.unit.index, offset=place, reason=reason
        )

    def decoded(
        self,
        member: Member,
        levels: Levels,
        field: int,
        found: tuple[bool, bool, Sequence[tuple[int, int, int]]],
        values: npt.NDArray[np.float32] | None = None,
    ) -> DecodedLevels:
        """Return a tensor with what the core found in its part of the payload."""
        history_used, rows_skipped, points = found
        if points or member.entry_points:
            _check_entry_points(self.unit, member, points)
        qp = field + self.base_qp if self.has_qp else None
        return DecodedLevels(member, levels, qp, history_used, rows_skipped, values)


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
    payload = _UnitPayload(unit, first_edition_1_0, bases, histories)
    result = []
    with failing_as(payload.damaged):
        decoder = PayloadDecoder(np.frombuffer(unit.payload, np.uint8))
        for member, levels, coding in payload.members:
            field = decoder.field(payload.field_bits)
            result.append(payload.decoded(member, levels, field, decoder.tensor(levels, coding)))
        decoder.finish()
    return result


def first_qp(unit: Unit) -> int | None:
    """Return the qp of the first tensor of a payload that has qps; None if the payload does not begin like one."""
    try:
        decoder = PayloadDecoder(np.frombuffer(unit.payload, np.uint8))
        return decoder.field(qp_field_bits(unit.qp_density or 0)) + (unit.base_qp or 0)
    except Failure:
        return None


class PayloadBatch:
    """Payloads of data units that do not depend on each other, to be decoded together.

    That is faster than :func:`decode_payload` for each, because a thread works on several at a time, and gives the
    same. Not for payloads in the variant of NNCodec 1.0.
    """

    def __init__(self) -> None:
        self._decoder = BatchDecoder()
        self._payloads: list[tuple[_UnitPayload, bool]] = []

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
        payload = _UnitPayload(unit, False, bases, histories)
        becomes_values = payload.has_qp and not keep_levels
        self._decoder.begin(np.frombuffer(unit.payload, np.uint8))
        for _, levels, coding in payload.members:
            dequantizes = becomes_values and coding.codebook_size == 0
            self._decoder.add(levels, coding, payload.field_bits, dequantizes, payload.base_qp, unit.qp_density or 0)
        self._payloads.append((payload, becomes_values))

    def run(self) -> None:
        """Decode until no payload is left to begin with; every thread that takes part calls it once."""
        self._decoder.run()

    def results(self) -> Iterator[list[DecodedLevels]]:
        """Yield the tensors of each unit, in the order of adding, when all threads have returned.

        Raises:
            InvalidBitstream: the payload of the next unit is damaged, or its entry points are not those in the header.
        """
        for (payload, becomes_values), result in zip(self._payloads, self._decoder.results(), strict=True):
            if isinstance(result, tuple):
                message, status = result
                raise payload.damaged(message, reason_of(status))
            parts = []
            for (member, levels, coding), (field, history_used, rows_skipped, points) in zip(
                payload.members, result, strict=True
            ):
                values = levels.view(np.float32) if becomes_values and coding.codebook_size == 0 else None
                parts.append(payload.decoded(member, levels, field, (history_used, rows_skipped, points), values))
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


def _codebook_size(header: DataUnit, member: Member) -> tuple[int, int]:
    """Size and zero offset of the codebook of a member of a data unit, (0, 0) if it has none."""
    codebook = codebook_of(header, member.role)
    return (0, 0) if codebook is None else (len(codebook.values), codebook.zero_offset)
