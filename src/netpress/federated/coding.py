"""One change of a model to an NNC stream, and back. State goes in and comes out; nothing is kept here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream import PayloadType, UnitType, payload_members, scan_units
from netpress.bitstream.payload import CodedLevels, encode_payload
from netpress.codec.decoder import Decoder
from netpress.codec.encoder import Encoder
from netpress.codec.index import header_of, index_stream
from netpress.codec.update_state import UpdateState
from netpress.config import EncodeConfig
from netpress.errors import InvalidBitstream, InvalidModel
from netpress.federated.config import FederatedConfig, Sparsification
from netpress.federated.layout import Group, GroupKind, Layout, Model, is_integer
from netpress.limits import DecodeLimits
from netpress.native import Search, TensorCoding
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.levels import quantize
from netpress.quantize.step_size import qp_for_step, qp_range
from netpress.quantize.tensor import QuantizedTensor
from netpress.transforms.sparsify import (
    sparsify_deviations,
    sparsify_largest,
    sparsify_structured,
    sparsify_unstructured,
)

__all__ = ["CodedChange", "decode_change", "encode_change", "sparsified"]

Array = npt.NDArray[Any]

_QP_DENSITY = 4
"""Fine steps: between one that carries nothing and one that carries too much there is little room."""
_UNIT_TYPES = (UnitType.STR, UnitType.MPS, UnitType.NDU)
_UNARY_LENGTH = 10
_FIRST_STEP = 8.0
"""The coarsest step that is tried, in root mean squares of the values that changed."""
_MOST_CARRIED = 0.98
_SAMPLED_VALUES = 1 << 16
"""Values that are enough to find a step."""


@dataclasses.dataclass(frozen=True, slots=True)
class CodedChange:
    """A stream, the change of every tensor that a decoder makes of it, and the state of both ends after it."""

    data: bytes
    changes: Model
    state: UpdateState


def encode_change(
    layout: Layout,
    changes: Mapping[str, Array],
    held: Mapping[str, Array],
    config: FederatedConfig,
    state: UpdateState | None = None,
) -> CodedChange:
    """Code a change of a model.

    Args:
        layout: of the model.
        changes: from :meth:`Layout.difference`, perhaps with what earlier updates left out.
        held: the model that both ends hold.
        config: steps and tools.
        state: of the updates before; None for the first one.

    Raises:
        InvalidModel: a value is infinite or undefined; names the tensor.
    """
    for name, value in changes.items():
        if not is_integer(value.dtype) and not np.isfinite(value).all():
            raise InvalidModel("the change has infinite or undefined values", tensor=name)
    packed = layout.pack(sparsified(changes, config.sparsification), held)
    state = UpdateState() if state is None else state
    if not any(value.any() for value in packed.values()):
        return CodedChange(b"", layout.unpack({}, held), state.copy())
    kinds = {group.name: group.kind for group in layout.groups}
    floats = {name: value for name, value in packed.items() if value.dtype == np.float32}
    quantized = _quantized(kinds, floats, config, config.size * layout.float_bytes)
    plain = EncodeConfig(
        qp=0, qp_density=_QP_DENSITY, effort=config.effort, differences=True, topology_storage_format=None
    )
    candidates = [plain]
    if config.temporal and state.levels:
        candidates.append(plain.replace(temporal_contexts=True, history_contexts=True))
    data = min((_encoded(packed, quantized, candidate, state) for candidate in candidates), key=len)
    decoded = decode_change(layout, data, held, state)
    return dataclasses.replace(decoded, data=data)


def _encoded(
    packed: Model, quantized: Mapping[str, QuantizedTensor], config: EncodeConfig, state: UpdateState
) -> bytes:
    encoder = Encoder(config, state=state.copy())
    return encoder.encode(packed, quantized=quantized)


def _quantized(
    kinds: Mapping[str, GroupKind], values: Model, config: FederatedConfig, budget: float
) -> dict[str, QuantizedTensor]:
    """Return the levels of float groups.

    All weights get one step: to first order the value of a change for the loss is its power, wherever it is. The step
    has no fixed relation to the values: where no value stands out the quantiser might find none worth its bits, round
    after round, while what is due grows.

    Args:
        kinds: of all groups, by name.
        values: float32 by name.
        config: what weights and vectors carry.
        budget: bytes that weights may take.
    """
    weights = {name: value for name, value in values.items() if kinds[name] is GroupKind.WEIGHTS}
    vectors = {name: value for name, value in values.items() if kinds[name] is GroupKind.VECTORS}
    statistics = _clipped(qp_for_step(config.statistics_step, _QP_DENSITY))
    levels = {n: _at_qp(n, v, statistics, config) for n, v in values.items() if n not in weights and n not in vectors}
    levels.update(_finest(weights, config.carried, budget, config))
    coarsest = max((tensor.qp for name, tensor in levels.items() if name in weights), default=qp_range(_QP_DENSITY)[1])
    levels.update(_finest(vectors, config.vectors_carried, 0, config, coarsest))
    return levels


@dataclasses.dataclass(frozen=True, slots=True)
class _Trial:
    """Levels of some groups at one step: share of the power that they leave out, and their bytes."""

    qp: int
    levels: dict[str, QuantizedTensor]
    left: float
    size: int


def _tried(values: Model, qp: float, config: FederatedConfig) -> _Trial:
    used = _clipped(qp)
    levels = {name: _at_qp(name, value, used, config) for name, value in values.items()}
    power = sum(_power(value) for value in values.values())
    left = sum(_power(values[name] - tensor.values(_QP_DENSITY)) for name, tensor in levels.items()) / power
    return _Trial(used, levels, left, sum(map(_coded_bytes, levels.values())))


def _finest(
    values: Model, least: float, budget: float, config: FederatedConfig, highest: int | None = None
) -> dict[str, QuantizedTensor]:
    """Return levels with the finest step that keeps to a budget of bytes, or a finer one that carries ``least``.

    Nor is the step finer than what carries nearly all of the power. Of many values a sample of rows finds the step, and
    all of them correct it.
    """
    if not any(value.any() for value in values.values()):
        return {name: _at_qp(name, value, 0, config) for name, value in values.items()}
    total = sum(value.size for value in values.values())
    stride = max(1, total // _SAMPLED_VALUES)
    sample = {name: np.ascontiguousarray(value[::stride]) for name, value in values.items()}
    if stride == 1 or not any(value.any() for value in sample.values()):
        return _searched(values, least, budget, config, highest).levels
    share = sum(value.size for value in sample.values()) / total
    trial = _tried(values, _searched(sample, least, share * budget, config, highest).qp, config)
    for _ in range(1 << _QP_DENSITY):
        if trial.left > 1 - least:
            trial = _tried(values, trial.qp - 1, config)
            continue
        coarser = _tried(values, trial.qp + 1, config) if trial.size > budget else None
        if coarser is None or coarser.left > 1 - least:
            return trial.levels
        trial = coarser
    return _searched(values, least, budget, config, highest).levels  # the sample was not like the rest


def _searched(values: Model, least: float, budget: float, config: FederatedConfig, highest: int | None) -> _Trial:
    """Search all steps for the one of :func:`_finest`."""

    def is_enough(trial: _Trial) -> bool:
        return trial.left <= 1 - max(_MOST_CARRIED, least) or (trial.left <= 1 - least and trial.size > budget)

    power = sum(_power(value) for value in values.values())
    present = sum(int(np.count_nonzero(value)) for value in values.values())
    first = qp_for_step(_FIRST_STEP * (power / present) ** 0.5, _QP_DENSITY)
    coarser = fine = _tried(values, first if highest is None else min(first, highest), config)
    while not is_enough(fine) and fine.qp > qp_range(_QP_DENSITY)[0]:
        coarser, fine = fine, _tried(values, fine.qp - (1 << _QP_DENSITY), config)
    while coarser.qp - fine.qp > 1:
        middle = _tried(values, (coarser.qp + fine.qp) // 2, config)
        if is_enough(middle):
            fine = middle
        else:
            coarser = middle
    keeps_to_budget = fine.size <= budget or coarser.left > 1 - least
    return fine if keeps_to_budget else coarser


def _coded_bytes(tensor: QuantizedTensor) -> int:
    """Return the bytes of some levels, some per cent above what is sent: parameters are not searched here."""
    levels = CodedLevels(tensor.levels, tensor.levels.shape, tensor.qp, (0, 0), None, None)
    coding = TensorCoding(dependent=True, unary_length=_UNARY_LENGTH, has_parent=True)
    data, _ = encode_payload([levels], coding, qp_density=_QP_DENSITY, search=Search.OFF)
    return len(data)


def _power(value: Array) -> float:
    return float(np.sum(np.square(value, dtype=np.float64)))


def _at_qp(name: str, value: Array, qp: int, config: FederatedConfig) -> QuantizedTensor:
    levels, used = quantize(
        np.ascontiguousarray(value),
        qp=qp,
        qp_density=_QP_DENSITY,
        dependent=True,
        lambda_scale=config.rate_weight,
        unary_length=_UNARY_LENGTH,
        reference=False,
        name=name,
    )
    return QuantizedTensor(levels, used, dependent=True)


def _clipped(qp: float) -> int:
    low, high = qp_range(_QP_DENSITY)
    return min(max(round(qp), low), high)


def decode_change(
    layout: Layout, data: bytes, held: Mapping[str, Array], state: UpdateState | None = None
) -> CodedChange:
    """Decode a change of a model that this end holds too.

    Names, shapes and types of the stream are compared with the layout before anything is decoded.

    Args:
        layout: of the model.
        data: the stream; empty for no change.
        held: the model that both ends hold.
        state: of the updates before; None for the first one. It is not changed.

    Raises:
        InvalidBitstream: the stream is damaged, or its tensors are not those of the model.
        UnsupportedBitstream: the stream uses syntax that is not implemented.
        LimitExceeded: the stream claims more than the model can have.
        BaseMismatch: the stream builds on an update that was not decoded here.
    """
    state = UpdateState() if state is None else state
    if not data:
        return CodedChange(data, layout.unpack({}, held), state.copy())
    _check_headers(layout, data)
    decoder = Decoder(_limits(layout), state=state.copy())
    packed = decoder.decode(data)
    changes = layout.unpack(packed, held)
    for name, value in changes.items():
        if not is_integer(value.dtype) and not np.isfinite(value).all():
            raise InvalidBitstream(f"the update of tensor {name!r} has infinite values")
    return CodedChange(data, changes, decoder.state)


def _limits(layout: Layout) -> DecodeLimits:
    """Nothing that fits the model needs more."""
    groups = layout.groups
    values = 2 * layout.values
    return DecodeLimits(
        max_units=len(groups) + 8,
        max_tensors=len(groups),
        max_dimensions=2,
        max_elements=values,
        max_total_bytes=4 * values,
        max_cheap_elements=values,
        max_name_bytes=64,
        max_topology_bytes=1 << 16,
        max_codebook_size=1 << 16,
    )


def _check_headers(layout: Layout, data: bytes) -> None:
    groups: dict[str, Group] = {group.name: group for group in layout.groups}
    seen: set[str] = set()
    for extent in scan_units(memoryview(data), limits=_limits(layout)):
        if extent.unit_type not in _UNIT_TYPES:
            raise InvalidBitstream("the update has a unit that no update has", unit=extent.index, offset=extent.offset)
    for unit in index_stream(data, _limits(layout)).units:
        header = header_of(unit)
        for member in payload_members(header):
            group = groups.get(member.name)
            if group is None or header.is_block:
                raise InvalidBitstream(f"the update has a tensor {member.name!r}, which the model does not have")
            if member.name in seen:
                raise InvalidBitstream(f"the update has tensor {member.name!r} twice")
            seen.add(member.name)
            if tuple(member.shape) != group.shape:
                raise InvalidBitstream(
                    f"the update has tensor {member.name!r} of shape {tuple(member.shape)}, the model {group.shape}"
                )
            is_exact = header.nnr_compressed_data_unit_payload_type == PayloadType.INT
            if is_exact != (group.kind in (GroupKind.INTEGERS, GroupKind.UPPER_WORDS)):
                raise InvalidBitstream(f"the update has tensor {member.name!r} of another type than the model")


def sparsified(changes: Mapping[str, Array], rules: Sparsification | None) -> Mapping[str, Array]:
    """Return the change of a model with weights set to zero.

    Args:
        changes: from :meth:`Layout.difference`; not changed.
        rules: None leaves everything as it is.
    """
    if rules is None:
        return changes
    parameters = [Parameter(name, value, ParameterKind.WEIGHT, i) for i, (name, value) in enumerate(changes.items())]
    if rules.deviations is not None:
        parameters = sparsify_deviations(parameters, rules.deviations)
    if rules.share:
        parameters = sparsify_unstructured(parameters, steps=0.0, sparsity=rules.share)
    if rules.keep < 1:
        parameters = sparsify_largest(parameters, rules.keep)
    if rules.rows:
        parameters = sparsify_structured(parameters, gain=rules.rows)
    return {p.name: p.value for p in parameters}
