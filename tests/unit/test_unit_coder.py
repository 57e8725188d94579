"""One data unit: methods, tools and sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import netpress
from netpress.bitstream import Codebook, MemberRole, PayloadType
from netpress.codec.unit_coder import CodedUnit, QuantizedMember, UnitJob, UnitTensor, code_members, code_unit
from netpress.config import EncodeConfig
from netpress.errors import InvalidConfig, InvalidModel
from netpress.parameters import ParameterKind
from netpress.quantize.steps import FixedStep


def tensor(value: Any, *, qp: int = -20, role: MemberRole = MemberRole.TENSOR, **others: Any) -> UnitTensor:
    kind = ParameterKind.WEIGHT if np.ndim(value) > 1 else ParameterKind.UNSPECIFIED
    return UnitTensor("w", role, kind, 0, np.asarray(value), FixedStep(qp), **others)


def coded(value: Any, qp: int = -20, **options: Any) -> CodedUnit:
    units = code_unit(UnitJob([tensor(value, qp=qp)], EncodeConfig(qp=-20, **options)))
    assert len(units) == 1
    return units[0]


NOISE = np.random.default_rng(0).laplace(0, 0.1, (24, 24)).astype(np.float32)


def test_headers() -> None:
    unit = coded(NOISE)
    assert unit.header.tensor_dimensions == (24, 24)
    assert unit.header.nnr_compressed_data_unit_payload_type == PayloadType.FLOAT
    assert unit.header.dq_flag == 1
    assert unit.header.node_id_present_flag == 0
    assert not unit.is_zero()
    assert coded(np.zeros((3, 3), np.float32)).is_zero()
    assert coded(NOISE, use_dq=False).header.dq_flag == 0
    integers = coded(np.arange(4, dtype=np.int32))
    assert integers.header.nnr_compressed_data_unit_payload_type == PayloadType.INT
    assert integers.levels["w"].tolist() == [0, 1, 2, 3]


def test_search_does_not_make_it_larger() -> None:
    assert len(coded(NOISE, context_search=True).payload) <= len(coded(NOISE, context_search=False).payload)


def test_rows_are_skipped_where_that_pays() -> None:
    sparse = NOISE.copy()
    sparse[::2] = 0
    sizes = {mode: len(coded(sparse, row_skipping=mode, lambda_scale=0.0).payload) for mode in (True, False, None)}
    assert sizes[None] == min(sizes.values())


def test_codebooks_where_they_pay() -> None:
    few = np.random.default_rng(1).choice(np.array([-100, 7, 9, 300], np.float32) / 32, (24, 24))
    assert coded(few, codebook_mode=2, use_dq=False).header.codebook is not None
    assert coded(few, codebook_mode=0, use_dq=False).header.codebook is None
    wide = np.random.default_rng(1).normal(0, 50, (8, 8)).astype(np.float32)
    assert coded(wide, codebook_mode=2).header.codebook is None
    assert coded(wide, codebook_mode=1).header.codebook is not None


def test_known_integers_are_coded_as_they_are() -> None:
    levels = np.arange(-8, 8, dtype=np.int32).reshape(4, 4)
    job = UnitJob([tensor(np.zeros((4, 4), np.float32))], EncodeConfig(qp=-20))
    unit = code_members([QuantizedMember(job.tensors[0], levels, -20, False, None)], job)[0]
    np.testing.assert_array_equal(unit.levels["w"], levels)
    assert unit.header.dq_flag == 0
    book = Codebook.cheapest([-1, 0, 4], 1)
    indexes = np.array([[-1, 0], [1, 1]], np.int32)
    job = UnitJob([tensor(np.zeros((2, 2), np.float32))], EncodeConfig(qp=-20))
    assert code_members([QuantizedMember(job.tensors[0], indexes, -20, False, book)], job)[0].header.codebook == book


@pytest.mark.parametrize("qp", [-129, 128])
def test_qps_that_cannot_be_coded(qp: int) -> None:
    with pytest.raises(InvalidConfig, match="'w'"):
        coded(NOISE / 100, qp=qp)


def test_values_that_no_qp_holds() -> None:
    with pytest.raises(InvalidModel, match="'w'"):
        coded(np.full((2, 2), 1e30, np.float32), qp=127)


def test_entry_points() -> None:
    unit = coded(NOISE, scan_order=1)
    assert unit.header.scan_order == 1
    assert len(unit.header.entry_points) == 2
    assert coded(NOISE[0], scan_order=1).header.scan_order == 0


def test_depths() -> None:
    job = UnitJob([tensor(NOISE)], EncodeConfig(qp=-20, differences=True, device_id=3), depth=2)
    header = code_unit(job)[0].header
    assert (header.node_id_present_flag, header.device_id, header.parameter_id, header.put_node_depth) == (1, 3, 0, 2)
    assert header.parent_node_id_present_flag == 1


def test_codebooks_at_the_finest_qp() -> None:
    # A codebook makes up for the missing trellis by a finer step, which may not be codable.
    model = {"": np.array(3.2009973e-07, np.float32), "w": np.full((3, 4), 1e-9, np.float32)}
    assert list(netpress.decode(netpress.encode(model, effort=8))) == ["", "w"]
    assert list(netpress.decode(netpress.encode(model, qp=-128, codebook_mode=1, nonweight_qp=-128))) == ["", "w"]
