"""The parameters that a curve is measured at, on tools whose divergence is a known function."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

from netpress.evaluate.sampler import LOGITS_SPAN, CurveSampler, Sample, shift_of_size
from netpress.evaluate.tools import Made, Tool


def never(_: int) -> Made:
    raise AssertionError("the sampler measures through its own function")


class Curve:
    """A divergence that doubles every two parameters and is ``at_zero`` at parameter 0; counts its measurements."""

    def __init__(self, at_zero: float, tolerated: float = 1.0, most: float = math.inf) -> None:
        self.at_zero, self.tolerated, self.most = at_zero, tolerated, most
        self.measured: list[int] = []

    def __call__(self, tool: Tool, qp: int) -> Sample:
        self.measured.append(qp)
        divergence = min(self.at_zero * 2 ** (qp / 2), self.most)
        return Sample(divergence, max(divergence / self.tolerated, 1 / 64))


def tool(name: str = "a", start: int = -24) -> Tool:
    return Tool(name=name, make=never, start=start)


@pytest.mark.parametrize("at_zero", [1e-3, 1.0, 300.0])
def test_the_span_is_covered(at_zero: float) -> None:
    curve = Curve(at_zero)
    sampler = CurveSampler(curve, points=5, approaches=2, span=LOGITS_SPAN)
    sampler.sample(tool())
    for target in np.geomspace(*LOGITS_SPAN, 5):
        assert abs(sampler.nearest(tool(), float(target))[1]) <= 1.5
    assert len(curve.measured) == len(set(curve.measured)) <= 12


def test_the_next_tool_begins_where_the_middle_was() -> None:
    curve = Curve(10.0)
    sampler = CurveSampler(curve, points=5, approaches=2, span=LOGITS_SPAN)
    sampler.sample(tool("a"))
    first = len(curve.measured)
    sampler.sample(tool("b"))
    assert curve.measured[first] == sampler.nearest(tool("a"), sampler.middle)[0]
    assert len(curve.measured) - first <= 6


def test_the_span_lies_around_the_tolerance() -> None:
    curve = Curve(1.0, tolerated=0.02)
    sampler = CurveSampler(curve, points=3, approaches=1)
    assert sampler.span == LOGITS_SPAN
    sampler.sample(tool())
    low, high = sampler.span
    assert low < 0.02 < high
    assert high / low == pytest.approx(20)


def test_an_update_is_sampled_below_what_it_diverges_without_weights() -> None:
    curve = Curve(1000.0, most=0.01)
    without = CurveSampler(
        curve, points=3, approaches=1, span=LOGITS_SPAN, shift=-13, divergence_without_weights=lambda: 0.01
    )
    without.sample(tool())
    assert without.span[1] == pytest.approx(0.005)
    assert min(found.divergence for found in without.samples["a"].values()) < 0.001


def test_a_failure_ends_the_curve() -> None:
    curve = Curve(1.0)
    sampler = CurveSampler(
        lambda tool, qp: None if len(curve.measured) == 2 else curve(tool, qp), points=5, approaches=2, span=LOGITS_SPAN
    )
    sampler.sample(tool())
    assert len(sampler.samples["a"]) == 2
    sampler.sample(tool("b"))
    assert sampler.samples["b"] == {}


def test_small_weights_begin_finer() -> None:
    weights = np.random.default_rng(0).normal(0, 0.05, (64, 64)).astype(np.float32)
    assert shift_of_size({"w": weights, "b": np.ones(64, np.float32)}) == 0
    assert shift_of_size({"w": weights / 4}) == -8
    assert shift_of_size({"b": np.ones(64, np.float32)}) == 0
