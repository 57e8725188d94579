"""The only door to the extension: its stub, its values, and how its failures become errors."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import netpress
from netpress import native
from netpress.errors import InvalidBitstream, InvalidModel, Reason
from netpress.quantize.feedback import factor, quantize_feedback

ROOT = Path(__file__).parents[2]


def test_the_stub_is_that_of_the_extension() -> None:
    pytest.importorskip("nanobind")
    command = [sys.executable, str(ROOT / "tools" / "make_stub.py"), "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_reasons_are_those_of_the_core() -> None:
    assert [status.name for status in native.Status if status != native.Status.OK] == [r.name for r in Reason]
    assert {native.reason_of(s) for s in native.Status if s != native.Status.OK} == set(Reason)


def test_a_coding_is_one_immutable_value() -> None:
    coding = native.TensorCoding(dependent=True, unary_length=3, scan_order=2, has_parent=True)
    history = np.ones(12, np.uint8)
    own = coding.for_tensor(3, 4, history, None, 7, 1)
    assert (own.rows, own.columns, own.codebook_size, own.codebook_zero_offset) == (3, 4, 7, 1)
    assert own.dependent
    assert own.has_parent
    assert (own.unary_length, own.scan_order) == (3, 2)
    assert (coding.rows, coding.columns, coding.codebook_size) == (0, 0, 0)
    with pytest.raises(AttributeError):
        coding.dependent = False  # type: ignore[misc]
    with pytest.raises(ValueError, match="history map"):
        coding.for_tensor(3, 5, history)
    with pytest.raises(ValueError, match="base tensor"):
        native.TensorCoding(3, 5, base=np.zeros(14, np.int32))
    with pytest.raises(ValueError, match="dimensions"):
        coding.for_tensor(1 << 40, 1 << 40)


def test_a_coding_keeps_its_arrays_alive() -> None:
    levels = np.arange(-6, 6, dtype=np.int32)

    def payload() -> bytes:
        coding = native.TensorCoding(3, 4, has_parent=True, use_history=True, history=np.ones(12, np.uint8))
        assert np.full(1 << 16, 7, np.uint8).any()  # takes the memory, if it is free
        encoder = native.PayloadEncoder()
        encoder.tensor(levels, coding)
        return encoder.finish()[0]

    assert payload() == payload()


def test_other_exceptions_pass() -> None:
    with pytest.raises(KeyError), native.failing_as(lambda message, reason: InvalidModel(message)):
        raise KeyError
    encoder = native.PayloadEncoder()
    translated = native.failing_as(lambda message, reason: InvalidModel(message, reason=reason))
    with pytest.raises(InvalidModel, match="too large") as caught, translated:
        encoder.field(1 << 20, 8)
    assert caught.value.reason is Reason.LEVEL_OUT_OF_RANGE
    assert caught.value.__suppress_context__


def test_damage_has_a_reason() -> None:
    data = netpress.encode({"w": np.linspace(-1, 1, 600, dtype=np.float32).reshape(20, 30)}, qp=-20)
    assert InvalidBitstream("no coder took part").reason is None
    reasons = set()
    for end in range(10, 60, 10):
        damaged = bytearray(data)
        damaged[-end:-2] = bytes(end - 2)
        with pytest.raises(netpress.NetpressError) as caught:
            netpress.decode(bytes(damaged))
        reasons.add(caught.value.reason)
        assert pickle.loads(pickle.dumps(caught.value)).reason is caught.value.reason
    assert reasons & {Reason.TRUNCATED, Reason.BAD_TERMINATION, Reason.RESERVED_FLAG, Reason.BAD_START}


def test_weights_that_are_too_large_have_a_reason() -> None:
    weights = np.full((2, 3), 1e6, np.float32)
    with pytest.raises(InvalidModel, match="too many steps large") as caught:
        quantize_feedback(weights, factor(np.eye(3)), qp=-40)
    assert caught.value.reason is Reason.LEVEL_OUT_OF_RANGE
