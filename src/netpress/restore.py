"""From decoded tensors to the tensors of the model.

Source: ISO/IEC 15938-17, reconstruction after decoding: local scaling, recomposition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream import DataUnit, MemberRole, Unit, payload_members
from netpress.record import Output, Record
from netpress.transforms.decompose import recompose
from netpress.transforms.local_scaling import apply_scaling

__all__ = ["outputs_of", "reconstructed_outputs"]

Array = npt.NDArray[Any]


def outputs_of(units: Sequence[Unit], record: Record) -> list[Output]:
    """Return how the tensors that the encoder was given come from the decoded ones.

    Raises:
        InvalidBitstream: the record does not fit the stream.
    """
    return record.outputs([member.name for unit in units for member in payload_members(_header(unit))])


def reconstructed_outputs(units: Sequence[Unit], record: Record) -> list[Output]:
    """Return how plain weights come from the decoded tensors: scalings multiplied in, factors multiplied together.

    Scalings that stand for a folded batch norm are left to the record, which unfolds them.

    Raises:
        InvalidBitstream: the record does not fit the stream.
    """
    outputs = {output.sources[0]: output for output in outputs_of(units, record) if len(output.sources) == 1}
    merged: dict[int, Output] = {}
    dropped: set[int] = set()
    folded = {layer.scaling for layer in record.folded}
    position = 0
    for unit in units:
        header = _header(unit)
        members = payload_members(header)
        at = {member.role: position + i for i, member in enumerate(members)}
        position += len(members)
        if not header.is_block:
            continue
        scaling = at.get(MemberRole.SCALING)
        if scaling in folded:
            scaling = None
        if MemberRole.G in at:
            g, h = at[MemberRole.G], at[MemberRole.H]
            dimensions = tuple(header.tensor_dimensions or ())
            sources = (g, h) if scaling is None else (g, h, scaling)
            merged[g] = Output(header.weight_name, sources, _recomposer(dimensions))
            dropped.add(h)
        elif scaling is not None:
            weight = at[MemberRole.WEIGHT]
            name = outputs[weight].name if weight in outputs else header.name
            merged[weight] = Output(name, (weight, scaling), lambda arrays: apply_scaling(arrays[0], arrays[1]))
        if scaling is not None:
            dropped.add(scaling)
    return [
        merged.get(output.sources[0], output)
        for output in outputs_of(units, record)
        if output.sources[0] not in dropped or output.sources[0] in folded
    ]


def _recomposer(dimensions: tuple[int, ...]) -> Any:
    def build(arrays: Sequence[Array]) -> Array:
        g = arrays[0] if len(arrays) == 2 else apply_scaling(arrays[0], arrays[2])
        return np.asarray(recompose(g, arrays[1], dimensions))

    return build


def _header(unit: Unit) -> DataUnit:
    if not isinstance(unit.content, DataUnit):
        raise TypeError("not a data unit")
    return unit.content
