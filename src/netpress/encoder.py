"""A model to a bitstream.

Source: ISO/IEC 15938-17, order of units; encoder pipeline of the coding tools.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Executor
from typing import Any

import numpy as np

from netpress.bitstream import ByteSink, ModelParameterSet, Start, Topology, UnitWriter
from netpress.config import DEFAULT_NONWEIGHT_QP, EncodeConfig
from netpress.errors import InvalidConfig
from netpress.formats import open_source
from netpress.model import PreparedModel, StreamUnit, prepare_model
from netpress.parallel import ordered_map
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.assign import assign_qps, automatic_qps, bit_depth_qps, check_qps
from netpress.quantize.step_size import qp_range
from netpress.record import Record
from netpress.unit_coder import CodedUnit, UnitJob, UnitTensor, code_unit
from netpress.updates.state import UpdateState

__all__ = ["Encoder", "Progress"]

Progress = Callable[[int, int, str], None]
"""Called with values done, values in all, and the name of the tensor just finished."""


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
    ) -> bytes:
        """Return the stream of a model, or of a difference if the settings say so.

        Args:
            source: see :func:`netpress.formats.open_source`.
            executor: runs the tensors; None uses all cores with threads.
            progress: called after each tensor.
            update: whether the stream counts in the parameter update tree; None: if the settings say ``differences``.

        Raises:
            InvalidModel: a tensor cannot be coded; names it.
            InvalidConfig: a qp does not fit.
        """
        sink = io.BytesIO()
        self.encode_to(sink, source, executor=executor, progress=progress, update=update)
        return sink.getvalue()

    def encode_to(
        self,
        sink: ByteSink,
        source: Any,
        *,
        executor: Executor | None = None,
        progress: Progress | None = None,
        update: bool | None = None,
        base: Record | None = None,
        complete: Collection[str] = (),
        spreads: Any = None,
    ) -> None:
        """Write the stream of a model to ``sink``, unit by unit; see :meth:`encode`.

        For an update, ``base`` is what its record says about the base model, ``complete`` names the tensors that are new
        values, and ``spreads`` is the new model, whose spread decides on the steps if no qp is given.
        """
        update = self.config.differences if update is None else update
        prepared = prepare_model(open_source(source), self.config)
        writer = UnitWriter(sink)
        coded = self._code(prepared, update, executor, progress, spreads)
        if not self.config.signals_parents:
            names = [p.name for p in prepared.parameters]
            self._write_parameter_sets(writer, prepared.record(names))
        else:
            # Which tensors an update leaves out is known at its end only, and the record counts those that are there.
            kept = [unit for unit in coded if not (self._leaves_out_zeros and unit.is_zero())]
            record = prepared.record([name for unit in kept for name in unit.payload_names])
            if base is not None:
                record.base, record.removed = base.base, base.removed
                names = [name for unit in kept for name in unit.payload_names]
                record.complete = {i for i, n in enumerate(names) if prepared.original_name(n) in complete}
            self._write_parameter_sets(writer, record)
            coded = iter(kept)
        for unit in coded:
            writer.write(unit.header, unit.payload)
            if update:
                self._take_over(unit)
        writer.finish()

    def _code(
        self,
        prepared: PreparedModel,
        update: bool,
        executor: Executor | None,
        progress: Progress | None,
        spreads: Any,
    ) -> Iterator[CodedUnit]:
        """Code all data units, in order."""
        qps = self._qps(prepared, spreads)
        jobs = [self._job(unit, qps, update) for unit in prepared.units]
        total = sum(job.size for job in jobs)
        done = 0
        for job, units in zip(jobs, ordered_map(code_unit, jobs, executor=executor), strict=True):
            yield from units
            done += job.size
            if progress is not None:
                progress(done, total, job.tensors[-1].name)

    @property
    def _leaves_out_zeros(self) -> bool:
        """NNCodec also drops the zero tensors of a complete model that only signals pre_flag, which loses them."""
        return self.config.differences or self.config.is_reference

    def _write_parameter_sets(self, writer: UnitWriter, record: Record) -> None:
        config = self.config
        writer.write(Start(config.profile))
        mps = ModelParameterSet(
            mps_qp_density=config.qp_density,
            mps_quantization_parameter=config.base_qp,
            mps_parent_signalling_enabled_flag=int(config.signals_parents),
            nnr_pre_flag=int(config.pre_signalling),
        )
        writer.write(mps)
        if config.topology_storage_format is not None:
            writes_record = not config.is_reference and not record.is_empty()
            data = record.to_bytes() if writes_record else b""
            writer.write(Topology(config.topology_storage_format, topology_data=data))

    def _take_over(self, unit: CodedUnit) -> None:
        """Keep the integers of a unit for the next update."""
        if unit.header.device_id is not None:
            self.state.check_device(unit.header.device_id)
        for name, levels in unit.levels.items():
            self.state.update(name, levels, unit.header.parameter_id, in_update=self.config.differences)

    def _job(self, unit: StreamUnit, qps: dict[str, int], update: bool) -> UnitJob:
        config, state = self.config, self.state
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
            )
            for role, p in unit.members
        ]
        leader = unit.weight.name
        job = UnitJob(tensors, config, dimensions=unit.block.dimensions if unit.block else None)
        if config.profile == 1 and (config.is_reference or config.signals_parents):
            job.depth = state.depths.get(leader, 0) + 1 if update else 0
            job.temporal = config.tca and config.differences and leader in state.levels
        return job

    def _qps(self, prepared: PreparedModel, spreads: Any) -> dict[str, int]:
        config = self.config
        parameters = prepared.parameters
        decomposed = {
            u.block.weight: (u.block.weight + "_G", u.block.weight + "_H")
            for u in prepared.units
            if u.block is not None and u.block.is_decomposed
        }
        if config.bit_depth is not None:
            qps = bit_depth_qps(
                parameters, bits=config.bit_depth, qp_density=config.qp_density, reference=config.is_reference
            )
        elif config.qp is None:
            qps = self._automatic_qps(parameters, spreads)
            if config.nonweight_qp is not None:
                others = {p.name for p in parameters if p.kind is not ParameterKind.WEIGHT}
                qps.update(dict.fromkeys(others & qps.keys(), config.nonweight_qp))
            qps.update({n: qp for n, qp in (config.qp_per_tensor or {}).items() if n in qps})
        else:
            qps = assign_qps(
                parameters,
                qp=config.qp,
                qp_density=config.qp_density,
                nonweight_qp=config.nonweight_qp or default_nonweight_qp(config),
                qp_per_tensor=config.qp_per_tensor,
                optimize_qp=config.optimize_qp,
                decomposed=decomposed,
            )
        _check_names(config, prepared)
        floats = {p.name: qps[p.name] for p in parameters if p.value.dtype != np.int32}
        if config.bit_depth is None:
            check_qps(floats, config.qp_density, config.base_qp)
        return {p.name: qps.get(p.name, 0) for p in parameters}


    def _automatic_qps(self, parameters: list[Parameter], spreads: Any) -> dict[str, int]:
        """qps from the spread of each tensor; of an update, from that of the new values."""
        options: dict[str, Any] = {
            "qp_density": self.config.qp_density,
            "dependent": self.config.use_dq,
            "base_qp": self.config.base_qp,
        }
        qps = automatic_qps(parameters, **options)
        if spreads is not None:
            new = prepare_model(open_source(spreads), self.config)
            qps.update({n: qp for n, qp in automatic_qps(new.parameters, **options).items() if n in qps})
        return qps


def default_nonweight_qp(config: EncodeConfig) -> int:
    """Return the qp of non-weights when only ``qp`` is given: the step of -75 at density 2, as far as it can be coded."""
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

