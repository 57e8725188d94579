"""What the headers of a stream say, read once: data units, record, checksums.

Source: ISO/IEC 15938-17, NNR unit syntax.
"""

from __future__ import annotations

import bisect
import dataclasses
import mmap
from collections.abc import Mapping, Sequence

from netpress.bitstream import DataUnit, Topology, Unit, UnitReader, payload_members, scan_units
from netpress.codec.checksums import SUMS_PREFIX, Group, check_group, parse_sums
from netpress.codec.record import Record
from netpress.errors import InvalidBitstream
from netpress.limits import DecodeLimits

__all__ = ["BytesLike", "StreamIndex", "header_of", "index_stream", "unit_elements"]

BytesLike = bytes | bytearray | memoryview | mmap.mmap


@dataclasses.dataclass(slots=True)
class StreamIndex:
    """The data units of a stream in order, and what the encoder noted in topology units.

    ``unit_count`` counts the units of all types; ``sums`` is empty for a stream without checksums.
    """

    data: memoryview
    units: list[Unit]
    record: Record
    sums: dict[Group, int]
    unit_count: int
    profile: int
    _checked: set[Group] = dataclasses.field(default_factory=set)
    _groups: list[Group] = dataclasses.field(default_factory=list)

    def check_all(self) -> None:
        """Compare all units with their checksums, as far as the stream has any.

        Raises:
            InvalidBitstream: a checksum is wrong.
        """
        for group in self.sums:
            self._check(group)

    def check_unit(self, unit: Unit) -> None:
        """Compare the group of one unit with its checksum; done once for each group.

        Raises:
            InvalidBitstream: the checksum is wrong.
        """
        if len(self._groups) != len(self.sums):
            self._groups = list(self.sums)  # in the order of the stream
        first = bisect.bisect_right(self._groups, unit.offset, key=lambda group: group.end)
        while first < len(self._groups) and self._groups[first].start < unit.offset + unit.size:
            self._check(self._groups[first])
            first += 1

    def _check(self, group: Group) -> None:
        if group not in self._checked:
            check_group(self.data, group, self.sums[group])
            self._checked.add(group)


def header_of(unit: Unit) -> DataUnit:
    """Return the header of a data unit."""
    if not isinstance(unit.content, DataUnit):
        raise TypeError("not a data unit")
    return unit.content


def unit_elements(unit: Unit) -> int:
    """Return the number of values in a data unit."""
    return sum(member.size for member in payload_members(header_of(unit)))


def index_stream(
    data: BytesLike, limits: DecodeLimits, dimensions: Mapping[str, Sequence[int]] | None = None
) -> StreamIndex:
    """Parse all headers of a stream; its totals are checked against the limits on the way.

    Args:
        data: the stream; payloads stay views into it.
        limits: bounds on what it may claim.
        dimensions: shapes by name, for streams whose tensor dimensions travel out of band.

    Raises:
        InvalidBitstream: a header, the record or the list of checksums is damaged.
        UnsupportedBitstream: the stream uses syntax that is not implemented.
        LimitExceeded: the stream claims more than the limits allow.
    """
    view = memoryview(data)
    index = StreamIndex(view, [], Record(), {}, 0, 0)
    has_record = has_sums = False
    for unit in UnitReader(view, limits=limits, dimensions=dimensions):
        index.unit_count += 1
        index.profile = unit.general_profile_idc
        if isinstance(unit.content, DataUnit):
            index.units.append(unit)
        elif isinstance(unit.content, Topology):
            text = unit.content.topology_data
            if text.startswith(SUMS_PREFIX):
                if has_sums:
                    raise InvalidBitstream("the stream has two lists of checksums", unit=unit.index, offset=unit.offset)
                has_sums = True
                index.sums = parse_sums(text, list(scan_units(view, limits=limits)))
            elif not has_record and (record := Record.from_bytes(text)) is not None:
                index.record, has_record = record, True
    if index.record.has_sums and not has_sums:
        raise InvalidBitstream("the checksums at the end of the stream are missing: it was cut off", offset=view.nbytes)
    return index
