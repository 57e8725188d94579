"""How networks are compared with their float ones."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("scipy")

import measures
import netpress
from measures import Network, Result, State

RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(50, 6))
WEIGHT = RANDOM.normal(size=(6, 4)).astype(np.float32)


def run(state: State) -> Result:
    logits = INPUTS @ state["weight"]
    return Result([{"output": row} for row in logits], netpress.Scores(100.0 * (logits.argmax(1) == 0)))


NETWORK = Network(
    name="linear",
    source={"weight": WEIGHT},
    tensors={"weight": WEIGHT},
    run=run,
    agree=measures.same_decisions(lambda heads: heads["output"].argmax(-1)),
    decisions="top-1",
    logits=("output", -1),
)


def test_a_network_agrees_with_itself() -> None:
    found = measures.measure(NETWORK, {"weight": WEIGHT})
    assert found.agreement == 1
    assert found.relative_error == 0
    assert found.kl == 0
    assert found.metric == found.float_metric
    assert found.interval_method == measures.WILSON
    assert found.inputs == found.decisions == 50


def test_noise_is_seen_by_every_measure() -> None:
    noise = 0.3 * np.random.default_rng(1).normal(size=WEIGHT.shape)
    found = measures.measure(NETWORK, {"weight": WEIGHT + noise})
    assert found.agreement is not None
    assert found.interval is not None
    assert found.agreement < 1
    assert found.interval[0] < found.agreement < found.interval[1]
    logits, changed = INPUTS @ WEIGHT, INPUTS @ (WEIGHT + noise)
    expected = np.linalg.norm(changed - logits) / np.linalg.norm(logits - logits.mean(0))
    assert found.relative_error == pytest.approx(expected)
    assert found.kl is not None
    assert found.kl > 0


def test_scores_of_the_float_network_are_aggregated_like_those_of_the_other() -> None:
    outputs = [{"output": np.array([0.0, 1.0, 2.0])}, {"output": np.array([1.0, 0.0, 0.0])}]
    reference = Result(outputs, netpress.Scores(np.array([1.0, 2.0, 9.0])))
    found = Result(outputs, netpress.Scores(np.array([1.0, 3.0, 9.0]), lambda samples: float(np.median(samples))))
    measured = measures.compare(dataclasses.replace(NETWORK, agree=None), reference, found)
    assert (measured.float_metric, measured.metric) == (2, 3)
    assert measured.agreement is None


def test_probabilities_and_their_logits_have_the_same_divergence() -> None:
    logits = RANDOM.normal(size=(2, 8))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    known = measures.kl_divergence(logits[0], logits[1])
    assert known == pytest.approx(np.sum(probabilities[0] * np.log(probabilities[0] / probabilities[1])))


def test_values_have_one_mean_and_outputs_count_alike() -> None:
    reference = [{"a": np.array([0.0, 2.0]), "b": np.array([0.0, 20.0])}]
    found = [{"a": np.array([1.0, 2.0]), "b": np.array([0.0, 20.0])}]
    assert measures.relative_error(reference, found) == pytest.approx(np.sqrt((1 / 2 + 0) / 2))


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"), [(0, 10, 0, 0.2775), (8, 10, 0.4902, 0.9433), (10, 10, 0.7225, 1)]
)
def test_the_interval_of_wilson(hits: int, count: int, low: float, high: float) -> None:
    assert measures.wilson(hits, count) == pytest.approx((low, high), abs=1e-4)


def test_the_bootstrap_resamples_inputs_and_not_their_decisions() -> None:
    halves = np.array([[1000, 1000], [500, 1000]] * 5)
    low, high = measures.bootstrap(halves)
    assert high - low > 0.2
    assert measures.bootstrap(np.array([[10, 10], [20, 20]])) == (1, 1)


def test_boxes_have_one_partner_of_their_class() -> None:
    boxes = np.array([[1, 0.9, 0, 0, 10, 10], [1, 0.8, 20, 20, 30, 30], [2, 0.7, 0, 0, 10, 10]])
    moved = np.array([[1, 0.9, 1, 0, 11, 10], [1, 0.8, 0, 1, 10, 11], [2, 0.7, 8, 0, 18, 10]])
    agree = measures.same_boxes(lambda heads: heads["boxes"])
    assert agree({"boxes": boxes}, {"boxes": boxes}) == (6, 6)
    assert agree({"boxes": boxes}, {"boxes": moved}) == (2, 6)
    assert agree({"boxes": boxes[:0]}, {"boxes": moved}) == (0, 3)


def test_overlapping_boxes_are_suppressed_within_a_class() -> None:
    boxes = np.array([[1, 0.5, 0, 0, 10, 10], [1, 0.9, 1, 0, 11, 10], [2, 0.4, 0, 0, 10, 10]])
    assert measures.suppress(boxes).tolist() == [boxes[1].tolist(), boxes[2].tolist()]
    assert measures.suppress(boxes[:0]).shape == (0, 6)
