"""The curve through all trials: what it says of noisy drops whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from netpress import Scores
from netpress.promise.curve import DropCurve, expected_drop, sampling_variance

CHANGE = 0.01 * 2.0 ** np.arange(-5, 5)


def trials_of(random: np.random.Generator, samples: int) -> tuple[Scores, list[Scores]]:
    """Scores of a network that is right for 80 %, and those of trials that shift and blur its margins."""
    margin = random.normal(1.0, 1.2, samples)
    right = (margin > 0).astype(float)
    found = []
    for change in CHANGE:
        found.append((margin - 10 * change + 2 * np.sqrt(change) * random.normal(size=samples) > 0).astype(float))
    return Scores(right), [Scores(one) for one in found]


def true_drops() -> np.ndarray:
    reference, trials = trials_of(np.random.default_rng(1000), 200_000)
    return np.array([reference.value - trial.value for trial in trials])


TRUE = true_drops()


def curve_of(reference: Scores, trials: list[Scores], scale: float) -> tuple[DropCurve, np.ndarray]:
    drop = np.array([reference.value - trial.value for trial in trials])
    variance = sampling_variance(CHANGE[: len(trials)], reference, trials)
    return DropCurve(CHANGE, drop, variance, scale, expected_drop(CHANGE, reference, trials)), drop


def test_together_trials_say_more_than_each_by_itself() -> None:
    near = np.flatnonzero((TRUE > 0.005) & (TRUE < 0.04))
    assert len(near) >= 2
    alone, together, inside = [], [], []
    for seed in range(40):
        reference, trials = trials_of(np.random.default_rng(seed), 200)
        curve, drop = curve_of(reference, trials, 0.02)
        alone.append(drop[near] - TRUE[near])
        together.append(curve.trials.mean[near] - TRUE[near])
        inside.append(TRUE[near] <= curve.trials.quantile(0.84)[near])
    assert np.sqrt(np.square(together).mean()) < 0.9 * np.sqrt(np.square(alone).mean())
    # Not the 0.8 of independent noise: the trials share their samples.
    assert np.mean(inside) >= 0.5


def test_exact_drops_are_believed() -> None:
    drop = 3 * CHANGE * (1 + 0.2 * np.sin(np.arange(10)))
    curve = DropCurve(CHANGE, drop, np.zeros(10), scale=0.05)
    near = drop < 0.2
    assert curve.trials.mean[near] == pytest.approx(drop[near], abs=1e-5)
    assert (curve.trials.deviation[near] < 1e-4).all()


def test_the_curve_rises_with_the_change() -> None:
    reference, trials = trials_of(np.random.default_rng(3), 200)
    curve, _ = curve_of(reference, trials, 0.02)
    mean = curve.predicted(np.geomspace(1e-4, 0.1, 40)).mean
    assert (np.diff(mean[mean < 0.04]) > 0).all()
    drawn = curve.predicted(CHANGE, drawn=True).deviation
    assert (drawn > curve.predicted(CHANGE).deviation).all()


def test_variance_of_a_mean_is_that_of_the_differences() -> None:
    random = np.random.default_rng(0)
    reference = Scores(random.normal(size=400))
    trials = [Scores(reference.samples - scale * random.normal(size=400)) for scale in (1, 2)]
    variance = sampling_variance(np.ones(2), reference, trials)
    assert variance == pytest.approx(np.array([1, 4]) / 400, rel=0.25)
    # The same by resampling, which other metrics need.
    again = [Scores(one.samples, lambda s: float(s.mean())) for one in (reference, *trials)]
    assert sampling_variance(np.ones(2), again[0], again[1:]) == pytest.approx(variance, rel=0.2)
    assert not sampling_variance(np.ones(1), Scores(np.ones(1)), [Scores(np.zeros(1))]).any()


def test_no_change_in_few_samples_is_no_certainty() -> None:
    reference = Scores(np.ones(50))
    changed = np.ones(50)
    changed[0] = 0
    variance = sampling_variance(np.ones(2), reference, [Scores(np.ones(50)), Scores(changed)])
    # A change of each is as likely as not, after one in a hundred and the one that is added.
    assert np.sqrt(variance[0]) == pytest.approx(1 / 50, rel=0.1)
    assert not sampling_variance(np.ones(1), reference, [Scores(np.ones(50))]).any()
    assert expected_drop(np.ones(1), Scores(np.ones(50), lambda s: float(np.median(s))), [Scores(changed)]) is None
    assert expected_drop(np.ones(1), reference, [Scores(np.ones(50))]) is None


def classified(random: np.random.Generator, samples: int, classes: int, noise: float) -> tuple[Scores, Scores]:
    """Scores of a calibrated network of some classes, and of one whose logits are blurred."""
    logits = 1.5 * random.normal(size=(samples, classes))
    # The class with the largest logit plus Gumbel noise has the probability that softmax gives it.
    label = (logits + random.gumbel(size=logits.shape)).argmax(1)
    blurred = logits + noise * random.normal(size=logits.shape)
    return Scores((logits.argmax(1) == label) * 1.0), Scores((blurred.argmax(1) == label) * 1.0)


@pytest.mark.parametrize("classes", [2, 10])
def test_losses_follow_from_how_many_answers_changed(classes: int) -> None:
    random = np.random.default_rng(classes)
    for noise in (0.3, 0.6):
        reference, blurred = classified(random, 100_000, classes, noise)
        lost = reference.value - blurred.value
        prior = expected_drop(np.ones(1), reference, [blurred])
        assert prior is not None
        # Two classes lose less than the law says.
        assert abs(np.log(prior.drop[0] / lost)) < 2 * prior.deviation
    # Of few samples the count has far less noise than the mean.
    counted, measured = [], []
    for _ in range(30):
        reference, blurred = classified(random, 500, classes, 0.4)
        prior = expected_drop(np.ones(1), reference, [blurred])
        assert prior is not None
        counted.append(prior.drop[0])
        measured.append(reference.value - blurred.value)
    assert np.std(counted) / np.mean(counted) < 0.6 * np.std(measured) / np.mean(measured)


def test_scores_of_errors_and_of_other_kinds() -> None:
    random = np.random.default_rng(0)
    reference, blurred = classified(random, 1000, 4, 0.3)
    found = expected_drop(np.ones(1), reference, [blurred])
    turned = expected_drop(np.ones(1), Scores(1 - reference.samples), [Scores(1 - blurred.samples)], "min")
    scaled = expected_drop(np.ones(1), Scores(100 * reference.samples), [Scores(100 * blurred.samples)])
    assert found is not None
    assert turned is not None
    assert scaled is not None
    assert turned.drop == pytest.approx(found.drop)
    assert scaled.drop == pytest.approx(100 * found.drop)
    values = Scores(random.normal(size=1000))
    other = expected_drop(np.ones(1), values, [Scores(values.samples + 0.1 * random.normal(size=1000))])
    assert other is not None
    assert other.deviation > found.deviation
