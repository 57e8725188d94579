"""Divergence of outputs, intervals by resampling, and the search for the transparent point, on small networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import netpress
from netpress import InvalidConfig, Scores, Task
from netpress.evaluate import confidence_interval, divergence, resample, standard_error, transparent_point
from netpress.evaluate.curves import bytes_at, compare
from netpress.evaluate.transparency import coarsest_that_passes, transparent_bytes, transparent_count

torch = pytest.importorskip("torch")


def made(outputs: str, batch: Any, **rest: Any) -> Task:
    return Task(outputs=outputs, evaluation_batches=[batch, batch], **rest)


class Add(torch.nn.Module):
    """Adds a parameter to its input."""

    def __init__(self, value: list[float]) -> None:
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.value


def test_divergence_of_logits() -> None:
    """Two classes: 1/2 and 1/2 against 3/4 and 1/4."""
    scores = divergence(made("logits", torch.zeros(3, 2)), Add([0.0, 0.0]), Add([math.log(3), 0.0]))
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert scores.samples == pytest.approx([expected] * 6)
    same = divergence(made("logits", torch.zeros(3, 2)), Add([0.0, 1.0]), Add([2.0, 3.0]))
    assert same.value == pytest.approx(0, abs=1e-6)


def test_divergence_of_positions() -> None:
    """Classes are last for sequences and second for images; positions are averaged."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 5, 7, generator=generator)
    other = [0.3, -0.1, 0.2, 0.0, 0.5, -0.7, 0.1]
    of_sequence = divergence(made("logits", logits), Add([0.0] * 7), Add(other))
    as_image = logits.permute(0, 2, 1)[..., None]

    class AddToChannels(Add):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.value[:, None, None]

    of_image = divergence(made("logits", as_image), AddToChannels([0.0] * 7), AddToChannels(other))
    assert of_sequence.samples == pytest.approx(of_image.samples)
    assert of_sequence.samples.shape == (4,)
    assert (of_sequence.samples > 0).all()


def test_divergence_of_values() -> None:
    batch = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    scores = divergence(made("values", batch), Add([0.0, 0.0]), Add([1.0, 0.0]))
    assert scores.samples[:2].tolist() == [[1, 25], [1, 1]]
    assert scores.value == pytest.approx(2 / 26)


def test_divergence_takes_dictionaries() -> None:
    class Named(Add):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # as in transformers
            return super().forward(x)

    task = Task(evaluation_batches=[{"x": torch.ones(2, 2)}])
    assert divergence(task, Named([0.0, 0.0]), Named([0.0, 1.0])).value == pytest.approx(0.5)


def test_interval_covers_the_truth() -> None:
    """About 95 % of intervals hold the mean of the distribution; the standard error is that of a mean."""
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(100):
        scores = Scores(random.normal(3, 1, 50))
        low, high = confidence_interval(scores, resamples=200, seed=seed)
        covered += low <= 3 <= high
    assert 85 <= covered <= 100
    assert standard_error(Scores(random.normal(3, 1, 400))) == pytest.approx(0.05, rel=0.2)


def test_pairs_vary_less() -> None:
    random = np.random.default_rng(0)
    reference = Scores(random.normal(0, 1, 200))
    scores = Scores(reference.samples + 0.1)
    assert confidence_interval(scores, reference) == pytest.approx((0.1, 0.1))
    assert standard_error(scores, reference) < 1e-9 < standard_error(scores)
    assert np.array_equal(resample(scores, seed=1, resamples=5), resample(scores, seed=1, resamples=5))
    with pytest.raises(InvalidConfig, match="200 and 3 samples"):
        resample(scores, Scores(np.zeros(3)))
    with pytest.raises(InvalidConfig, match="level"):
        confidence_interval(scores, level=95)


def error_task(direction: str) -> Task:
    """The metric is the error of the weights, or minus that."""

    def model() -> torch.nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return torch.nn.Linear(32, 32)

    original = model().weight.detach().clone()
    sign = 1 if direction == "min" else -1

    def evaluate(module: Any) -> float:
        return sign * float((module.weight.detach() - original).square().sum())

    return Task(name="error", model=model, evaluate=evaluate, direction=direction)


@pytest.mark.parametrize("direction", ["min", "max"])
def test_transparent_point(direction: str) -> None:
    """The bisection finds what trying every parameter finds."""
    task = error_task(direction)
    point = transparent_point(task, 0.05, finest=-40, coarsest=-10)

    def loss(qp: int) -> float:
        state = netpress.decode(netpress.encode(task.model(), qp=qp))
        difference = state["weight"] - task.model().weight.detach().numpy()
        return float(np.square(difference.astype(np.float64)).sum())

    assert point.qp == max(qp for qp in range(-40, -9) if loss(qp) <= 0.05)
    assert -40 < point.qp < -10
    assert point.loss == pytest.approx(loss(point.qp), rel=1e-4)
    assert point.stream == netpress.encode(task.model(), qp=point.qp)
    assert len(point.tried) <= 7
    assert point.tried[point.qp] == (len(point.stream), point.loss)


def test_no_transparent_point() -> None:
    with pytest.raises(InvalidConfig, match="at qp -12 the loss is"):
        transparent_point(error_task("min"), 1e-9, finest=-12)
    assert transparent_point(error_task("min"), 1e9, finest=-30, coarsest=-20).qp == -20


@pytest.mark.parametrize("known", [{-20: True}, {0: False}, {-3: False, -40: True}, {-60: True, 17: False}])
def test_coarsest_that_passes(known: dict[int, bool]) -> None:
    """From any knowledge, it finds the last one before the first failure, and asks for none twice."""
    asked: list[int] = []

    def passes(qp: int) -> bool:
        asked.append(qp)
        return qp <= -11

    assert coarsest_that_passes(passes, known, finest=-60, coarsest=16) == -11
    assert len(set(asked)) == len(asked) <= 7
    assert not set(asked) & set(known)


def test_coarsest_at_the_bounds() -> None:
    assert coarsest_that_passes(lambda _: True, {0: True}, finest=-60, coarsest=16) == 16
    assert coarsest_that_passes(lambda _: False, {0: False}, finest=-60, coarsest=16) is None
    assert coarsest_that_passes(lambda qp: qp < -30, {0: False}, finest=-60, coarsest=16, tries=1) is None
    # Ups and downs: what passes beyond a failure does not count.
    assert coarsest_that_passes(lambda _: True, {-20: True, -19: False, 0: True}, finest=-60, coarsest=16) == -20


def test_bytes_at_equal_divergence() -> None:
    halving = [(0.01, 4000), (0.04, 1000), (0.02, 9000)]
    assert bytes_at(halving, 0.02) == pytest.approx(2000)
    assert math.isnan(bytes_at(halving, 0.05))
    found = compare([[(0.02, 1000), (0.08, 250)]], [halving, [(0.01, 10**6), (0.04, 10**6)]])
    assert found is not None
    assert (found.ratio, found.lowest, found.highest) == pytest.approx((0.5, 0.02, 0.04))
    assert compare([halving], []) is None
    assert compare([halving], [[(0.05, 10), (0.06, 9)]]) is None


def test_transparent_points_end_at_the_first_loss_that_is_too_large() -> None:
    assert transparent_count([True, True, False, True]) == 2
    assert transparent_count([]) == 0
    points = [(500, 0.0), (4000, 0.0), (1000, 1.0)]  # that 500 bytes lose nothing is chance
    assert transparent_bytes(points, 0.5) == (pytest.approx(2000), False)
    assert transparent_bytes(points[:2], 0.5) == (pytest.approx(500), True)
    assert math.isnan(transparent_bytes([(900, 2.0)], 0.5)[0])
