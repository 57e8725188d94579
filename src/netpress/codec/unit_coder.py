"""Codes the tensors of one data unit: quantisation, choice of tools, payload, header.

A job holds everything it needs, so that jobs can run in any order and place.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream import Codebook, CompressedParameterTypes, DataUnit, EntryPoint, MemberRole, PayloadType
from netpress.bitstream.payload import CodedLevels, encode_payload
from netpress.bitstream.units import INFERRED_UNARY_LENGTH_MINUS1
from netpress.calibration.data_free import DAMPING
from netpress.calibration.statistics import LayerStatistics
from netpress.config import EncodeConfig
from netpress.errors import InvalidConfig, InvalidModel
from netpress.native import Search, TensorCoding, matrix_shape
from netpress.parameters import ParameterKind
from netpress.quantize.codebook import codebook_header_bits, codebook_levels, reference_prefers_codebook
from netpress.quantize.levels import quantize, quantize_with_form
from netpress.quantize.losses import lost_part
from netpress.quantize.reference_steps import clip_levels
from netpress.quantize.step_size import qp_range
from netpress.quantize.steps import FixedStep, StepRule
from netpress.quantize.tensor import QuantizedTensor

__all__ = ["CodedUnit", "QuantizedMember", "UnitJob", "UnitTensor", "code_members", "code_unit"]

Levels = npt.NDArray[np.int32]


@dataclasses.dataclass(slots=True)
class UnitTensor:
    """One tensor of a data unit to be coded, float32 or int32.

    ``step`` is the rule of its step. ``quantized`` holds the integers where they are chosen already, ``statistics``
    what is known about the inputs of a weight. ``new`` is the new value where ``value`` is a difference to a base
    model. ``base`` and ``history`` come from the updates before.
    """

    name: str
    role: MemberRole
    kind: ParameterKind
    parameter_id: int
    value: npt.NDArray[np.float32] | npt.NDArray[np.int32]
    step: StepRule
    base: Levels | None = None
    history: npt.NDArray[np.uint8] | None = None
    quantized: QuantizedTensor | None = None
    statistics: LayerStatistics | None = None
    new: npt.NDArray[np.float32] | npt.NDArray[np.int32] | None = None

    @property
    def is_integer(self) -> bool:
        """Whether the tensor is coded without loss."""
        return self.value.dtype == np.int32

    @property
    def may_be_replaced(self) -> bool:
        """Whether the new value might take fewer bytes than the difference.

        At equal steps the bits of a value follow the logarithm of its magnitude. A difference that is less than half as
        large as the value is taken to be smaller; so is one that is zero, which is left out.
        """
        if self.new is None or self.quantized is not None:
            return False
        change = np.abs(self.value.astype(np.float64))
        return bool(change.any()) and bool(2 * change.mean() > np.abs(self.new.astype(np.float64)).mean())

    @property
    def has_to_be_replaced(self) -> bool:
        """Whether the tensor changes, and its difference would not keep what matters of its new value."""
        if self.new is None or self.quantized is not None or self.is_integer or not self.value.any():
            return False
        return self.step.replaces(self.new)

    def with_choice(self) -> UnitTensor:
        """Return the tensor with its qp, or with integers where no single step suits it."""
        if self.quantized is not None or self.is_integer:
            return self
        chosen = self.step.choose(self.value, self.new, self.name)
        if isinstance(chosen, int):
            return dataclasses.replace(self, step=FixedStep(chosen))
        return dataclasses.replace(self, quantized=chosen)


@dataclasses.dataclass(slots=True)
class UnitJob:
    """The tensors of one data unit in payload order, and what its header says about the update it belongs to.

    ``depth`` is put_node_depth, None without a node id. ``dimensions`` is the full shape of a decomposed weight.
    """

    tensors: list[UnitTensor]
    config: EncodeConfig
    dimensions: tuple[int, ...] | None = None
    depth: int | None = None
    temporal: bool = False

    @property
    def is_block(self) -> bool:
        """Whether the tensors belong to one layer."""
        return len(self.tensors) > 1

    @property
    def size(self) -> int:
        """Number of values."""
        return sum(t.value.size for t in self.tensors)


@dataclasses.dataclass(slots=True)
class CodedUnit:
    """A data unit ready to be written, and the integers in it by name.

    ``is_new_value`` says that it holds the new value of a tensor, not its difference. ``losses`` says by name which
    parts of tensors became zero though they matter; updates have none.
    """

    header: DataUnit
    payload: bytes
    levels: dict[str, Levels]
    payload_names: tuple[str, ...]
    is_new_value: bool = False
    losses: dict[str, str] = dataclasses.field(default_factory=dict)

    def is_zero(self) -> bool:
        """Whether all its integers are zero."""
        return bool(self.levels) and not any(levels.any() for levels in self.levels.values())


@dataclasses.dataclass(slots=True)
class QuantizedMember:
    """One tensor with its integers and the method behind them."""

    tensor: UnitTensor
    levels: Levels
    qp: int | None
    dependent: bool
    codebook: Codebook | None

    @property
    def lost_part(self) -> str | None:
        """What became zero of a float tensor though it matters, None for nothing."""
        zero, book = 0, self.codebook
        if self.tensor.is_integer:
            return None
        if book is not None:
            if 0 not in book.values:
                return None
            zero = book.values.index(0) - book.zero_offset
        return lost_part(self.tensor.value, (self.levels != zero).reshape(self.tensor.value.shape))


def code_unit(job: UnitJob) -> list[CodedUnit]:
    """Code a data unit; a block whose members need different methods becomes one unit per member.

    Of an update, the new value of a tensor is coded where that is smaller than its difference.

    Raises:
        InvalidModel: a value cannot be coded; names the tensor.
        InvalidConfig: a qp is outside the codable range; names the tensor.
    """
    if job.tensors[0].name in job.config.raw_float and not job.is_block and not job.tensors[0].is_integer:
        return [_raw(job)]
    tensor = job.tensors[0]
    if not job.is_block and tensor.has_to_be_replaced:
        return _new_value(job)
    units = _code(job)
    if job.is_block or not tensor.may_be_replaced or job.config.is_reference or job.config.sparsity:
        return units
    replaced = _new_value(job)
    return replaced if sum(map(_bytes, replaced)) < sum(map(_bytes, units)) else units


def _new_value(job: UnitJob) -> list[CodedUnit]:
    """Code what the tensor of an update becomes."""
    tensor = job.tensors[0]
    assert tensor.new is not None
    units = _code(dataclasses.replace(job, tensors=[dataclasses.replace(tensor, value=tensor.new, new=None)]))
    return [dataclasses.replace(unit, is_new_value=True) for unit in units]


def _code(job: UnitJob) -> list[CodedUnit]:
    # In a block, integers of a vector would switch the trellis of the weight off.
    tensors = [t if job.is_block and not t.role.is_weight else t.with_choice() for t in job.tensors]
    job = dataclasses.replace(job, tensors=tensors)
    given = [tensor.quantized for tensor in job.tensors if tensor.quantized is not None]
    if given and job.config.use_dq and not all(tensor.dependent for tensor in given):
        # One flag says for all members of a block how they are quantised.
        job = dataclasses.replace(job, config=job.config.replace(use_dq=False))
    return code_members([_quantized(tensor, job.config) for tensor in job.tensors], job)


def code_members(members: list[QuantizedMember], job: UnitJob) -> list[CodedUnit]:
    """Code the tensors of a job whose integers are known; see :func:`code_unit`."""
    if not job.is_block or _fit_one_unit(members):
        return [_coded(members, job, block=job.is_block)]
    return [_coded([member], job, block=False) for member in members]


def _raw(job: UnitJob) -> CodedUnit:
    """Source: raw float data units."""
    tensor = job.tensors[0]
    member = QuantizedMember(tensor, np.empty(0, np.int32), None, False, None)
    header = _header([member], job, block=False)
    header.nnr_compressed_data_unit_payload_type = PayloadType.RAW_FLOAT
    header.scan_order = 0
    return CodedUnit(header, np.ascontiguousarray(tensor.value, "<f4").tobytes(), {}, (tensor.name,))


def _fit_one_unit(members: list[QuantizedMember]) -> bool:
    """Source: model to data units, conditions for a block."""
    weights = [m for m in members if m.tensor.role.is_weight]
    others = [m for m in members if not m.tensor.role.is_weight]
    return (
        len({m.codebook is None for m in weights}) == 1
        and all(m.codebook is None for m in others)
        and len({m.dependent for m in members}) == 1
        and not any(m.tensor.is_integer for m in members)
    )


def _quantized(tensor: UnitTensor, config: EncodeConfig) -> QuantizedMember:
    if tensor.is_integer:
        return QuantizedMember(tensor, tensor.value.astype(np.int32, copy=False), None, False, None)
    if tensor.quantized is not None:
        return _as_given(tensor, tensor.quantized, config)
    mode = config.tools.codebooks
    wanted = tensor.step.qp(tensor.value, tensor.new, tensor.name)
    if mode and tensor.value.size:
        return _with_codebook(tensor, wanted, config, always=mode == 1)
    levels, qp = _uniform(tensor, config, wanted, config.use_dq)
    return QuantizedMember(tensor, levels, qp, config.use_dq, None)


def _as_given(tensor: UnitTensor, given: QuantizedTensor, config: EncodeConfig) -> QuantizedMember:
    levels = np.ascontiguousarray(given.levels).reshape(tensor.value.shape)
    plain = QuantizedMember(tensor, levels, given.qp, given.dependent, None)
    if given.dependent or given.codebook is False or not levels.size:
        return plain
    candidate = codebook_levels(levels, config.tools.unary_length, first_edition_1_0=False, search=False)
    listed = QuantizedMember(tensor, candidate.levels, given.qp, False, candidate.codebook)
    return listed if given.codebook else _smaller(plain, listed, config)


def _smaller(plain: QuantizedMember, listed: QuantizedMember, config: EncodeConfig) -> QuantizedMember:
    trial = UnitJob([plain.tensor], config)
    sizes = [_bytes(_coded([method], trial, block=False)) for method in (plain, listed)]
    return listed if sizes[1] < sizes[0] else plain


def _uniform(tensor: UnitTensor, config: EncodeConfig, qp: int, dependent: bool) -> tuple[Levels, int]:
    value = np.ascontiguousarray(tensor.value, np.float32)
    options: dict[str, Any] = {
        "qp": qp,
        "qp_density": config.qp_density,
        "dependent": dependent,
        "lambda_scale": config.tools.rate_weight,
        "unary_length": config.tools.unary_length,
        "passes": config.tools.rate_passes,
        "name": tensor.name,
    }
    if tensor.statistics is not None and dependent and tensor.value.size:
        levels, used = quantize_with_form(value, tensor.statistics.form(damping=DAMPING, name=tensor.name), **options)
    else:
        levels, used = quantize(value, reference=config.is_reference, scan_order=config.scan_order, **options)
    low, high = qp_range(config.qp_density, config.base_qp)
    if not low <= used <= high:
        if used != qp:
            raise InvalidModel(
                f"the values need qp {used}, but only {low}..{high} can be coded; choose a base_qp near {used}",
                tensor=tensor.name,
            )
        raise InvalidConfig(f"tensor {tensor.name!r}: qp {used} is outside {low}..{high}")
    if config.bit_depth is not None:
        levels = clip_levels(levels, tensor.value, config.bit_depth, kind=tensor.kind, name=tensor.name)
    return levels, used


def _with_codebook(tensor: UnitTensor, main_qp: int, config: EncodeConfig, *, always: bool) -> QuantizedMember:
    """Source: coding of quantised tensors with a codebook."""
    reference = config.is_reference
    finer = main_qp - (1 << config.qp_density) if config.use_dq else main_qp
    if not reference:
        finer = max(finer, qp_range(config.qp_density, config.base_qp)[0])
    levels, qp = _uniform(tensor, config, finer, False)
    first_edition_1_0 = config.is_first_edition_1_0
    unary_length = config.tools.unary_length
    candidate = codebook_levels(levels, unary_length, first_edition_1_0=first_edition_1_0, search=reference)
    chosen = QuantizedMember(tensor, candidate.levels, qp, False, candidate.codebook)
    if always:
        return chosen
    uniform, uniform_qp = _uniform(tensor, config, main_qp, True) if config.use_dq else (levels, qp)
    plain = QuantizedMember(tensor, uniform, uniform_qp, config.use_dq, None)
    if reference:
        # NNCodec 2 compares with one greater-than flag less than it codes with.
        measured = unary_length if first_edition_1_0 else unary_length - 1
        coding, uniform_coding = (
            _coding(config, measured, dependent, config.scan_order, config.differences)
            for dependent in (False, config.use_dq)
        )
        prefers = reference_prefers_codebook(uniform, candidate, coding, uniform_coding, _search(config))
        return chosen if prefers else plain
    return _smaller(plain, chosen, config)


def _bytes(unit: CodedUnit) -> int:
    """Bytes of a unit, but for what its header holds in any case."""
    book = unit.header.codebook
    return len(unit.payload) + (0 if book is None else (codebook_header_bits(book) + 7) // 8)


def _search(config: EncodeConfig) -> Search:
    if not config.tools.context_search:
        return Search.OFF
    return Search.REFERENCE if config.is_reference else Search.BEST


def _coding(
    config: EncodeConfig,
    unary_length: int,
    dependent: bool,
    scan_order: int,
    has_parent: bool,
    *,
    skip_rows: bool = False,
    use_history: bool = False,
) -> TensorCoding:
    return TensorCoding(
        scan_order=scan_order,
        second_edition=config.profile == 1,
        first_edition_1_0=config.is_first_edition_1_0,
        dependent=dependent,
        unary_length=unary_length,
        has_parent=has_parent,
        skip_rows=skip_rows,
        use_history=use_history,
    )


def _coded(members: list[QuantizedMember], job: UnitJob, *, block: bool) -> CodedUnit:
    config = job.config
    header = _header(members, job, block=block)
    coded = [_coded_levels(member, job) for member in members]
    has_parent = bool(header.parent_node_id_present_flag)

    def payload(unary_length: int, skip_rows: bool, use_history: bool) -> tuple[bytes, tuple[EntryPoint, ...]]:
        coding = _coding(
            config,
            unary_length,
            bool(header.dq_flag),
            header.scan_order,
            has_parent,
            skip_rows=skip_rows,
            use_history=use_history,
        )
        return encode_payload(coded, coding, qp_density=config.qp_density, search=_search(config))

    main = config.tools.unary_length
    flags = [(skip, False) for skip in _row_skipping(members, header, config)]
    if config.history_contexts and has_parent and all(m.tensor.history is not None for m in members):
        flags += [(skip, True) for skip, _ in flags]
    tried = [(*payload(main, *flag), main, flag) for flag in flags]
    best = min(tried, key=lambda trial: len(trial[0]))
    for unary_length in config.tools.more_unary_lengths(job.size):
        trial = (*payload(unary_length, *best[3]), unary_length, best[3])
        # Another length than the inferred one takes a byte in the header.
        if len(trial[0]) + 1 < len(best[0]) + (best[2] != main):
            best = trial
    header.entry_points = best[1]
    header.cabac_unary_length_minus1 = best[2] - 1
    header.cabac_unary_length_flag = int(
        config.is_reference or config.profile != 1 or header.cabac_unary_length_minus1 != INFERRED_UNARY_LENGTH_MINUS1
    )
    names = tuple(m.tensor.name for m in members)
    levels = dict(zip(names, (m.levels for m in members), strict=True))
    return CodedUnit(header, best[0], levels, names, losses={} if config.differences else _losses(members))


def _losses(members: list[QuantizedMember]) -> dict[str, str]:
    return {m.tensor.name: part for m in members if (part := m.lost_part) is not None}


def _coded_levels(member: QuantizedMember, job: UnitJob) -> CodedLevels:
    book = member.codebook
    levels = np.ascontiguousarray(member.levels)
    return CodedLevels(
        levels,
        member.tensor.value.shape,
        None if member.qp is None else member.qp - job.config.base_qp,
        (0, 0) if book is None else (len(book.values), book.zero_offset),
        member.tensor.base if job.temporal else None,
        member.tensor.history if job.config.history_contexts else None,
    )


def _row_skipping(members: list[QuantizedMember], header: DataUnit, config: EncodeConfig) -> list[bool]:
    """Return the row_skip_flags to try."""
    if config.profile != 1 or config.tools.row_skipping is False:
        return [False]
    matrices = [m.levels for m in members if min(matrix_shape(m.levels.shape)) > 1]
    if header.scan_order and header.dq_flag:
        # A skipped row moves the trellis once per block; only where a block is as wide as the tensor is that its path.
        edge = 4 << header.scan_order
        matrices_fit = all(matrix_shape(levels.shape)[1] <= edge for levels in matrices)
        if not matrices_fit:
            return [False]
    if config.tools.row_skipping:
        return [True]
    has_zero_row = any(not levels.reshape(levels.shape[0], -1).any(axis=1).all() for levels in matrices)
    return [False, True] if has_zero_row else [False]


def _header(members: list[QuantizedMember], job: UnitJob, *, block: bool) -> DataUnit:
    config = job.config
    main = _main(members)
    header = DataUnit()
    header.topology_elem_ids = _id_list(members) if block else (members[0].tensor.name,)
    header.nnr_compressed_data_unit_payload_type = (
        PayloadType.BLOCK if block else PayloadType.INT if main.tensor.is_integer else PayloadType.FLOAT
    )
    header.dq_flag = int(main.dependent)
    header.tensor_dimensions = main.tensor.value.shape
    if job.is_block:
        _describe_block(header, members, job, block=block)
    header.codebook = main.codebook
    scanned = [m for m in members if m.tensor.role is MemberRole.TENSOR or m.tensor.role.is_weight]
    if scanned and all(min(matrix_shape(m.tensor.value.shape)) > 1 for m in scanned):
        header.scan_order = config.scan_order
    _identify(header, job, main)
    return header


def _main(members: list[QuantizedMember]) -> QuantizedMember:
    """The member that the unit is named after: the weight, its factor G, or the only tensor."""
    return next((m for m in members if m.tensor.role in (MemberRole.WEIGHT, MemberRole.G)), members[-1])


_ID_ORDER = [
    MemberRole.WEIGHT,
    MemberRole.G,
    MemberRole.H,
    MemberRole.SCALING,
    MemberRole.BN_BETA,
    MemberRole.BN_GAMMA,
    MemberRole.BN_MEAN,
    MemberRole.BN_VAR,
    MemberRole.BIAS,
]


def _id_list(members: list[QuantizedMember]) -> tuple[str, ...]:
    ordered = sorted(members, key=lambda m: _ID_ORDER.index(m.tensor.role))
    return tuple(m.tensor.name for m in ordered)


def _describe_block(header: DataUnit, members: list[QuantizedMember], job: UnitJob, *, block: bool) -> None:
    """Fill in what a header says about the layer that its tensors belong to, also when they travel alone."""
    roles = {t.role for t in job.tensors}
    types = CompressedParameterTypes(0)
    for role, bit in (
        (MemberRole.G, CompressedParameterTypes.DC),
        (MemberRole.SCALING, CompressedParameterTypes.LS),
        (MemberRole.BN_GAMMA, CompressedParameterTypes.BN),
        (MemberRole.BIAS, CompressedParameterTypes.BI),
    ):
        if role in roles:
            types |= bit
    header.compressed_parameter_types = int(types)
    if MemberRole.G in roles:
        g = next(t.value for t in job.tensors if t.role is MemberRole.G)
        header.g_number_of_rows, header.decomposition_rank = g.shape[0], g.shape[1]
        if block or members[0].tensor.role in (MemberRole.G, MemberRole.H):
            header.tensor_dimensions = job.dimensions
        h = next((m for m in members if m.tensor.role is MemberRole.H), None)
        header.codebook_h = h.codebook if h is not None and block else None
    if job.config.is_reference and job.config.signals_parents:
        # NNCodec leaves the dimensions of blocks out of updates.
        header.tensor_dimensions_flag = 0


def _identify(header: DataUnit, job: UnitJob, main: QuantizedMember) -> None:
    """Fill in node and parent ids."""
    config = job.config
    if job.depth is None:
        header.node_id_present_flag, header.device_id, header.parameter_id, header.put_node_depth = 0, None, None, None
        return
    header.device_id, header.parameter_id, header.put_node_depth = config.device_id, main.tensor.parameter_id, job.depth
    if config.differences:
        header.parent_node_id_present_flag = 1
        header.parent_node_id_type = 0
        header.parent_device_id = 0
        header.temporal_context_modeling_flag = int(job.temporal)
