"""The search for the smallest stream that keeps a promise, and for the best one within a number of bytes."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from netpress.compare import OutputChange
from netpress.config import EncodeConfig
from netpress.errors import EvaluationFailed, InvalidConfig, NetpressError
from netpress.parallel import Progress
from netpress.promise.curve import DropCurve, expected_drop, sampling_variance
from netpress.promise.result import Band, CompressionResult, Trial, Verification
from netpress.task import Scores, Task, scores_of

__all__ = ["Budget", "Search", "Streams"]

_LOG = logging.getLogger(__name__)
# For qp density 2; see _at_density.
_COARSEST_QP, _FINEST_QP = 8, -48
_FIRST_QP = {True: -20, False: -26}
_QP_STRIDE, _LONGEST_STRIDE = 4, 16
# The first trials aim at this share of the promise: where it is usually kept, with the margin.
_AIM = 0.7
# A drop of so many promises is less likely than that of one: by so many times more standard deviations. With a
# confidence of 0.8, a promise is exceeded by more than half in 3 cases of 100.
_FAR_DROP, _FAR_QUANTILE = 1.5, 2.2


class Budget:
    """Evaluations or time that are left.

    Args:
        budget: a number of evaluations, at least 3, or a time such as ``"10min"``.

    Raises:
        InvalidConfig: it is neither, or too small.
    """

    def __init__(self, budget: int | str) -> None:
        self.start = time.monotonic()
        self.evaluations, self.seconds = 1 << 30, math.inf
        if isinstance(budget, str):
            units = {"s": 1.0, "min": 60.0, "h": 3600.0}
            number, unit = next(((budget[: -len(u)], u) for u in ("min", "h", "s") if budget.endswith(u)), ("", "s"))
            try:
                self.seconds = float(number) * units[unit]
            except ValueError:
                what = f"budget is a number of evaluations or a time such as '10min', not {budget!r}"
                raise InvalidConfig(what) from None
        else:
            self.evaluations = budget
        if self.evaluations < 3 or self.seconds <= 0:
            raise InvalidConfig(f"a budget of {budget!r} is too small: 3 evaluations are the least")
        self.used = 0

    def is_left(self) -> bool:
        """Whether another evaluation fits; two trials are made in any case."""
        enough_time = time.monotonic() - self.start < self.seconds or self.used < 3
        return self.used < self.evaluations and enough_time


class Streams(Protocol):
    """What a search needs of :class:`netpress.promise.coder.Coder`."""

    model: Any
    config: EncodeConfig
    calibration: Any
    float_bytes: int

    def encode(self, qp: int) -> bytes:
        """Return the stream at a qp."""

    def decoded(self, data: bytes) -> Any:
        """Return the model of a stream."""

    def change(self, model: Any) -> OutputChange | None:
        """Return how the outputs of a decoded model differ from those of the float network."""


@dataclasses.dataclass(frozen=True)
class _Made:
    """A stream with what was measured; ``apart`` are the scores on the samples kept apart."""

    trial: Trial
    data: bytes = b""
    scores: Scores | None = None
    apart: Scores | None = None
    change: OutputChange | None = None


class Search:
    """Tries qps until the budget is used or nothing is left to be learnt.

    Arguments are those of :func:`netpress.compress`.
    """

    def __init__(
        self,
        coder: Streams,
        task: Task,
        budget: Budget,
        *,
        max_drop: float | str | None = None,
        max_bytes: int | None = None,
        confidence: float = 0.8,
        verify: float = 0.0,
        progress: Progress | None = None,
    ) -> None:
        self.coder, self.task, self.budget, self.progress = coder, task, budget, progress
        density = coder.config.qp_density
        self.finest, self.coarsest = _at_density(_FINEST_QP, density), _at_density(_COARSEST_QP, density)
        self.sign = 1.0 if task.direction == "max" else -1.0
        self.made: dict[int, _Made] = {}
        self.verify, self.confidence = verify, confidence
        from statistics import NormalDist  # takes long to load

        self.quantile = NormalDist().inv_cdf(confidence)
        self.baseline, self.apart = self._evaluated(coder.model)
        if verify and self.apart is None:
            raise InvalidConfig(
                f"verify={verify:g} of {len(self.baseline.samples)} samples leaves fewer than 2 on one side"
            )
        self.max_bytes = max_bytes
        self.limit = math.inf
        self.promise = f"the best {task.metric} in {max_bytes} bytes"
        if max_bytes is not None and max_bytes < 1:
            raise InvalidConfig(f"max_bytes is {max_bytes}, less than 1")
        if max_drop is not None:
            self.limit = _limit(max_drop, self.baseline.value)
            self.promise = f"{task.metric} at most {max_drop} worse than float"
        self.curve: DropCurve | None = None

    def result(self) -> CompressionResult:
        """Search, and return the choice."""
        if self.max_bytes is None:
            self._search_drop()
        else:
            self._search_bytes(self.max_bytes)
        return self._chosen()

    # One trial

    def _evaluated(self, model: Any) -> tuple[Scores, Scores | None]:
        """The scores of a model for the search, and those kept apart."""
        self.budget.used += 1
        try:
            scores = scores_of(self.task.evaluate(model), self.task.name)  # type: ignore[misc]
        except NetpressError:
            raise
        except Exception as error:
            trials = tuple(made.trial for made in self.made.values())
            what = f"evaluate failed after {len(trials)} trials: {type(error).__name__}: {error}"
            raise EvaluationFailed(what, curve=trials) from error
        count = len(scores.samples)
        apart = round(count * self.verify)
        if apart < 2 or count - apart < 2:
            return scores, None
        order = np.random.default_rng(0).permutation(count)
        samples = np.asarray(scores.samples)
        first, second = np.sort(order[apart:]), np.sort(order[:apart])
        return Scores(samples[first], scores.aggregate), Scores(samples[second], scores.aggregate)

    def try_qp(self, qp: int) -> Trial:
        """Make, decode and evaluate the stream at a qp, once."""
        if qp in self.made:
            return self.made[qp].trial
        start = time.perf_counter()
        data = self.coder.encode(qp)
        if self.max_bytes is not None and len(data) > self.max_bytes:
            # Too large: its metric does not matter.
            trial = Trial(qp, len(data), math.nan, math.nan, 0.0, False, time.perf_counter() - start)
            self.made[qp] = _Made(trial)
            return trial
        return self._judged(qp, data, start).trial

    def _judged(self, qp: int, data: bytes, start: float) -> _Made:
        model = self.coder.decoded(data)
        scores, apart = self._evaluated(model)
        change = self.coder.change(model)
        drop = self.sign * (self.baseline.value - scores.value)
        fits = len(data) <= (self.max_bytes or math.inf)
        seconds = time.perf_counter() - start
        trial = Trial(qp, len(data), scores.value, drop, 0.0, fits, seconds, drop, change)
        self.made[qp] = _Made(trial, data, scores, apart, change)
        if self.max_bytes is None:
            self._estimate()
        _LOG.info("qp %d: %d bytes, metric %g", qp, trial.bytes, trial.metric)
        if self.progress is not None:
            total = min(self.budget.evaluations, 1 << 20)
            what = f"qp {qp}: {trial.bytes} bytes, {self.task.metric} {trial.metric:.4g}"
            self.progress(self.budget.used, total, what)
        return self.made[qp]

    # What all trials say

    def _axis(self, qps: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The logarithm of the change of the outputs at some qps: that of the trials, and between them on a line.

        Without outputs, and beyond the trials, it grows with the square of the step.
        """
        slope = 2 * math.log(2) / 2**self.coder.config.qp_density
        tried = np.array(sorted(self.made))
        changes = [self.made[qp].change for qp in tried]
        known = [(q, math.log(c.divergence)) for q, c in zip(tried, changes, strict=True) if c and c.divergence > 0]
        if len(known) < len(tried):
            steps: npt.NDArray[np.float64] = slope * np.asarray(qps, np.float64)
            return steps
        at, values = np.array(known).T
        inside = np.interp(qps, at, values)
        beyond = slope * (np.minimum(qps - at[0], 0) + np.maximum(qps - at[-1], 0))
        axis: npt.NDArray[np.float64] = inside + beyond
        return axis

    def _estimate(self) -> None:
        """Judge all trials by the curve through all of them."""
        qps = np.array(list(self.made))
        made = [self.made[qp] for qp in qps]
        drop = np.array([one.trial.drop for one in made])
        scores = [one.scores for one in made if one.scores is not None]
        change = np.exp(self._axis(qps))
        variance = sampling_variance(change, self.baseline, scores)
        scale = (
            self.limit if self.limit > 0 else max(float(np.abs(drop).max()), 1e-9 * max(abs(self.baseline.value), 1e-9))
        )
        prior = expected_drop(change, self.baseline, scores, self.task.direction)
        self.curve = DropCurve(change, drop, variance, scale, prior)
        exact = not variance.any()
        median = bound = drop
        if not exact:
            z = self.quantile
            median, bound, far = map(self.curve.trials.quantile, (0.0, z, _FAR_QUANTILE * z))
            bound = np.maximum(bound, far / _FAR_DROP)
        for place, (qp, one) in enumerate(zip(qps, made, strict=True)):
            expected, margin = float(median[place]), float(bound[place] - median[place])
            # What its own samples deny is not kept, whatever the other trials say.
            kept = bool(max(expected + margin, drop[place]) <= self.limit)
            trial = dataclasses.replace(one.trial, expected=expected, margin=margin, kept=kept)
            self.made[int(qp)] = dataclasses.replace(one, trial=trial)

    # Where to look

    def _search_drop(self) -> None:
        """Go to where the curve says that the promise ends, then try what lies around it."""
        qp: int | None = _at_density(_FIRST_QP[self.coder.calibration is not None], self.coder.config.qp_density)
        while qp is not None and self.budget.is_left():
            self.try_qp(qp)
            qp = self._next()

    def _next(self) -> int | None:
        kept = [qp for qp, made in self.made.items() if made.trial.kept]
        broken = [qp for qp, made in self.made.items() if not made.trial.kept]
        assert self.curve is not None
        stride = _at_density(_QP_STRIDE, self.coder.config.qp_density)
        longest = _at_density(_LONGEST_STRIDE, self.coder.config.qp_density)
        qps = np.arange(self.finest, self.coarsest + 1)
        expected = np.maximum.accumulate(self.curve.predicted(np.exp(self._axis(qps))).quantile(0.0))
        aim = int(qps[max(np.searchsorted(expected, _AIM * self.limit) - 1, 0)])
        if not kept:
            edge = min(broken)
            return None if edge == self.finest else max(min(aim, edge - stride), edge - longest, self.finest)
        best = min(kept, key=lambda qp: self.made[qp].trial.bytes)
        beyond = [qp for qp in broken if qp > best]
        if not beyond:
            return None if best == self.coarsest else min(max(aim, best + stride), best + longest, self.coarsest)
        gap = min(beyond) - best
        if gap > stride:
            return min(max(aim, best + 1), min(beyond) - 1)
        near = [best + 1, best + 2, best + 3, best - 1, best - 2]
        if gap > 2:
            near.insert(0, best + gap // 2)
        for qp in near:
            if qp not in self.made and self.finest <= qp <= self.coarsest:
                return qp
        return None

    def _search_bytes(self, max_bytes: int) -> None:
        """Go along the qps until the size is bracketed, halve the gap, and try the neighbours."""
        density = self.coder.config.qp_density
        qp = _at_density(_FIRST_QP[self.coder.calibration is not None], density)
        stride = _at_density(_QP_STRIDE, density)
        good: int | None = None
        bad: int | None = None
        while self.budget.is_left():
            fits = self.try_qp(qp).kept
            if fits:
                good = qp
            else:
                bad = qp
            if good is not None and bad is not None:
                break
            following = min(max(qp - stride if fits else qp + stride, self.finest), self.coarsest)
            if following in self.made:
                break
            qp, stride = following, stride * 2 if len(self.made) > 2 else stride
        while good is not None and bad is not None and abs(good - bad) > 1 and self.budget.is_left():
            middle = (good + bad) // 2
            if self.try_qp(middle).kept:
                good = middle
            else:
                bad = middle
        # Sizes need not fall from step to step.
        for offset in (2, 3):
            if good is not None and self.budget.is_left() and good - offset >= self.finest:
                self.try_qp(good - offset)

    # The choice

    def _chosen(self) -> CompressionResult:
        evaluated = [made for made in self.made.values() if made.data]
        if not evaluated:
            # All were too large to be evaluated: the smallest is.
            qp = max(self.made)
            evaluated = [self._judged(qp, self.coder.encode(qp), time.perf_counter())]
        passing = [made for made in evaluated if made.trial.kept]
        verification = None
        if self.max_bytes is not None:
            passing.sort(key=lambda made: (made.trial.drop, made.trial.bytes))
            evaluated.sort(key=lambda made: made.trial.bytes)
        else:
            passing.sort(key=lambda made: made.trial.bytes)
            evaluated.sort(key=lambda made: made.trial.expected + made.trial.margin)
        chosen, met = (passing or evaluated)[0], bool(passing)
        if self.apart is not None:
            chosen, verification = self._verified(passing[:] if self.max_bytes is None else [], chosen)
            met = met and verification.confirmed
        qps = np.array(sorted(made.trial.qp for made in evaluated))
        return CompressionResult(
            data=chosen.data,
            met=met,
            metric=chosen.trial.metric,
            baseline=self.baseline.value,
            promise=self.promise,
            curve=tuple(made.trial for made in self.made.values()),
            float_bytes=self.coder.float_bytes,
            metric_name=self.task.metric,
            unit=self.task.unit,
            limit=self.limit,
            direction=self.task.direction,
            confidence=self.confidence,
            band=self._band(qps),
            change=chosen.change,
            verification=verification,
        )

    def _verified(self, passing: list[_Made], first: _Made) -> tuple[_Made, Verification]:
        """The first of some streams whose drop on the samples kept apart is within the promise, else the last."""
        assert self.apart is not None
        for made in passing or [first]:
            assert made.apart is not None
            drop = self.sign * (self.apart.value - made.apart.value)
            error = math.sqrt(float(sampling_variance(np.ones(1), self.apart, [made.apart])[0]))
            verification = Verification(drop, error, len(self.apart.samples), drop <= self.limit)
            if verification.confirmed:
                break
        return made, verification

    def _band(self, qps: npt.NDArray[Any]) -> tuple[Band, ...]:
        """The curve at the qps of the trials, by their sizes."""
        if self.curve is None:
            return ()
        estimate = self.curve.predicted(np.exp(self._axis(qps)))
        bounds = zip(qps, *(estimate.quantile(z).tolist() for z in (0.0, -self.quantile, self.quantile)), strict=True)
        return tuple(Band(self.made[int(qp)].trial.bytes, *values) for qp, *values in bounds)


def _at_density(qp: int, qp_density: int) -> int:
    """Return the qp of another density for a qp of density 2: as many octaves of the step."""
    return round(qp * 2.0 ** (qp_density - 2))


def _limit(max_drop: float | str, baseline: float) -> float:
    """Return the allowed drop in units of the metric."""
    text = max_drop.strip() if isinstance(max_drop, str) else None
    try:
        limit = float(max_drop) if text is None else float(text.removesuffix("%")) / 100 * abs(baseline)
    except (TypeError, ValueError):
        limit = math.nan
    if (text is not None and not text.endswith("%")) or not 0 <= limit < math.inf:
        raise InvalidConfig(f"max_drop is a number from 0, or a share such as '0.5%', not {max_drop!r}")
    return limit
