"""Rebuild steps: weights of the original network from those of a stream."""

import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import netpress
from netpress import DecodeLimits, InvalidBitstream, InvalidModel, LimitExceeded
from netpress.codec.encoder import Encoder
from netpress.codec.record import Record
from netpress.transforms.rebuild import Rebuild, Scatter, Transpose, Tucker, rebuild_from_json, rebuild_to_json

RNG = np.random.default_rng(3)


def stream_of(model: dict[str, np.ndarray], rebuild: list[Rebuild], recipe: dict | None = None) -> bytes:
    sink = io.BytesIO()
    Encoder(qp=-40).encode_to(sink, model, record=Record(rebuild=rebuild, recipe=recipe))
    return sink.getvalue()


@given(st.sets(st.integers(0, 40), min_size=1), st.sets(st.integers(0, 6), min_size=1))
def test_scatter_round_trip(rows: set[int], columns: set[int]) -> None:
    step = Scatter.keeping("w", (41, 3, 7), {0: sorted(rows), 2: sorted(columns)})
    assert rebuild_from_json(json.loads(json.dumps(rebuild_to_json(step)))) == step
    small = RNG.normal(size=(len(rows), 3, len(columns))).astype(np.float32)
    full = step.build([small])
    assert step.shape([small.shape]) == full.shape
    np.testing.assert_array_equal(full[sorted(rows)][:, :, sorted(columns)], small)
    assert np.count_nonzero(full) == np.count_nonzero(small)


@pytest.mark.parametrize("step", [Transpose("a.b", (0, 2, 1, 3)), Tucker("w"), Scatter("w", (3,), {0: ((1, 1),)})])
def test_json_round_trip(step: Rebuild) -> None:
    assert rebuild_from_json(json.loads(json.dumps(rebuild_to_json(step)))) == step


def test_streams_carry_rebuild_steps_and_recipe() -> None:
    weight = RNG.normal(size=(4, 6, 3, 3)).astype(np.float32)
    left, core, right = (RNG.normal(size=shape).astype(np.float32) for shape in [(5, 2), (2, 3, 3, 3), (3, 7)])
    small = RNG.normal(size=(2, 3)).astype(np.float32)
    model = {"t": weight.transpose(0, 2, 1, 3), "k_left": left, "k_core": core, "k_right": right, "s": small}
    steps = [Transpose("t", (0, 2, 1, 3)), Tucker("k"), Scatter.keeping("s", (4, 3), {0: (1, 3)})]
    data = stream_of(model, steps, {"stages": []})
    assert list(netpress.decode(data)) == list(model)
    whole = netpress.decode(data, reconstruct=True)
    assert list(whole) == ["t", "k", "s"]
    np.testing.assert_allclose(whole["t"], weight, atol=3e-3)
    np.testing.assert_allclose(whole["k"], np.einsum("oa,abxy,bi->oixy", left, core, right), atol=3e-2)
    np.testing.assert_allclose(whole["s"][[1, 3]], small, atol=3e-3)
    assert not whole["s"][[0, 2]].any()


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ([Transpose("w", (0, 1, 2))], InvalidBitstream),
        ([Transpose("nothing", (0, 1))], InvalidBitstream),
        ([Scatter("w", (5, 4), {0: ((0, 1),)})], InvalidBitstream),
        ([Scatter("w", (2**24, 4), {0: ((3, 2**24 - 3),)})], LimitExceeded),
        ([Scatter("w", (3, 2**30), {1: ((5, 2**30 - 5),)})], InvalidBitstream),
        ([Tucker("w")], InvalidBitstream),
        ([Transpose("w", (1, 0))] * 5000, InvalidBitstream),
        ([Scatter("v", (2**20 + 3,), {0: ((3, 2**20),)})] * 2, InvalidBitstream),
    ],
)
def test_impossible_steps(steps: list[Rebuild], error: type[Exception]) -> None:
    data = stream_of({"w": np.ones((3, 4), np.float32), "v": np.ones(3, np.float32)}, steps)
    with pytest.raises(error):
        netpress.decode(data, reconstruct=True, limits=DecodeLimits(max_elements=2**25, max_cheap_elements=2**20))
    assert list(netpress.decode(data)) == ["w", "v"]


@pytest.mark.parametrize(
    "content",
    [
        ["bend", "w"],
        ["tucker", 5],
        ["tucker", "w", 1],
        ["transpose", "w", list(range(99))],
        ["scatter", "w", [-1], {}],
        ["scatter", "w", [4], {"0": [0]}],
        ["scatter", "w", [4], {"0": [3, 2]}],
        ["scatter", "w", [4], {"0": [-1, 1]}],
        ["scatter", "w", [4], {"1": [0, 1]}],
    ],
)
def test_records_that_are_no_steps(content: list) -> None:
    with pytest.raises((ValueError, TypeError, IndexError)):
        rebuild_from_json(content)
    with pytest.raises(InvalidBitstream):
        Record.from_bytes(b"netpress:" + json.dumps({"v": 1, "rebuild": [content]}).encode())


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(InvalidModel, match="'w'"):
        Tucker("w").shape([(4, 2), (3, 2, 3), (2, 5)])
