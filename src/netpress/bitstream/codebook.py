"""The codebook of a tensor and the cheapest way to write it.

Source: ISO/IEC 15938-17, syntax table codebook().
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Sequence

from netpress.bitstream.bits import ue_bits
from netpress.errors import InvalidModel

__all__ = ["MAX_EGK", "Codebook", "cheapest_egk"]

MAX_EGK = 15
"""Largest Golomb order that the 4 bits of codebook_egk can carry."""


def cheapest_egk(values: Sequence[int]) -> int:
    """Return the codebook_egk in 0..15 that makes the header of a codebook shortest; the smallest of equals.

    ``values`` are the entries, strictly increasing; otherwise :class:`netpress.InvalidModel` is raised. The deltas are
    the gaps between neighbours whatever the zero offset is, so the result does not depend on it.
    """
    deltas = Counter(int(right) - int(left) - 1 for left, right in itertools.pairwise(values))
    if any(delta < 0 for delta in deltas):
        raise InvalidModel("the entries of a codebook must be strictly increasing")
    orders = range(MAX_EGK + 1)
    return min(orders, key=lambda order: sum(count * ue_bits(delta, order) for delta, count in deltas.items()))


@dataclasses.dataclass(frozen=True, slots=True)
class Codebook:
    """The reconstruction levels of a tensor, in multiples of its step size.

    ``egk`` is codebook_egk (0..15), ``values`` the strictly increasing 32-bit entries (at least one), ``zero_offset``
    the position of the entry that a coded index of 0 selects (CbZeroOffset, 0 <= zero_offset < len(values)). The index
    q selects ``values[q + zero_offset]``. Nothing is checked here: the reader and the writer do.
    """

    egk: int
    values: tuple[int, ...]
    zero_offset: int

    @classmethod
    def cheapest(cls, values: Sequence[int], zero_offset: int) -> Codebook:
        """Return the codebook of ``values`` whose header takes the fewest bits; see :func:`cheapest_egk`.

        Example:
            >>> Codebook.cheapest([-4, 0, 3], 1)
            Codebook(egk=2, values=(-4, 0, 3), zero_offset=1)
        """
        return cls(cheapest_egk(values), tuple(int(value) for value in values), int(zero_offset))
