"""A bitstream to tensors.

Source: ISO/IEC 15938-17, decoding process.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream import PayloadType, Unit, codebook_of, payload_members
from netpress.bitstream.payload import DecodedLevels, PayloadBatch, decode_payload
from netpress.codec.index import BytesLike, header_of, index_stream, unit_elements
from netpress.codec.update_state import UpdateState
from netpress.errors import BaseMismatch, InvalidBitstream, InvalidModel
from netpress.limits import DecodeLimits
from netpress.parallel import Progress, on_all_cores, ordered_map
from netpress.quantize.dequantize import dequantize

__all__ = ["DecodedUnit", "Decoder", "decode_first_edition", "decode_unit"]

Array = npt.NDArray[Any]
_BATCH_VALUES = 1 << 25


@dataclasses.dataclass(slots=True)
class DecodedUnit:
    """The tensors of one data unit by name, in payload order, and the integers behind them if they were asked for."""

    unit: Unit
    tensors: dict[str, Array]
    levels: list[DecodedLevels]


class Decoder:
    """Turns streams into tensors, and keeps what later updates need.

    Tensors come as they are coded: a difference stays a difference, factors and scalings stay apart, types are float32
    and int32. :func:`netpress.decode` restores models from that.

    Args:
        limits: bounds on what a stream may ask for.
        state: what earlier updates left, to go on from; it is changed. None: the first stream is the first of all.
    """

    def __init__(self, limits: DecodeLimits | None = None, *, state: UpdateState | None = None) -> None:
        self.limits = limits or DecodeLimits()
        self.state = UpdateState() if state is None else state

    def decode(
        self,
        data: BytesLike,
        *,
        dimensions: Mapping[str, Sequence[int]] | None = None,
        executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Array]:
        """Return the tensors of a stream by name, in the order of the stream.

        Args:
            data: the stream.
            dimensions: shapes by name, for streams whose tensor dimensions travel out of band.
            executor: runs the data units; None uses all cores with threads.
            progress: called after each data unit.

        Raises:
            InvalidBitstream: the stream is damaged.
            UnsupportedBitstream: the stream uses syntax that is not implemented.
            LimitExceeded: the stream asks for more than the limits allow.
            BaseMismatch: the stream is an update that does not fit the streams before.
        """
        result: dict[str, Array] = {}
        index = index_stream(data, self.limits, dimensions)
        index.check_all()
        for decoded in self.decode_units(index.units, executor, progress):
            result.update(decoded.tensors)
        return result

    def decode_units(
        self, units: list[Unit], executor: Executor | None = None, progress: Progress | None = None
    ) -> Iterator[DecodedUnit]:
        """Decode the data units of a stream, in order; see :meth:`decode`."""
        if units and units[0].general_profile_idc != 1:
            yield from decode_first_edition(units, executor, progress)
            return
        jobs = (self._job(unit) for unit in units)
        sizes = {unit.index: unit_elements(unit) for unit in units}
        total, done = sum(sizes.values()), 0

        def size(job: _Job) -> int:
            return sizes[job.unit.index]

        results = _in_batches(jobs, size) if executor is None else ordered_map(_run, jobs, executor=executor, size=size)
        for decoded in results:
            self._take_over(decoded)
            done += sizes[decoded.unit.index]
            if progress is not None:
                progress(done, total, header_of(decoded.unit).name)
            yield decoded

    def _job(self, unit: Unit) -> _Job:
        header = header_of(unit)
        job = _Job(unit, keep_levels=self._keeps(unit))
        if not header.temporal_context_modeling_flag and not header.parent_node_id_present_flag:
            return job
        names = [member.name for member in payload_members(header)]
        if header.temporal_context_modeling_flag:
            job.bases = {name: self._base(name, unit) for name in names}
        if header.parent_node_id_present_flag:
            job.histories = {n: self.state.histories[n] for n in names if n in self.state.histories}
            self._check_histories(unit, job.histories)
        return job

    def _base(self, name: str, unit: Unit) -> npt.NDArray[np.int32]:
        """Return the integers that the temporal contexts of a tensor come from."""
        header, state = header_of(unit), self.state
        base = state.levels.get(name)
        if base is None:
            raise BaseMismatch(f"the update of tensor {name!r} builds on an earlier update, which was not decoded")
        leader = header.name
        if header.put_node_depth is not None and state.depths.get(leader, 0) != header.put_node_depth - 1:
            raise BaseMismatch(
                f"the update of tensor {name!r} has depth {header.put_node_depth}, but follows depth "
                f"{state.depths.get(leader, 0)}: an update is missing, repeated or out of order"
            )
        if header.parameter_id is not None and state.parameter_ids.get(leader) not in (None, header.parameter_id):
            raise BaseMismatch(f"the update of tensor {name!r} has another parameter id than the one before")
        member = next(m for m in payload_members(header) if m.name == name)
        if base.size != member.size:
            raise BaseMismatch(f"the update of tensor {name!r} has {member.size} values, the one before {base.size}")
        return base

    def _check_histories(self, unit: Unit, histories: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        for member in payload_members(header_of(unit)):
            if member.name in histories and histories[member.name].size != member.size:
                raise BaseMismatch(f"the update of tensor {member.name!r} has another size than those before")

    def _keeps(self, unit: Unit) -> bool:
        # Depth 0 is the root of the update tree, a model of its own.
        signals_parents = unit.mps is not None and bool(unit.mps.mps_parent_signalling_enabled_flag)
        return signals_parents and header_of(unit).put_node_depth != 0

    def _take_over(self, decoded: DecodedUnit) -> None:
        header = header_of(decoded.unit)
        if not self._keeps(decoded.unit):
            return
        if header.device_id is not None:
            self.state.check_device(header.device_id)
        for part in decoded.levels:
            self.state.update(
                part.member.name, part.levels, header.parameter_id, in_update=bool(header.parent_node_id_present_flag)
            )


@dataclasses.dataclass(slots=True)
class _Job:
    unit: Unit
    keep_levels: bool = False
    bases: Mapping[str, npt.NDArray[np.int32]] | None = None
    histories: Mapping[str, npt.NDArray[np.uint8]] | None = None
    first_edition_1_0: bool = False


def _run(job: _Job) -> DecodedUnit:
    return decode_unit(
        job.unit,
        keep_levels=job.keep_levels,
        bases=job.bases,
        histories=job.histories,
        first_edition_1_0=job.first_edition_1_0,
    )


def _in_batches(jobs: Iterable[_Job], size: Callable[[_Job], int]) -> Iterator[DecodedUnit]:
    """Run the jobs on all cores, in order, in batches of up to 2**25 values or of one job."""
    batch: list[_Job] = []
    values = 0
    for job in jobs:
        values += size(job)
        if batch and values > _BATCH_VALUES:
            yield from _run_together(batch)
            batch, values = [], size(job)
        batch.append(job)
    yield from _run_together(batch)


def _run_together(jobs: Sequence[_Job]) -> Iterator[DecodedUnit]:
    payloads = PayloadBatch()
    for job in jobs:
        if not _is_raw(job.unit):
            payloads.add(job.unit, keep_levels=job.keep_levels, bases=job.bases, histories=job.histories)
    on_all_cores(payloads.run)
    results = payloads.results()
    for job in jobs:
        yield _raw(job.unit) if _is_raw(job.unit) else _restored(job.unit, next(results), keep_levels=job.keep_levels)


def decode_unit(
    unit: Unit,
    *,
    keep_levels: bool = False,
    bases: Mapping[str, npt.NDArray[np.int32]] | None = None,
    histories: Mapping[str, npt.NDArray[np.uint8]] | None = None,
    first_edition_1_0: bool = False,
) -> DecodedUnit:
    """Decode one data unit.

    Args:
        unit: a data unit.
        keep_levels: also return the integers.
        bases, histories, first_edition_1_0: see :func:`netpress.bitstream.payload.decode_payload`.

    Raises:
        InvalidBitstream: the payload is damaged.
    """
    if _is_raw(unit):
        return _raw(unit)
    parts = decode_payload(unit, first_edition_1_0=first_edition_1_0, bases=bases, histories=histories)
    return _restored(unit, parts, keep_levels=keep_levels)


def _is_raw(unit: Unit) -> bool:
    return header_of(unit).nnr_compressed_data_unit_payload_type == PayloadType.RAW_FLOAT


def _raw(unit: Unit) -> DecodedUnit:
    header = header_of(unit)
    raw = np.frombuffer(unit.payload, "<f4").astype(np.float32).reshape(header.tensor_dimensions or ())
    return DecodedUnit(unit, {header.name: raw}, [])


def _restored(unit: Unit, parts: list[DecodedLevels], *, keep_levels: bool) -> DecodedUnit:
    tensors: dict[str, Array] = {}
    for part in parts:
        value: Array
        if part.values is not None:
            value = part.values
        elif part.qp is None:
            value = part.levels
        else:
            value = _dequantized(part, part.levels.copy() if keep_levels else part.levels, unit)
        tensors[part.member.name] = value.reshape(part.member.shape)
    return DecodedUnit(unit, tensors, parts if keep_levels else [])


def _dequantized(part: DecodedLevels, levels: npt.NDArray[np.int32], unit: Unit) -> npt.NDArray[np.float32]:
    codebook = codebook_of(header_of(unit), part.member.role)
    try:
        return dequantize(levels, qp=part.qp or 0, qp_density=unit.qp_density or 0, codebook=codebook)
    except InvalidModel as error:
        raise InvalidBitstream(
            f"tensor {part.member.name!r}: {error}", unit=unit.index, offset=unit.offset + unit.header_bytes
        ) from None


def decode_first_edition(
    units: list[Unit], executor: Executor | None = None, progress: Progress | None = None
) -> list[DecodedUnit]:
    """Decode the data units of a profile-0 stream, whose payloads come in two variants that nothing tells apart.

    All are read as NNCodec 1.0 writes them; if one fails, all are read as NNCodec 2 does.

    Source: first-edition payloads.

    Raises:
        InvalidBitstream: both readings fail; the error is that of the first.
    """
    first_error: InvalidBitstream | None = None
    for first_edition_1_0 in (True, False):
        jobs = [_Job(unit, first_edition_1_0=first_edition_1_0) for unit in units]
        try:
            result = []
            for decoded in ordered_map(_run, jobs, executor=executor):
                result.append(decoded)
                if progress is not None:
                    progress(len(result), len(jobs), header_of(decoded.unit).name)
            return result
        except InvalidBitstream as error:
            first_error = first_error or error
    raise first_error or InvalidBitstream("the stream has no data units")
