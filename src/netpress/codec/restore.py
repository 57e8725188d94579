"""From decoded tensors to the tensors of the model.

Source: ISO/IEC 15938-17, reconstruction after decoding: local scaling, recomposition.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream import MemberRole, PayloadType, Unit, payload_members, payload_roles
from netpress.codec.index import header_of
from netpress.codec.record import CodedTensor, Output, Record
from netpress.errors import InvalidBitstream, InvalidModel, LimitExceeded
from netpress.limits import DecodeLimits
from netpress.transforms.decompose import recompose
from netpress.transforms.local_scaling import apply_scaling
from netpress.transforms.rebuild import Rebuild

__all__ = ["outputs_of", "reconstructed_outputs"]

Array = npt.NDArray[Any]
_SINGLE = np.dtype(np.float32)
_MOST_GROWTH = 4096
_MOST_STEPS = 4


def outputs_of(units: Sequence[Unit], record: Record) -> list[Output]:
    """Return how the tensors that the encoder was given come from the decoded ones.

    Raises:
        InvalidBitstream: the record does not fit the stream.
    """
    coded = []
    for unit in units:
        header = header_of(unit)
        is_integer = header.nnr_compressed_data_unit_payload_type == PayloadType.INT
        coded += [CodedTensor(m.name, m.shape, is_integer) for m in payload_members(header)]
    return record.outputs(coded)


def reconstructed_outputs(units: Sequence[Unit], record: Record, limits: DecodeLimits) -> list[Output]:
    """Return how plain weights come from the decoded tensors: scalings multiplied in, factors multiplied together.

    Scalings that stand for a folded batch norm are left to the record, which unfolds them, and which says what else has
    to be undone to get the tensors of the original network.

    Raises:
        InvalidBitstream: the record does not fit the stream.
        LimitExceeded: a tensor becomes larger than ``limits`` allow.
    """
    plain = outputs_of(units, record)
    outputs = {output.sources[0]: output for output in plain}
    folded = {layer.scaling for layer in record.folded}
    merged: dict[int, Output] = {}
    dropped: set[int] = set()
    for layer in _layers(units):
        scaling = layer.at.get(MemberRole.SCALING)
        if scaling in folded:
            scaling = None
        if layer.dimensions is not None:
            g, h = layer.at[MemberRole.G], layer.at[MemberRole.H]
            sources = (g, h) if scaling is None else (g, h, scaling)
            merged[g] = Output(layer.weight_name, sources, _recomposer(layer.dimensions), layer.dimensions, _SINGLE)
            dropped.add(h)
        elif scaling is not None:
            weight = layer.at[MemberRole.WEIGHT]
            old = outputs[weight]
            merged[weight] = Output(old.name, (weight, scaling), _scale, old.shape, _SINGLE)
        if scaling is not None:
            dropped.add(scaling)
    # A layer's own scaling is all ones where its batch norm was folded with it.
    own_scalings = {(layer.scaling,) for layer in record.folded if layer.own_scaling}
    whole = [
        merged.get(output.sources[0], output)
        for output in plain
        if (output.sources[0] not in dropped or output.sources[0] in folded) and output.sources not in own_scalings
    ]
    return _rebuilt(whole, record.rebuild, limits) if record.rebuild else whole


def _rebuilt(outputs: list[Output], steps: Sequence[Rebuild], limits: DecodeLimits) -> list[Output]:
    """Apply rebuild steps: the sources of each give way to its result, in the place of the first."""
    slots: list[Output | None] = list(outputs)
    places = {output.name: place for place, output in enumerate(outputs)}
    elements = sum(math.prod(output.shape) for output in outputs)
    steps_of: Counter[str] = Counter()
    for step in steps:
        missing = [name for name in step.sources if name not in places]
        if missing:
            raise InvalidBitstream(f"the record rebuilds from {missing[0]!r}, which the stream does not have")
        replaced = [places.pop(name) for name in step.sources]
        sources = [output for place in replaced if (output := slots[place]) is not None]
        steps_of[step.name] += 1
        if step.name in places or steps_of[step.name] > _MOST_STEPS:
            raise InvalidBitstream(f"the record makes {step.name!r} more than once")
        result = _built(step, sources, limits)
        elements += math.prod(result.shape)
        if elements > limits.max_elements:
            raise LimitExceeded(f"rebuilt tensors have more than {limits.max_elements} values", limit="max_elements")
        for place in replaced:
            slots[place] = None
        slots[min(replaced)], places[step.name] = result, min(replaced)
    return [output for output in slots if output is not None]


def _built(step: Rebuild, sources: Sequence[Output], limits: DecodeLimits) -> Output:
    """Return what a rebuild step makes."""
    try:
        shape = step.shape([source.shape for source in sources])
    except InvalidModel as error:
        raise InvalidBitstream(f"the record has an impossible rebuild step: {error}") from None
    size, given = math.prod(shape), sum(math.prod(source.shape) for source in sources)
    if size > _MOST_GROWTH * max(1, given) + limits.max_cheap_elements:
        raise LimitExceeded(f"a rebuilt tensor has {size} values", limit="max_cheap_elements")
    ends = list(itertools.accumulate(len(source.sources) for source in sources))
    cuts = list(zip([0, *ends], ends, strict=False))

    def build(arrays: Sequence[Array]) -> Array:
        parts = [source.build(arrays[a:b]) for source, (a, b) in zip(sources, cuts, strict=True)]
        return step.build(parts)

    positions = tuple(position for source in sources for position in source.sources)
    return Output(step.name, positions, build, shape, sources[0].dtype)


@dataclasses.dataclass(frozen=True, slots=True)
class _CodedLayer:
    """Positions of the tensors of one layer; ``dimensions`` is the shape of a decomposed weight."""

    weight_name: str
    at: dict[MemberRole, int]
    dimensions: tuple[int, ...] | None


def _layers(units: Sequence[Unit]) -> list[_CodedLayer]:
    """Find the layers: blocks, and runs of units that each carry one tensor of a layer, in payload order."""
    layers = []
    position = index = 0
    while index < len(units):
        header = header_of(units[index])
        count = 1 if header.is_block or not header.compressed_parameter_types else _run_length(units, index)
        headers = [header_of(unit) for unit in units[index : index + count]]
        members = [member for h in headers for member in payload_members(h)]
        if header.is_block or count > 1:
            roles = payload_roles(header.compressed_parameter_types)
            at = {role: position + i for i, role in enumerate(roles)}
            last = headers[-1]
            is_decomposed = MemberRole.G in at
            dimensions = tuple(last.tensor_dimensions or ()) if is_decomposed else None
            layers.append(_CodedLayer(last.weight_name, at, dimensions))
        position += len(members)
        index += count
    return layers


def _run_length(units: Sequence[Unit], start: int) -> int:
    """Return how many units from ``start`` carry the tensors of one layer, 1 if they do not make a whole layer."""
    first = header_of(units[start])
    roles = payload_roles(first.compressed_parameter_types)
    run = [header_of(unit) for unit in units[start : start + len(roles)]]
    if len(run) < len(roles) or any(
        h.is_block or h.compressed_parameter_types != first.compressed_parameter_types for h in run
    ):
        return 1
    members = [payload_members(h)[0] for h in run]
    matrix = next(m for role, m in zip(roles, members, strict=True) if role in (MemberRole.WEIGHT, MemberRole.G))
    is_factor = [m.role in (MemberRole.G, MemberRole.H) for m in members]
    fits = is_factor == [role in (MemberRole.G, MemberRole.H) for role in roles] and all(
        role.is_weight or member.shape == matrix.shape[:1] for role, member in zip(roles, members, strict=True)
    )
    return len(run) if fits else 1


def _recomposer(dimensions: tuple[int, ...]) -> Any:
    def build(arrays: Sequence[Array]) -> Array:
        g = arrays[0] if len(arrays) == 2 else apply_scaling(arrays[0], arrays[2])
        return np.asarray(recompose(g, arrays[1], dimensions))

    return build


def _scale(arrays: Sequence[Array]) -> Array:
    return np.asarray(apply_scaling(arrays[0], arrays[1]))
