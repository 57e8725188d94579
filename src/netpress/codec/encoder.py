"""A model to a bitstream.

Source: ISO/IEC 15938-17, order of units; encoder pipeline of the coding tools.
"""

from __future__ import annotations

import dataclasses
import io
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from netpress.bitstream import ByteSink, ModelParameterSet, Start, Topology, UnitWriter
from netpress.bitstream.units import Content
from netpress.codec.checksums import ChecksumWriter
from netpress.codec.prepare import PreparedModel, StreamUnit, prepare_model
from netpress.codec.record import Record
from netpress.codec.unit_coder import CodedUnit, UnitJob, UnitTensor, code_unit
from netpress.codec.update_state import UpdateState
from netpress.config import DEFAULT_NONWEIGHT_QP, EncodeConfig
from netpress.errors import InvalidConfig, InvalidModel
from netpress.formats import open_source
from netpress.parallel import Progress, ordered_map
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.allocation import may_be_variance, nonweight_qps_beside, qps_by_size
from netpress.quantize.assign import assign_qps, automatic_qps, bit_depth_qps, check_qps, mean_weight_size
from netpress.quantize.step_size import qp_for_step, qp_range
from netpress.quantize.tensor import QuantizedTensor

__all__ = ["Encoder"]

# Largest step of the difference of a variance, relative to the smallest of the new ones.
_VARIANCE_SHARE = 1 / 8


class Encoder:
    """Turns models into streams, and keeps what later updates need.

    For a single stream, :func:`netpress.encode` is shorter. An encoder that codes a sequence of updates
    (``differences=True``) remembers each tensor's integers and history, as the decoder at the other end does.

    Args:
        config: settings; None for the defaults.
        **options: fields of :class:`EncodeConfig` that replace those of ``config``.

    Raises:
        InvalidConfig: an option is unknown or out of range.
    """

    def __init__(self, config: EncodeConfig | None = None, **options: Any) -> None:
        config = config or EncodeConfig()
        self.config = config.replace(**options) if options else config
        self.state = UpdateState()

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
        notes: Record | None = None,
        complete: Collection[str] = (),
        spreads: Any = None,
        quantized: Mapping[str, QuantizedTensor] | None = None,
        parameter_set: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the stream of a model to ``sink``, unit by unit; see :meth:`encode`.

        ``notes`` is what the record says beyond the tensors: recipe and rebuild steps, and for an update what it says
        about the base model. For an update, ``complete`` names the tensors that are new values, and ``spreads`` is the
        new model, whose spread decides on the steps if no qp is given. ``quantized`` holds the integers of tensors that
        are quantised already, by the name in the source. ``parameter_set`` holds further fields of the model parameter
        set, such as performance maps.
        """
        update = self.config.differences if update is None else update
        prepared = prepare_model(open_source(source), self.config)
        sums = ChecksumWriter(sink) if self.config.checksums else None
        writer = UnitWriter(sink if sums is None else sums)
        given = _stream_named(quantized or {}, prepared)
        coded = self._code(prepared, given, update, executor, progress, spreads)
        if not self.config.signals_parents:
            names = [p.name for p in prepared.parameters]
            self._write_parameter_sets(writer, sums, _noted(prepared.record(names), notes), parameter_set)
        else:
            # Which tensors an update leaves out is known at its end only, and the record counts those that are there.
            kept = [unit for unit in coded if not self._leaves_out(unit, prepared, complete)]
            record = _noted(prepared.record([name for unit in kept for name in unit.payload_names]), notes)
            if record.base is not None:
                names = [name for unit in kept for name in unit.payload_names]
                record.complete = {i for i, n in enumerate(names) if prepared.original_name(n) in complete}
            self._write_parameter_sets(writer, sums, record, parameter_set)
            coded = iter(kept)
        for unit in coded:
            self._write(writer, sums, unit.header, unit.payload)
            if update:
                self._take_over(unit)
        if sums is not None:
            writer.write(Topology(topology_data=sums.text()))
        writer.finish()

    @staticmethod
    def _write(writer: UnitWriter, sums: ChecksumWriter | None, content: Content, payload: bytes = b"") -> None:
        writer.write(content, payload)
        if sums is not None:
            sums.end_unit()

    def _code(
        self,
        prepared: PreparedModel,
        given: Mapping[str, QuantizedTensor],
        update: bool,
        executor: Executor | None,
        progress: Progress | None,
        spreads: Any,
    ) -> Iterator[CodedUnit]:
        """Code all data units, in order."""
        config = prepared.with_stream_names(self.config)
        qps = self._qps(prepared, config, spreads)
        mean = mean_weight_size(prepared.parameters)
        # Made as the workers take them, so that only the tensors under way are in memory.
        jobs = (self._job(unit, config, qps, given, update, mean) for unit in prepared.units)
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
        if not (self.config.differences or self.config.is_reference) or not unit.is_zero():
            return False
        names = unit.payload_names
        return not any(prepared.is_half(name) or prepared.original_name(name) in complete for name in names)

    def _write_parameter_sets(
        self,
        writer: UnitWriter,
        sums: ChecksumWriter | None,
        record: Record,
        parameter_set: Mapping[str, Any] | None,
    ) -> None:
        config = self.config
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
        qps: dict[str, int | None],
        given: Mapping[str, QuantizedTensor],
        update: bool,
        mean: float,
    ) -> UnitJob:
        state = self.state
        tensors = [
            UnitTensor(
                p.name,
                role,
                p.kind,
                p.parameter_id,
                p.value,  # type: ignore[arg-type]
                qps[p.name],
                base=state.levels.get(p.name) if config.tca else None,
                history=state.histories.get(p.name) if config.hdsp else None,
                quantized=given.get(p.name),
            )
            for role, p in unit.members
        ]
        leader = unit.weight.name
        dimensions = unit.block.dimensions if unit.block else None
        job = UnitJob(tensors, config, dimensions=dimensions, mean_weight_size=mean)
        if config.profile == 1 and (config.is_reference or config.signals_parents):
            job.depth = state.depths.get(leader, 0) + 1 if update else 0
            job.temporal = config.tca and config.differences and leader in state.levels
        return job

    def _qps(self, prepared: PreparedModel, config: EncodeConfig, spreads: Any) -> dict[str, int | None]:
        """Return the qp of every tensor; None where it is to be chosen from the values."""
        parameters = prepared.parameters
        _check_names(config, prepared)
        qps: dict[str, int | None]
        if config.bit_depth is not None:
            return dict(
                bit_depth_qps(
                    parameters, bits=config.bit_depth, qp_density=config.qp_density, reference=config.is_reference
                )
            )
        if config.qp is None:
            qps = dict.fromkeys((p.name for p in parameters), None)
            if spreads is not None:
                qps.update({n: qp for n, qp in self._qps_of_new_values(spreads).items() if n in qps})
            if config.nonweight_qp is not None:
                others = (p.name for p in parameters if p.kind is not ParameterKind.WEIGHT)
                qps.update(dict.fromkeys(others, config.nonweight_qp))
            qps.update({n: qp for n, qp in (config.qp_per_tensor or {}).items() if n in qps})
        else:
            qps = dict(
                assign_qps(
                    parameters,
                    qp=config.qp,
                    qp_density=config.qp_density,
                    nonweight_qp=config.nonweight_qp or default_nonweight_qp(config),
                    qp_per_tensor=config.qp_per_tensor,
                    optimize_qp=config.optimize_qp,
                    decomposed=_decomposed(prepared),
                )
            )
            if config.allocation == "size":
                qps.update(_by_size(parameters, config))
        if spreads is not None:
            for name, limit in self._qps_of_new_variances(spreads).items():
                if (qp := qps.get(name)) is not None and name not in (config.qp_per_tensor or {}):
                    qps[name] = min(qp, limit)
        fixed = {p.name: qp for p in parameters if (qp := qps[p.name]) is not None and not p.is_integer}
        check_qps(fixed, config.qp_density, config.base_qp)
        return qps

    def _qps_of_new_values(self, spreads: Any) -> dict[str, int]:
        """An update is coded as finely as its new values would be, whatever the spread of the differences."""
        config = self.config
        new = prepare_model(open_source(spreads), config)
        return automatic_qps(
            new.parameters, qp_density=config.qp_density, dependent=config.use_dq, base_qp=config.base_qp
        )

    def _qps_of_new_variances(self, spreads: Any) -> dict[str, int]:
        """Where the difference of a variance is coded coarsely, the new one can become negative."""
        config = self.config
        low, high = qp_range(config.qp_density, config.base_qp)
        found = {}
        for p in prepare_model(open_source(spreads), config).parameters:
            if may_be_variance(p) and (least := _smallest_above_0(p.value)) is not None:
                qp = math.floor(qp_for_step(least * _VARIANCE_SHARE, config.qp_density))
                found[p.name] = min(max(qp, low), high)
        return found


def _smallest_above_0(value: Any) -> float | None:
    above = value[value > 0]
    return max(float(above.min()), 1e-30) if above.size else None


def _by_size(parameters: Sequence[Parameter], config: EncodeConfig) -> dict[str, int]:
    """Return the qps that follow from sizes, but for tensors whose qp is given."""
    scale: Any = {"qp": config.qp, "qp_density": config.qp_density, "base_qp": config.base_qp}
    qps = qps_by_size(parameters, **scale)
    if config.nonweight_qp is None:
        qps.update(nonweight_qps_beside(parameters, dependent=config.use_dq, **scale))
    return {name: qp for name, qp in qps.items() if name not in (config.qp_per_tensor or {})}


def _noted(record: Record, notes: Record | None) -> Record:
    if notes is None:
        return record
    return dataclasses.replace(
        record, base=notes.base, removed=notes.removed, rebuild=notes.rebuild, recipe=notes.recipe
    )


def _stream_named(quantized: Mapping[str, QuantizedTensor], prepared: PreparedModel) -> dict[str, QuantizedTensor]:
    """Return the given integers by the name that their tensor has in the stream."""
    given = {}
    for parameter in prepared.parameters:
        name = prepared.original_name(parameter.name)
        if name not in quantized:
            continue
        given[parameter.name] = quantized[name]
        if parameter.is_integer:
            raise InvalidModel("an integer tensor is coded without loss; it cannot be given quantised", tensor=name)
        if math.prod(parameter.shape) != given[parameter.name].levels.size:
            shape = given[parameter.name].levels.shape
            raise InvalidModel(f"quantised levels of shape {shape} do not fit shape {parameter.shape}", tensor=name)
    unknown = set(quantized) - {prepared.original_name(name) for name in given}
    if unknown:
        raise InvalidModel("was given quantised, but the model does not have it", tensor=min(unknown))
    return given


def _decomposed(prepared: PreparedModel) -> dict[str, tuple[str, str]]:
    blocks = [unit.block for unit in prepared.units if unit.block is not None and unit.block.is_decomposed]
    return {block.weight: (block.weight + "_G", block.weight + "_H") for block in blocks}


def default_nonweight_qp(config: EncodeConfig) -> int:
    """Return the qp of non-weights when only ``qp`` is given: the step of -75 at density 2, if it can be coded."""
    low, high = qp_range(config.qp_density, config.base_qp)
    wanted = round(DEFAULT_NONWEIGHT_QP * 2.0 ** (config.qp_density - 2))
    return min(max(wanted, low), high)


def _check_names(config: EncodeConfig, prepared: PreparedModel) -> None:
    if config.is_reference:
        return
    known = {p.name for p in prepared.parameters}
    for name in config.qp_per_tensor or {}:
        if name not in known:
            raise InvalidConfig(f"qp_per_tensor names {name!r}, which the model does not have")
