"""The reference preset makes NNCodec's streams byte for byte, from the integers that they hold."""

import hashlib
import io

import numpy as np
import pytest
from reference import config_of, is_update, source_of
from vectors import NAMES, Vector, vector

from netpress.bitstream import Codebook, DataUnit, MemberRole, UnitReader, UnitWriter, payload_members
from netpress.codec.decoder import decode_unit
from netpress.codec.index import header_of, index_stream
from netpress.codec.prepare import StreamUnit, prepare_model
from netpress.codec.unit_coder import CodedUnit, QuantizedMember, UnitJob, UnitTensor, code_members, code_unit
from netpress.codec.update_state import UpdateState
from netpress.config import EncodeConfig
from netpress.limits import DecodeLimits
from netpress.quantize.steps import FixedStep

RECODED = [name for name in NAMES if vector(name).meta["checks"]["reencode_levels"]]


def units_of(v: Vector) -> list:
    return index_stream(v.stream, DecodeLimits(), v.meta.get("out_of_band_dimensions")).units


def integers_of(v: Vector) -> dict[str, np.ndarray]:
    """The integers in the stream: as NNCodec gives them, or as decoded where the vector is too large to hold them."""
    given = v.levels()
    if given is not None:
        return given
    decoded: dict[str, np.ndarray] = {}
    for unit in units_of(v):
        for part in decode_unit(unit, keep_levels=True, first_edition_1_0=v.is_first_edition_1_0).levels:
            decoded[part.member.name] = part.levels.reshape(part.member.shape)
    for name, levels in decoded.items():
        assert hashlib.sha256(levels.astype("<i4").tobytes()).hexdigest() == v.meta["levels"][name]["levels_sha256"]
    return decoded


def codebooks_of(v: Vector) -> dict[str, Codebook | None]:
    books = {}
    for header in map(header_of, units_of(v)):
        for member in payload_members(header):
            of_weight = header.codebook_h if header.is_block and member.role is MemberRole.H else header.codebook
            books[member.name] = of_weight if member.role.is_weight or not header.is_block else None
    return books


def coded_units(
    v: Vector,
    unit: StreamUnit,
    config: EncodeConfig,
    integers: dict[str, np.ndarray],
    books: dict[str, Codebook | None],
    state: UpdateState,
) -> list[CodedUnit]:
    """One data unit: all that the values were needed for is in the vector's integers."""
    tensors, members = [], []
    for role, parameter in unit.members:
        name, value = parameter.name, parameter.value
        tensor = UnitTensor(name, role, parameter.kind, parameter.parameter_id, value, FixedStep(0))
        if name not in config.raw_float:
            coded = v.meta["levels"][name]
            is_integer = coded["method"] == "skip"
            tensor.value = integers[name] if is_integer else np.zeros(value.shape, np.float32)
            levels, qp = integers[name].reshape(value.shape), None if is_integer else coded["qp"] or 0
            members.append(QuantizedMember(tensor, levels, qp, bool(coded["dq_flag"]), books[name]))
        tensor.base = state.levels.get(name) if config.temporal_contexts else None
        tensor.history = state.histories.get(name) if config.history_contexts else None
        tensors.append(tensor)
    job = UnitJob(tensors, config, dimensions=unit.block.dimensions if unit.block else None)
    leader = unit.weight.name
    if config.profile == 1:
        job.depth = state.depths.get(leader, 0) + 1 if is_update(v) else 0
        job.temporal = config.temporal_contexts and config.differences and leader in state.levels
    return code_members(members, job) if members else code_unit(job)


def stream_of(v: Vector, state: UpdateState) -> bytes:
    """Code a vector from its integers, with parameter sets as they are, and keep what later updates need."""
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    for unit in UnitReader(v.stream, dimensions=v.meta.get("out_of_band_dimensions")):
        if not isinstance(unit.content, DataUnit):
            writer.write(unit.content)
    config, integers, books = config_of(v), integers_of(v), codebooks_of(v)
    present = set(v.meta["expected_order"])
    for unit in prepare_model(source_of(v), config).units:
        names = {parameter.name for _, parameter in unit.members}
        if config.signals_parents and not names & present:
            continue  # all zero: not sent
        for coded in coded_units(v, unit, config, integers, books, state):
            writer.write(coded.header, coded.payload)
            if is_update(v):
                for name, levels in coded.levels.items():
                    state.update(name, levels, coded.header.parameter_id, in_update=config.differences)
    writer.finish()
    return sink.getvalue()


@pytest.mark.parametrize("name", RECODED)
def test_same_bytes_from_integers(name: str) -> None:
    v = vector(name)
    state = UpdateState()
    for earlier in v.earlier:
        stream_of(earlier, state)
    assert stream_of(v, state) == v.stream
