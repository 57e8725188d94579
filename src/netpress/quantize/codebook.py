"""Integer codebooks: a tensor's distinct levels, numbered.

Source: ISO/IEC 15938-17, codebook(); coding of quantised tensors with a codebook.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import numpy.typing as npt

from netpress.bitstream import Codebook
from netpress.bitstream.bits import ue_bits
from netpress.bitstream.payload import CodedLevels, encode_payload
from netpress.native import Search, TensorCoding, codebook_zero_offset, matrix_shape

__all__ = ["CodebookLevels", "codebook_header_bits", "codebook_levels", "reference_prefers_codebook"]

Levels = npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True, slots=True)
class CodebookLevels:
    """Indexes less zero offset, and the codebook they point into."""

    levels: Levels
    codebook: Codebook


def codebook_header_bits(codebook: Codebook) -> int:
    """Return the number of bits of a codebook in a data unit header."""
    values, zero = codebook.values, codebook.zero_offset
    writer_bits = 4 + ue_bits(len(values), 2)
    for value, order in ((zero - (len(values) >> 1), 2), (values[zero], 7)):
        writer_bits += ue_bits(2 * value - 1 if value > 0 else -2 * value, order)
    return writer_bits + sum(ue_bits(b - a - 1, codebook.egk) for a, b in itertools.pairwise(values))


def codebook_levels(levels: Levels, unary_length: int, *, first_edition_1_0: bool, search: bool) -> CodebookLevels:
    """Number the distinct levels of a tensor.

    Args:
        levels: int32 of any shape, at least one value.
        unary_length: of the coding, 1..256, for the search.
        first_edition_1_0: search with the payloads of NNCodec 1.0.
        search: find the zero offset with the shortest payload, as NNCodec does (one trial per entry); otherwise zero is
            the level 0, or the most frequent one where there is no 0.
    """
    values, inverse, counts = np.unique(levels, return_inverse=True, return_counts=True)
    indexes: Levels = inverse.reshape(-1).astype(np.int32)
    if search:
        rows, columns = matrix_shape(levels.shape)
        zero = codebook_zero_offset(indexes, rows, columns, len(values), unary_length, first_edition_1_0)
    else:
        at_zero = np.flatnonzero(values == 0)
        zero = int(at_zero[0]) if at_zero.size else int(np.argmax(counts))
    codebook = Codebook.cheapest([int(v) for v in values], zero)
    return CodebookLevels((indexes - np.int32(zero)).reshape(levels.shape), codebook)


def reference_prefers_codebook(
    uniform: Levels, candidate: CodebookLevels, coding: TensorCoding, uniform_coding: TensorCoding, search: Search
) -> bool:
    """Decide between uniform levels and a codebook as NNCodec does.

    It adds the *bits* of the codebook to the *bytes* of the payload, and codes both without the codebook's bounds.

    Args:
        uniform: the uniform levels.
        candidate: the codebook's.
        coding: how NNCodec would code the candidate here.
        uniform_coding: how it would code the uniform levels.
        search: of the parameter sets.
    """

    def payload_bytes(levels: Levels, coding: TensorCoding) -> int:
        payload, _ = encode_payload([CodedLevels(levels, levels.shape, None)], coding, qp_density=0, search=search)
        return len(payload)

    cost = payload_bytes(candidate.levels, coding) + codebook_header_bits(candidate.codebook)
    return cost < payload_bytes(uniform, uniform_coding)
