"""Checksums that a stream can carry in a topology unit of its own, which other decoders ignore.

The units of a stream, in order, form groups: a group ends with the unit that brings it to 4096 bytes or more. The
last unit of the stream is a topology unit whose text is ``netpress-sums:`` and the base85 form of one CRC-32 per group
of the units before it, 4 bytes each, most significant first. The record at the head of the stream says that the sums
follow, so that a missing tail is noticed. The format is described in ``docs/record.md``.
"""

from __future__ import annotations

import base64
import dataclasses
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from netpress.bitstream import ByteSink, UnitExtent, UnitType
from netpress.errors import InvalidBitstream

__all__ = ["SUMS_PREFIX", "ChecksumWriter", "Group", "check_group", "groups_of", "parse_sums"]

SUMS_PREFIX = b"netpress-sums:"
_GROUP_BYTES = 4096


class ChecksumWriter:
    """Passes bytes on to a sink and sums them up; :meth:`end_unit` marks the end of each unit."""

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink
        self._sums: list[int] = []
        self._current = 0
        self._bytes = 0

    def write(self, data: bytes | memoryview, /) -> None:
        """Write bytes of the current unit."""
        self._current = zlib.crc32(data, self._current)
        self._bytes += len(data)
        self._sink.write(data)

    def end_unit(self) -> None:
        """Note that a unit is complete."""
        if self._bytes >= _GROUP_BYTES:
            self._close_group()

    def _close_group(self) -> None:
        self._sums.append(self._current)
        self._current = self._bytes = 0

    def text(self) -> bytes:
        """Return the text of the topology unit that ends the stream."""
        if self._bytes:
            self._close_group()
        return SUMS_PREFIX + base64.b85encode(b"".join(s.to_bytes(4, "big") for s in self._sums))


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """Consecutive units with one checksum: unit indices and byte range."""

    first_unit: int
    last_unit: int
    start: int
    end: int


def groups_of(extents: Iterable[UnitExtent]) -> Iterator[Group]:
    """Group the units of a stream as the writer does."""
    first: UnitExtent | None = None
    last: UnitExtent | None = None
    for extent in extents:
        first = first or extent
        last = extent
        if extent.end - first.offset >= _GROUP_BYTES:
            yield Group(first.index, extent.index, first.offset, extent.end)
            first = None
    if first is not None and last is not None:
        yield Group(first.index, last.index, first.offset, last.end)


def parse_sums(text: bytes, units: list[UnitExtent]) -> dict[Group, int]:
    """Return the checksum of each group of the units before the one with the sums.

    Raises:
        InvalidBitstream: the sums are damaged or do not fit the units.
    """
    place: dict[str, Any] = {"unit": units[-1].index, "offset": units[-1].offset} if units else {}
    try:
        sums = base64.b85decode(text[len(SUMS_PREFIX) :])
    except ValueError:
        raise InvalidBitstream("the checksums are damaged", **place) from None
    if not units or units[-1].unit_type != UnitType.TPL:
        raise InvalidBitstream("the checksums are not at the end of the stream", **place)
    groups = list(groups_of(units[:-1]))
    if len(sums) != 4 * len(groups):
        raise InvalidBitstream("the checksums do not fit the units of the stream", **place)
    return {group: int.from_bytes(sums[4 * i : 4 * i + 4], "big") for i, group in enumerate(groups)}


def check_group(data: memoryview, group: Group, expected: int) -> None:
    """Compare one group with its checksum.

    Raises:
        InvalidBitstream: they differ.
    """
    if zlib.crc32(data[group.start : group.end]) != expected:
        units = f"unit {group.first_unit}" if group.first_unit == group.last_unit else "units"
        until = "" if group.first_unit == group.last_unit else f" {group.first_unit} to {group.last_unit}"
        raise InvalidBitstream(
            f"the checksum of {units}{until} is wrong: the data is damaged", unit=group.first_unit, offset=group.start
        )
