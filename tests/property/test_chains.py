"""Any sequence of models: a chain restores each as encoding and decoding by hand does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_roundtrip import float_arrays, integer_arrays

import netpress
from netpress import UpdateChain

Array = np.ndarray[Any, Any]
Model = dict[str, Array]
NAMES = ["w", "b", "steps", "a.upper", "a", "w_G"]

# Few names, so that tensors stay, change their type or shape, go, and come back.
models = st.dictionaries(st.sampled_from(NAMES), st.one_of(integer_arrays(), float_arrays()), min_size=1, max_size=4)
relaxed = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def sequences(draw: st.DrawFn) -> list[Model]:
    """Models in a row; each takes most tensors of the one before, moved a little."""
    model = draw(models)
    sequence = [model]
    for _ in range(draw(st.integers(0, 4))):
        generator = np.random.default_rng(draw(st.integers(0, 2**32)))
        model = {name: moved(value, generator) for name, value in model.items() if generator.random() < 0.8}
        model.update(draw(st.dictionaries(st.sampled_from(NAMES), float_arrays(), max_size=2)))
        model = model or draw(models)
        sequence.append(model)
    return sequence


def moved(value: Array, generator: np.random.Generator) -> Array:
    if value.dtype.kind in "biu":
        return value ^ (generator.random(value.shape) < 0.2).astype(value.dtype)
    with np.errstate(over="ignore"):
        new = value.astype(np.float32) + generator.normal(0, 0.02, value.shape).astype(np.float32)
    return np.asarray(new).astype(value.dtype)


def assert_same(a: Model, b: Model) -> None:
    assert list(a) == list(b)
    for name, value in a.items():
        assert (value.dtype, value.shape, value.tobytes()) == (b[name].dtype, b[name].shape, b[name].tobytes())


def tolerance(value: Array, step: float) -> float:
    """One quantisation and the rounding of the type; not the number of versions before."""
    eps = float(ml_dtypes.finfo(value.dtype).eps) + 2.0**-22
    tiny = float(ml_dtypes.finfo(value.dtype).smallest_subnormal)
    return 0.51 * step + eps * (step + float(np.abs(value.astype(np.float64)).max())) + tiny


@relaxed
@given(sequences(), st.sampled_from([None, 1, 2, 3]))
def test_versions_are_those_chained_by_hand(sequence: list[Model], every: int | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        chain = UpdateChain.create(Path(name), sequence[0], keyframe_every=every)
        held = netpress.decode(netpress.encode(sequence[0]))
        by_hand = [held]
        for i, model in enumerate(sequence[1:], 1):
            assert chain.append(model) == i
            base = None if every is not None and i % every == 0 else held
            held = netpress.decode(netpress.encode(model, base=base), base=base)
            by_hand.append(held)
        opened = UpdateChain.open(name)
        for version in reversed(range(len(sequence))):
            assert_same(opened.load(version), by_hand[version])
            assert_same(chain.load(version), by_hand[version])
            assert set(by_hand[version]) == set(sequence[version])
        assert opened.verify() == []


@pytest.mark.filterwarnings("ignore:the steps are too coarse")
@relaxed
@given(sequences(), st.integers(-32, -12), st.data())
def test_the_error_is_that_of_one_quantisation(sequence: list[Model], qp: int, data: st.DataObject) -> None:
    options = {"qp": qp, "nonweight_qp": qp, "use_dq": False, "lambda_scale": 0.0}
    step = (4 + qp % 4) * 2.0 ** (qp // 4 - 2)
    with tempfile.TemporaryDirectory() as name:
        chain = UpdateChain.create(Path(name), sequence[0], **options)
        for model in sequence[1:]:
            chain.append(model)
        quantisations = np.ones(len(sequence))
        for version, model in enumerate(sequence):
            assert_near(chain.load(version), model, step)
        if len(sequence) > 1:
            first = data.draw(st.integers(0, len(sequence) - 2))
            last = data.draw(st.integers(first + 1, len(sequence) - 1))
            chain.squash(first, last)
            quantisations[last:] += 1
        for version in chain.versions:
            assert_near(chain.load(version), sequence[version], step * quantisations[version])
        assert chain.verify() == []


def assert_near(restored: Model, model: Model, step: float) -> None:
    assert set(restored) == set(model)
    for name, value in model.items():
        assert restored[name].dtype == value.dtype
        assert restored[name].shape == value.shape
        if value.dtype.kind in "biu":
            assert restored[name].tobytes() == value.tobytes()
        elif value.size:
            difference = np.abs(restored[name].astype(np.float64) - value.astype(np.float64)).max()
            assert difference <= tolerance(value, step), name
