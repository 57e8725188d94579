"""The drop of a metric as a curve that can only rise with the change of the outputs, from all trials together.

The scores of a few hundred samples say little about one trial: its drop carries the noise of the samples and that of
one quantisation, and whoever takes the smallest of ten trials that look good takes the luckiest. Together they say
more. A trial whose outputs are at a distance ``x`` from those of the float network has the true drop

    D = c * x ** p * (1 + bend + draw),

with a level ``c`` above 0 and a power ``p`` that all trials share, ``bend`` for a curve that is no exact power law (a
Gaussian process over log x), and ``draw`` for what one quantisation does by chance (independent, relative size ``t``).
What was measured is D plus the noise of the samples. That noise is correlated between trials, as they share samples;
correlations that are estimated from the same few samples pull a fit down ("Peelle's pertinent puzzle"), so instead all
variances are multiplied by what sharing does to that of the mean of all trials. Level, power and ``t`` are summed out
over a grid; given them, all is Gaussian. How many scores have changed, whichever way, has far less noise than their
mean, and what is known of ``c`` beforehand comes from there (:func:`expected_drop`). The result is a probability for
every trial, and the choice among many is corrected by shrinkage: a trial that looks better than its neighbours is
believed only as far as its own samples go.

Source: Rasmussen and Williams, Gaussian Processes for Machine Learning, 2.2 and 2.7 (2006); for selection and
shrinkage: Efron, Tweedie's Formula and Selection Bias (2011).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from netpress.compare import standard_error
from netpress.task import Scores

__all__ = ["DropCurve", "Estimate", "Prior", "expected_drop", "sampling_variance"]

Values = npt.NDArray[np.float64]

# Chosen on simulations and on the networks that benchmarks/promise.py lists as those of development.
_POWERS = np.arange(0.3, 2.01, 0.1)
_LEVELS = np.exp2(np.arange(-9, 5.01, 0.35))
_DEVIATIONS = np.arange(-3, 3.01, 0.25)
_POWER = 1.0
# Deviations of the power, and of the logarithm of the level.
_POWER_DEVIATION, _SHARE_DEVIATION = 0.3, 0.8
_RIGHT_POWER_DEVIATION, _RIGHT_DEVIATION = 0.1, 0.35
# Of what the scores of single samples change by, this share is lost in the mean.
_SHARE = 0.35
# For scores that are right or wrong: tanh of this times the changed share over that of wrong ones.
_RIGHT_SHARE = 0.8
# Changes of the scores grow with this power of the divergence: like its root, or a little faster.
_TURNOVER_POWER = 0.55
_POOLED = 20
_DRAWS = np.array([0.1, 0.25, 0.5])
_BEND, _BEND_LENGTH = 0.2, math.log(8)
# Trials that lose more than this many times the promise say nothing about where it is kept.
_FAR = 10.0


@dataclasses.dataclass(frozen=True)
class Prior:
    """What is expected of the drops of some trials before the mean of their scores is looked at.

    Attributes:
        drop: likely one of each trial, in units of the metric, above 0, (n,).
        deviation: of the logarithm of all of them together.
        power_deviation: how far the power of the curve may be from the usual one.
    """

    drop: Values
    deviation: float
    power_deviation: float


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Means and standard deviations of true drops, each (n,), in units of the metric."""

    mean: Values
    deviation: Values

    def quantile(self, normal: float) -> Values:
        """Return a quantile of each, (n,).

        Args:
            normal: the same quantile of the standard normal distribution; 0 for the median.

        Drops above 0 are taken to have the log-normal distribution of this mean and deviation, others the normal one.
        """
        rising = self.mean > 0
        mean = np.where(rising, self.mean, 1.0)
        spread = np.log1p(np.square(self.deviation / mean))
        above = mean * np.exp(normal * np.sqrt(spread) - spread / 2)
        result: Values = np.where(rising, above, self.mean + normal * self.deviation)
        return result


class DropCurve:
    """What some trials say about the drop, as a function of the change of the outputs.

    Args:
        change: of each trial, above 0, float64 (n,): a divergence, or the square of the step.
        drop: measured, in units of the metric, positive if worse, (n,).
        variance: of the measured drops, because the samples are a random choice, (n,); zeros for exact drops.
        scale: the drop of interest, above 0: the promise.
        prior: what to expect; None: any level is as likely.

    Example:
        >>> import numpy
        >>> change = numpy.array([0.01, 0.02, 0.04, 0.08])
        >>> curve = DropCurve(change, 50 * change, numpy.full(4, 0.01), scale=1.0)
        >>> bool(0.4 < curve.predicted(numpy.array([0.01])).mean[0] < 0.6)
        True
    """

    def __init__(
        self, change: Values, drop: Values, variance: Values, scale: float, prior: Prior | None = None
    ) -> None:
        noise = np.sqrt(variance)
        near = drop <= _FAR * scale + 3 * noise
        if not near.any():
            near = drop == drop.min()
        self._near = near
        self._log = np.log(np.maximum(change, 1e-300))
        at = self._log[near]
        if prior is None:
            center = int(np.argmin(np.abs(np.log(np.maximum(drop[near], scale / 8) / scale))))
            levels, level_weight = _LEVELS * scale, np.zeros(len(_LEVELS))
            power_deviation = _POWER_DEVIATION
        else:
            likely = prior.drop[near]
            center = int(np.argmin(np.abs(np.log(likely / scale))))
            levels, level_weight = likely[center] * np.exp(_DEVIATIONS * prior.deviation), -0.5 * _DEVIATIONS**2
            power_deviation = prior.power_deviation
        self._center = at[center]
        level, power, draw = (grid.ravel() for grid in np.meshgrid(levels, _POWERS, _DRAWS, indexing="ij"))
        log_weight = np.repeat(level_weight, len(_POWERS) * len(_DRAWS))
        self._level, self._power, self._draw = level, power, draw
        shape = self._shape(at)  # (grid, near)
        kernel = shape[:, :, None] * shape[:, None, :] * _BEND**2 * _similarity(at, at)
        index = np.arange(len(at))
        own = kernel.copy()
        own[:, index, index] += (shape * draw[:, None]) ** 2
        total = own.copy()
        total[:, index, index] += (
            variance[near] + (1e-4 * shape) ** 2 + (1e-6 * scale) ** 2
        )  # exact drops leave it regular
        residual = drop[near] - shape
        inverse = np.linalg.inv(total)
        explained = np.einsum("gij,gj->gi", inverse, residual)
        log_weight -= 0.5 * (residual * explained).sum(1) + 0.5 * np.linalg.slogdet(total)[1]
        log_weight -= 0.5 * ((power - _POWER) / power_deviation) ** 2
        weight = np.exp(log_weight - log_weight.max())
        keep = weight > 1e-5 * weight.max()
        self._weight = weight[keep] / weight[keep].sum()
        self._level, self._power, self._draw = level[keep], power[keep], draw[keep]
        self._at, self._inverse, self._explained = at, inverse[keep], explained[keep]
        own, residual, shape = own[keep], residual[keep], shape[keep]
        # What each trial's true drop is, its own quantisation included.
        mean = shape + np.einsum("gij,gj->gi", own, self._explained)
        spread = np.einsum("gii->gi", own) - np.einsum("gij,gjk,gki->gi", own, self._inverse, own)
        known = self._mixture(mean, spread)
        far = self.predicted(np.exp(self._log), drawn=True)
        self.trials = Estimate(far.mean, far.deviation)
        """Of the true drops of the trials, in their order."""
        self.trials.mean[near], self.trials.deviation[near] = known.mean, known.deviation
        self.trials.mean[~near] = np.maximum(self.trials.mean[~near], drop[~near])

    def predicted(self, change: Values, *, drawn: bool = False) -> Estimate:
        """Return the curve at some changes of the outputs, (n,).

        Args:
            change: above 0.
            drawn: of a single new quantisation, instead of the mean over many.
        """
        at = np.log(np.maximum(change, 1e-300))
        shape = self._shape(at)
        cross = shape[:, :, None] * self._shape(self._at)[:, None, :] * _BEND**2 * _similarity(at, self._at)
        mean = shape + np.einsum("gij,gj->gi", cross, self._explained)
        own = _BEND**2 + (self._draw[:, None] ** 2 if drawn else 0)
        spread = shape**2 * own - np.einsum("gij,gjk,gik->gi", cross, self._inverse, cross)
        return self._mixture(mean, spread)

    def _shape(self, at: Values) -> Values:
        exponent = np.clip(self._power[:, None] * (at - self._center), -15, 15)
        shape: Values = self._level[:, None] * np.exp(exponent)
        return shape

    def _mixture(self, mean: Values, variance: Values) -> Estimate:
        whole = self._weight @ mean
        spread = self._weight @ (np.maximum(variance, 0) + (mean - whole) ** 2)
        return Estimate(whole, np.sqrt(spread))


def _similarity(a: Values, b: Values) -> Values:
    similarity: Values = np.exp(-0.5 * ((a[:, None] - b[None, :]) / _BEND_LENGTH) ** 2)
    return similarity


def expected_drop(change: Values, reference: Scores, trials: Sequence[Scores], direction: str = "max") -> Prior | None:
    """Return what drops to expect from how many scores have changed, whichever way; None if none has.

    Of 40 answers of a classifier that changed, 25 turned wrong and 15 right, or 22 and 18, but 40 they are: the count
    has little noise. Answers change where two classes are almost equally likely, so that of few changes hardly more
    than half turn wrong, and more the farther the outputs move: what is lost grows with the square of the changes,
    until all of them are losses. Where scores are right or wrong, ``c * tanh(0.8 * c / e)`` is taken to be lost, with
    the share ``c`` of scores that changed, and ``e`` of those that the float network has wrong. The deviation has a
    part for the form of this law and one for the number of samples that changed in any trial, as its square counts. For
    other scores a share of the changes is taken, and may be wrong by much. None if the metric is no mean, too.

    The law: Gaussian changes with standard deviation ``s`` of a margin (difference of the two largest logits) that has
    a density ``g`` near 0 flip ``g * s / sqrt(2 * pi)`` of the answers and cost ``g * s ** 2 / 8``, which is
    ``pi / 4 * c ** 2 / g``, if the network is calibrated (the logits are log-likelihoods of what is right). If ``g`` is
    the same for all margins that matter, two classes have ``e = g * log(2)``, and a factor of 0.54 follows. On the
    networks of development, with ten classes or more, it is 0.8: changes from wrong to wrong do not count. With two
    classes that is too cautious, until the scores themselves say so. ``tanh`` bounds what is lost by ``c``.

    Args:
        change: of the outputs in each trial, above 0, (n,).
        reference: scores of the float network.
        trials: those of the trials, on the same samples.
        direction: ``"max"`` if higher scores are better, else ``"min"``.

    Example:
        >>> import numpy
        >>> right = Scores(numpy.repeat([1.0, 0.0], [80, 20]))
        >>> changed = Scores(numpy.repeat([1.0, 0.0, 1.0], [76, 20, 4]))  # 4 turned wrong, 4 right
        >>> expected_drop(numpy.ones(1), right, [changed]).drop
        array([0.0240...])
    """
    difference = _differences(reference, trials)
    if difference is None or not difference.any():
        return None
    count = difference.shape[1]
    sizes = np.abs(difference[difference != 0])
    usual = float(sizes.mean())
    found = np.unique([np.asarray(scores.samples, np.float64) for scores in (reference, *trials)])
    if len(found) > 2:
        # All trials together, as the counts of a Poisson process are pooled, with one more change.
        grown = np.power(change / change.max(), _TURNOVER_POWER)
        changed = grown * (np.abs(difference).sum() + usual) / (count * grown.sum())
        return Prior(_SHARE * changed, _SHARE_DEVIATION, _POWER_DEVIATION)
    wrong = (np.count_nonzero(reference.samples == found[0 if direction == "max" else 1]) + 1) / (count + 2)
    counts = np.count_nonzero(difference, axis=1)
    seen = counts > 0
    share = counts[seen] / count
    lost = usual * share * np.tanh(_RIGHT_SHARE * share / wrong)
    level = np.exp(np.average(np.log(lost / change[seen]), weights=counts[seen]))
    deviation = math.sqrt(_RIGHT_DEVIATION**2 + 4 / np.count_nonzero(difference.any(0)))
    return Prior(level * change, deviation, _RIGHT_POWER_DEVIATION)


def _differences(reference: Scores, trials: Sequence[Scores]) -> Values | None:
    """What each sample's score changed by, (trials, samples); None if the metric is no mean of them."""
    shapes = {np.shape(scores.samples) for scores in (reference, *trials)}
    if (
        reference.aggregate is not Scores(reference.samples).aggregate
        or len(shapes) > 1
        or np.ndim(reference.samples) != 1
    ):
        return None
    return np.stack([np.asarray(t.samples, np.float64) for t in trials]) - np.asarray(reference.samples, np.float64)


def sampling_variance(change: Values, reference: Scores, trials: Sequence[Scores]) -> Values:
    """Return the variance of the drop of each trial, because its samples are a random choice, (n,).

    For a mean it comes from the differences of the scores. Where few samples have changed at all, as with accuracy, the
    variances of all trials are pooled: the trial that was lucky looks the surest by itself. All are larger by what the
    correlation between trials adds to the mean of them. For another metric it is that of bootstrap samples. Both are
    widened as Student's distribution is for so few samples. Zeros for a single sample, or scores that cannot be
    compared in pairs: then the drops count as exact.

    Args:
        change: of the outputs in each trial, above 0, (n,).
        reference: scores of the float network.
        trials: those of the trials, on the same samples.

    Example:
        >>> import numpy
        >>> float_scores, scores = Scores(numpy.ones(100)), Scores(numpy.arange(100) > 9)
        >>> float(sampling_variance(numpy.ones(1), float_scores, [scores])[0]) ** 0.5  # a tenth of the samples changed
        0.031...
    """
    count = len(reference.samples)
    if count < 2 or any(np.shape(scores.samples) != np.shape(reference.samples) for scores in trials):
        return np.zeros(len(trials))
    wide = (count - 1) / (count - 3) if count > 4 else 3.0
    difference = _differences(reference, trials)
    if difference is None:
        errors = np.array([standard_error(trial, reference, resamples=500) for trial in trials])
        resampled: Values = np.square(errors) * wide * count / (count - 1)
        return resampled
    squares = np.square(difference).sum(1)
    changed = difference[difference != 0]
    usual = float(np.square(changed).mean()) if changed.size else 0.0
    variance = difference.var(1) / count
    # So many samples stand behind each variance; behind the pooled one, _POOLED.
    behind = np.square(np.abs(difference).sum(1)) / np.where(squares > 0, squares, 1)
    grown = np.power(change / change.max(), _TURNOVER_POWER)
    pooled = grown * (variance.sum() + usual / count**2) / grown.sum()
    result: Values = wide * (behind * variance + _POOLED * pooled) / (behind + _POOLED)
    return result * _sharing(difference)


def _sharing(difference: Values) -> float:
    """How many times the variance of the mean of all trials is that of trials with samples of their own."""
    varied = difference[difference.std(1) > 0]
    if len(varied) < 2:
        return 1.0
    return max(1.0, float(np.corrcoef(varied).sum()) / len(varied))
