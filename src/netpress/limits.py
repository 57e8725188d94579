"""Bounds that a decoder checks before it allocates what a header asks for."""

from __future__ import annotations

import dataclasses

__all__ = ["DecodeLimits"]


@dataclasses.dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a decoder accepts from a stream; exceeding a bound raises :class:`netpress.LimitExceeded`.

    The defaults let every model of up to 64 GiB of decoded tensors through. Raise a field for larger ones:
    ``netpress.decode(data, limits=DecodeLimits(max_total_bytes=2**40, max_elements=2**38))``.

    A few bytes can legally stand for very many equal values (row skipping, one-entry codebooks). ``max_cheap_elements``
    bounds what a stream may claim beyond the 4096 values per byte that its length makes plausible.
    """

    max_units: int = 1 << 20
    """Units in a stream."""
    max_tensors: int = 1 << 18
    """Tensors in a stream."""
    max_dimensions: int = 64
    """Dimensions of one tensor."""
    max_elements: int = 1 << 34
    """Values of all tensors together."""
    max_total_bytes: int = 64 << 30
    """Bytes of all decoded tensors together."""
    max_cheap_elements: int = 1 << 28
    """Values of all tensors together beyond 4096 for each byte of the stream."""
    max_name_bytes: int = 1 << 16
    """UTF-8 bytes of one tensor name or other header text."""
    max_topology_bytes: int = 64 << 20
    """Bytes of a topology or quantisation unit's data."""
    max_codebook_size: int = 1 << 20
    """Entries of one codebook."""
    max_entry_points: int = 1 << 24
    """Entry points of one data unit."""
    max_unit_bytes: int = 1 << 31
    """Bytes of one unit, after reassembly of partial units."""
