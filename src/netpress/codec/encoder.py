"""A model to a bitstream.

Source: ISO/IEC 15938-17, order of units; encoder pipeline of the coding tools.
"""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import Executor
from typing import Any

from netpress.bitstream import ByteSink, ModelParameterSet, NetpressWarning, Start, Topology, UnitWriter
from netpress.bitstream.units import Content
from netpress.calibration.data_free import data_free_statistics
from netpress.calibration.statistics import LayerStatistics
from netpress.codec.checksums import ChecksumWriter
from netpress.codec.difference import Difference
from netpress.codec.prepare import PreparedModel, StreamUnit, prepare_model
from netpress.codec.record import Record
from netpress.codec.unit_coder import CodedUnit, UnitJob, UnitTensor, code_unit
from netpress.codec.update_state import UpdateState
from netpress.config import EncodeConfig
from netpress.formats import open_source
from netpress.parallel import Progress, ordered_map
from netpress.quantize.losses import describe_losses
from netpress.quantize.steps import StepRule, assign_steps, suitable_base_qp
from netpress.quantize.tensor import QuantizedTensor
from netpress.transforms.batch_norm_pairs import row_factors

__all__ = ["Encoder"]


class Encoder:
    """Turns models into streams, and keeps what later updates need.

    For a single stream, :func:`netpress.encode` is shorter. An encoder that codes a sequence of updates
    (``differences=True``) remembers each tensor's integers and history, as the decoder at the other end does.

    Args:
        config: settings; None for the defaults.
        state: what earlier updates left, to go on from; it is changed. None: the first stream is the first of all.
        **options: fields of :class:`EncodeConfig` that replace those of ``config``.

    Raises:
        InvalidConfig: an option is unknown or out of range, or ``config`` is something else.
    """

    def __init__(self, config: EncodeConfig | None = None, *, state: UpdateState | None = None, **options: Any) -> None:
        self.config = EncodeConfig.with_options(config, options)
        self.state = UpdateState() if state is None else state

    def encode(
        self,
        source: Any,
        *,
        executor: Executor | None = None,
        progress: Progress | None = None,
        update: bool | None = None,
        quantized: Mapping[str, QuantizedTensor] | None = None,
    ) -> bytes:
        """Return the stream of a model, or of a difference if the settings say so.

        Args:
            source: see :func:`netpress.formats.open_source`.
            executor: runs the tensors; None uses all cores with threads.
            progress: called after each tensor.
            update: whether the stream counts in the parameter update tree; None: if the settings say ``differences``.
            quantized: integers of tensors that are quantised already, by name.

        Raises:
            InvalidModel: a tensor cannot be coded; names it.
            InvalidConfig: a qp does not fit.
        """
        sink = io.BytesIO()
        self.encode_to(sink, source, executor=executor, progress=progress, update=update, quantized=quantized)
        return sink.getvalue()

    def encode_to(
        self,
        sink: ByteSink,
        source: Any,
        *,
        executor: Executor | None = None,
        progress: Progress | None = None,
        update: bool | None = None,
        record: Record | None = None,
        quantized: Mapping[str, QuantizedTensor] | None = None,
        parameter_set: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the stream of a model to ``sink``, unit by unit; see :meth:`encode`.

        ``source`` may also be a :class:`~netpress.codec.difference.Difference`; new values are then coded where they
        are smaller. ``record`` holds what is to be said beyond the tensors: recipe and rebuild steps. ``quantized``
        holds the integers of tensors that are quantised already, by the name in the source. ``parameter_set`` holds
        further fields of the model parameter set, such as performance maps.
        """
        update = self.config.differences if update is None else update
        difference = source if isinstance(source, Difference) else None
        model = open_source(source) if difference is None else difference.source
        prepared = prepare_model(model, self.config, difference)
        feeds_back = difference is None and self.config.feeds_errors_back
        known = prepared.statistics(data_free_statistics(model)) if feeds_back else {}
        sums = ChecksumWriter(sink) if self.config.checksums else None
        writer = UnitWriter(sink if sums is None else sums)
        integers = prepared.by_stream_name(quantized or {})
        config = prepared.with_stream_names(self.config)
        config = config.replace(base_qp=suitable_base_qp(prepared.parameters, config, given=integers))
        coded = self._code(prepared, config, integers, known, update, executor, progress, difference is not None)
        if not self.config.signals_parents:
            names = [p.name for p in prepared.parameters]
            whole = prepared.record(names)
            self._write_parameter_sets(writer, sums, config, _completed(whole, record), parameter_set)
        else:
            # Which tensors an update leaves out is known at its end only, and the record counts those that are there.
            complete = frozenset() if difference is None else difference.complete
            needed = [unit for unit in coded if not self._leaves_out(unit, prepared, complete)]
            names = [name for unit in needed for name in unit.payload_names]
            replaced = {name for unit in needed if unit.is_new_value for name in unit.payload_names}
            whole = prepared.record(names, replaced)
            if difference is not None:
                record = difference.record()
                whole.complete = {
                    i for i, n in enumerate(names) if n in replaced or prepared.original_name(n) in complete
                }
            self._write_parameter_sets(writer, sums, config, _completed(whole, record), parameter_set)
            coded = iter(needed)
        losses: dict[str, str] = {}
        for unit in coded:
            losses |= {prepared.original_name(n): part for n, part in unit.losses.items() if n not in integers}
            self._write(writer, sums, unit.header, unit.payload)
            if update:
                self._take_over(unit)
        if sums is not None:
            writer.write(Topology(topology_data=sums.text()))
        writer.finish()
        if losses and not self.config.is_reference:
            warnings.warn(describe_losses(losses), NetpressWarning, stacklevel=4)

    @staticmethod
    def _write(writer: UnitWriter, sums: ChecksumWriter | None, content: Content, payload: bytes = b"") -> None:
        writer.write(content, payload)
        if sums is not None:
            sums.end_unit()

    def _code(
        self,
        prepared: PreparedModel,
        config: EncodeConfig,
        given: Mapping[str, QuantizedTensor],
        statistics: Mapping[str, LayerStatistics],
        update: bool,
        executor: Executor | None,
        progress: Progress | None,
        is_update: bool,
    ) -> Iterator[CodedUnit]:
        """Code all data units, in order."""
        steps = assign_steps(
            prepared.parameters,
            config,
            given=given,
            uniform=prepared.uniform(given),
            decomposed=prepared.decomposed,
            is_update=is_update,
            row_factors=row_factors(prepared.parameters) if config.qp is None and config.bit_depth is None else None,
        )
        # Made as the workers take them, so that only the tensors under way are in memory.
        jobs = (self._job(unit, config, steps, given, statistics, update) for unit in prepared.units)
        total = sum(p.size for p in prepared.parameters)
        done = 0
        results = ordered_map(code_unit, jobs, executor=executor, size=lambda job: job.size)
        for stream_unit, units in zip(prepared.units, results, strict=True):
            yield from units
            done += sum(p.size for _, p in stream_unit.members)
            if progress is not None:
                progress(done, total, stream_unit.members[-1][1].name)

    def _leaves_out(self, unit: CodedUnit, prepared: PreparedModel, complete: Collection[str]) -> bool:
        """Whether a data unit stands for no change. A new value that is zero does not, nor does half of a wide integer.

        NNCodec also drops the zero tensors of a complete model that only signals pre_flag, which loses them.
        """
        if not (self.config.differences or self.config.is_reference) or unit.is_new_value or not unit.is_zero():
            return False
        names = unit.payload_names
        return not any(prepared.is_half(name) or prepared.original_name(name) in complete for name in names)

    def _write_parameter_sets(
        self,
        writer: UnitWriter,
        sums: ChecksumWriter | None,
        config: EncodeConfig,
        record: Record,
        parameter_set: Mapping[str, Any] | None,
    ) -> None:
        self._write(writer, sums, Start(config.profile))
        mps = ModelParameterSet(
            mps_qp_density=config.qp_density,
            mps_quantization_parameter=config.base_qp,
            mps_parent_signalling_enabled_flag=int(config.signals_parents),
            nnr_pre_flag=int(config.pre_signalling),
            **(parameter_set or {}),
        )
        self._write(writer, sums, mps)
        if config.topology_storage_format is not None:
            record.has_sums = sums is not None
            data = record.to_bytes() if config.can_carry_record and not record.is_empty() else b""
            self._write(writer, sums, Topology(config.topology_storage_format, topology_data=data))

    def _take_over(self, unit: CodedUnit) -> None:
        """Keep the integers of a unit for the next update."""
        if unit.header.device_id is not None:
            self.state.check_device(unit.header.device_id)
        for name, levels in unit.levels.items():
            self.state.update(name, levels, unit.header.parameter_id, in_update=self.config.differences)

    def _job(
        self,
        unit: StreamUnit,
        config: EncodeConfig,
        steps: Mapping[str, StepRule],
        given: Mapping[str, QuantizedTensor],
        statistics: Mapping[str, LayerStatistics],
        update: bool,
    ) -> UnitJob:
        state = self.state
        tensors = [
            UnitTensor(
                p.name,
                role,
                p.kind,
                p.parameter_id,
                p.value,  # type: ignore[arg-type]
                steps[p.name],
                base=state.levels.get(p.name) if config.temporal_contexts else None,
                history=state.histories.get(p.name) if config.history_contexts else None,
                quantized=given.get(p.name),
                statistics=statistics.get(p.name),
                new=p.new,  # type: ignore[arg-type]
            )
            for role, p in unit.members
        ]
        leader = unit.weight.name
        dimensions = unit.block.dimensions if unit.block else None
        job = UnitJob(tensors, config, dimensions=dimensions)
        if config.profile == 1 and (config.is_reference or config.signals_parents):
            job.depth = state.depths.get(leader, 0) + 1 if update else 0
            job.temporal = config.temporal_contexts and config.differences and leader in state.levels
        return job


def _completed(record: Record, beyond: Record | None) -> Record:
    """Return the record of the tensors with what another one says beyond them."""
    if beyond is None:
        return record
    return dataclasses.replace(
        record, base=beyond.base, removed=beyond.removed, rebuild=beyond.rebuild, recipe=beyond.recipe
    )
