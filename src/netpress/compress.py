"""A promised quality: the smallest stream that keeps it, or the best quality within a number of bytes."""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.api import decode, encode
from netpress.calibration.statistics import Calibration
from netpress.compare import has_batch_norms, network_with, standard_error
from netpress.config import EncodeConfig
from netpress.errors import EvaluationFailed, InvalidConfig, NetpressError
from netpress.files import atomic_writer
from netpress.parallel import Progress
from netpress.task import Scores, Task, scores_of

__all__ = ["CompressionResult", "Trial", "compress"]

_LOG = logging.getLogger(__name__)
# For qp density 2; see _at_density.
_COARSEST_QP, _FINEST_QP = 8, -48
_FIRST_QP = {True: -20, False: -26}
_QP_STRIDE = 4


@dataclasses.dataclass(frozen=True)
class Trial:
    """One stream that was made, decoded and evaluated.

    ``drop`` is how much worse the metric is than that of the float network (below 0: better), ``margin`` what was added
    to it because the samples are a random choice; ``kept`` says whether both together are within the promise.
    """

    qp: int
    bytes: int
    metric: float
    drop: float
    margin: float
    kept: bool
    seconds: float


@dataclasses.dataclass(frozen=True)
class CompressionResult:
    """What :func:`compress` found.

    ``met`` says whether ``data`` keeps the promise; if not, it is the best that was tried. ``metric`` is that of
    ``data``, ``baseline`` that of the float network. ``curve`` holds all trials in the order in which they were made.
    """

    data: bytes
    met: bool
    metric: float
    baseline: float
    promise: str
    curve: tuple[Trial, ...]
    float_bytes: int
    metric_name: str = "metric"
    unit: str = ""

    def save(self, path: str) -> int:
        """Write the stream to a file, which appears when it is complete; return the number of bytes."""
        with atomic_writer(path) as file:
            file.write(self.data)
        return len(self.data)

    def report(self) -> str:
        """Return what was tried and chosen, as text with a table in Markdown."""
        unit = f" {self.unit}" if self.unit else ""
        verdict = "kept" if self.met else "NOT KEPT: the best that was tried follows"
        lines = [
            f"Promise: {self.promise}. {verdict}.",
            f"{self.float_bytes} -> {len(self.data)} bytes ({self.float_bytes / len(self.data):.1f}x), "
            f"{self.metric_name} {self.baseline:.6g} -> {self.metric:.6g}{unit}",
            "",
            f"| qp | bytes | {self.metric_name} | drop | margin | kept |",
            "|---:|---:|---:|---:|---:|---|",
        ]
        for trial in sorted(self.curve, key=lambda trial: trial.bytes):
            chosen = " (chosen)" if trial.bytes == len(self.data) and trial.metric == self.metric else ""
            lines.append(
                f"| {trial.qp} | {trial.bytes} | {trial.metric:.6g} | {trial.drop:+.3g} | {trial.margin:.2g} "
                f"| {'yes' if trial.kept else 'no'}{chosen} |"
            )
        return "\n".join(lines)

    def plot(self, path: str) -> None:
        """Draw metric against bytes, with the choice and the float metric marked, into an image file.

        Raises:
            ImportError: matplotlib is missing.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        points = sorted((trial.bytes / 1000, trial.metric) for trial in self.curve)
        axes.plot(*zip(*points, strict=True), "o-", markersize=4, label="tried")
        label = "chosen" if self.met else "best tried"
        axes.plot([len(self.data) / 1000], [self.metric], "*", markersize=14, label=label)
        axes.axhline(self.baseline, color="k", linewidth=0.7, label="float")
        axes.set_xlabel("kilobytes")
        axes.set_ylabel(f"{self.metric_name} ({self.unit})" if self.unit else self.metric_name)
        axes.set_title(self.promise, fontsize=9)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(path)


def compress(
    model: Any = None,
    *,
    evaluate: Callable[[Any], float | npt.NDArray[Any] | Scores] | None = None,
    max_drop: float | str | None = None,
    max_bytes: int | None = None,
    calibration: Calibration | Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
    direction: str = "max",
    budget: int | str = 12,
    confidence: float = 0.8,
    task: Task | None = None,
    config: EncodeConfig | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> CompressionResult:
    """Find the smallest stream whose metric is hardly worse than that of the float network.

    Every trial is coded, decoded and evaluated; nothing is returned that was not. With calibration data (no labels) the
    weights of a torch module are quantised so that its outputs change least; otherwise with steps by the size of each.
    The search goes from the first guess in strides to the other side of the promise and halves the gap; the trials that
    are left try the neighbours of what it found. 8 evaluations find the step, the default of 12 leaves some for that.

    Args:
        model: a torch module, or a dictionary of arrays (then ``evaluate`` gets one). None: that of ``task``.
        evaluate: returns the metric: a number, one score per sample, or :class:`Scores`. None: that of ``task``.
        max_drop: how much worse the metric may get: a number in its units, or a share of the float metric such as
            ``"0.5%"``.
        max_bytes: instead: the best metric within that many bytes.
        calibration: batches of inputs, or what :func:`netpress.calibrate` made of them. None: that of ``task``.
        direction: ``"max"`` if a higher metric is better, else ``"min"``. That of ``task`` if there is one.
        budget: most evaluations, the one of the float network included, at least 3; or a time such as ``"10min"``.
        confidence: 0.5..0.999. Where ``evaluate`` gives scores per sample, the drop has to be below the limit with
            this probability if the samples were drawn anew; 0.5 takes the measured drop for the truth.
        task: gives what the other arguments leave out.
        config: settings of the encoder; ``qp`` is what is searched. None: effort 8.
        progress: called with evaluations done, those allowed, and the last result.
        **options: fields of :class:`EncodeConfig`; they overrule ``config``.

    Raises:
        InvalidConfig: arguments contradict each other or are out of range.
        EvaluationFailed: ``evaluate`` raised an exception; its ``curve`` holds the trials until then.

    Example:
        >>> import numpy, netpress
        >>> weight = numpy.random.default_rng(0).normal(size=(64, 64)).astype("f4")
        >>> def error(model):
        ...     return float(numpy.square(model["w"] - weight).mean())
        >>> result = netpress.compress({"w": weight}, evaluate=error, max_drop=1e-3, direction="min")
        >>> result.met, result.metric <= 1e-3
        (True, True)
    """
    whole_task = task or Task(direction=direction)
    if evaluate is not None:
        whole_task = dataclasses.replace(whole_task, evaluate=evaluate)
    if model is None:
        if whole_task.model is None:
            raise InvalidConfig("there is no model: neither the call nor the task gives one")
        model = whole_task.model()
    if whole_task.evaluate is None:
        raise InvalidConfig("compress needs evaluate, a function that returns the metric of a model")
    if (max_drop is None) == (max_bytes is None):
        raise InvalidConfig("give either max_drop or max_bytes")
    if not 0.5 <= confidence <= 0.999:
        raise InvalidConfig(f"confidence is {confidence}, outside 0.5..0.999")
    config = EncodeConfig.with_options(EncodeConfig(effort=8) if config is None else config, options)
    if config.is_reference or config.differences or config.qp is not None:
        raise InvalidConfig("compress searches the qp itself, of a whole model, without the reference preset")
    data = calibration if calibration is not None else whole_task.calibration_batches
    coder = _Coder(model, whole_task, config, data)
    return _PromiseSearch(coder, whole_task, max_drop, max_bytes, _Budget(budget), confidence, progress).result()


class _Budget:
    """Evaluations or time that are left."""

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


class _Coder:
    """Makes streams of one model at any qp, and models of streams."""

    def __init__(self, model: Any, task: Task, config: EncodeConfig, data: Any) -> None:
        from netpress.formats import open_source

        self.model, self.task, self.config = model, task, config
        with open_source(model) as source:
            self.is_module = source.torch_module is not None
            self.shapes = {name: source.shape(name) for name in source.names}
            self.float_bytes = sum(math.prod(shape) * 4 for shape in self.shapes.values())
        if data is not None and not isinstance(data, Calibration):
            if not self.is_module:
                raise InvalidConfig("calibration batches need a torch module; or give a Calibration")
            from netpress.calibration.measured import calibrate

            batches = dataclasses.replace(task, calibration_batches=data).batches("calibration")
            data = calibrate(model, batches, forward=task.output, outputs=task.outputs)
        self.calibration: Calibration | None = data
        if self.is_module and has_batch_norms(model):
            self.config = config.replace(fold_batch_norm=True)

    def encode(self, qp: int) -> bytes:
        """Return the stream at a qp: that of a weight of average sensitivity, or size without data."""
        if self.calibration is None:
            return encode(self.model, self.config, qp=qp, allocation="size")
        return encode(self.model, self.config, calibration=self.calibration, qp=qp)

    def decoded(self, data: bytes) -> Any:
        """Return the model of a stream, in the form of the one that was given."""
        state = decode(data, reconstruct=True)
        if not self.is_module:
            return state
        return network_with(self.model, state)


class _PromiseSearch:
    """Goes along the qps until the promise is bracketed, then narrows the gap."""

    def __init__(
        self,
        coder: _Coder,
        task: Task,
        max_drop: float | str | None,
        max_bytes: int | None,
        budget: _Budget,
        confidence: float,
        progress: Progress | None,
    ) -> None:
        self.coder, self.task, self.budget, self.progress = coder, task, budget, progress
        density = coder.config.qp_density
        self.finest, self.coarsest = _at_density(_FINEST_QP, density), _at_density(_COARSEST_QP, density)
        self.sign = 1.0 if task.direction == "max" else -1.0
        self.trials: dict[int, tuple[Trial, bytes]] = {}
        from statistics import NormalDist  # takes long to load

        self.quantile = NormalDist().inv_cdf(confidence)
        self.baseline = self._evaluate(coder.model)
        self.max_bytes = max_bytes
        self.limit = math.inf
        self.promise = f"the best {task.metric} in {max_bytes} bytes"
        if max_bytes is not None and max_bytes < 1:
            raise InvalidConfig(f"max_bytes is {max_bytes}, less than 1")
        if max_drop is not None:
            self.limit = _limit(max_drop, self.baseline.value)
            self.promise = f"{task.metric} at most {max_drop} worse than float"

    def _evaluate(self, model: Any) -> Scores:
        self.budget.used += 1
        try:
            return scores_of(self.task.evaluate(model), self.task.name)  # type: ignore[misc]
        except NetpressError:
            raise
        except Exception as error:
            trials = tuple(trial for trial, _ in self.trials.values())
            what = f"evaluate failed after {len(trials)} trials: {type(error).__name__}: {error}"
            raise EvaluationFailed(what, curve=trials) from error

    def _margin(self, scores: Scores) -> float:
        """The part of the drop that the choice of samples may hide, at the confidence asked for."""
        samples, reference = np.asarray(scores.samples), np.asarray(self.baseline.samples)
        if self.quantile == 0 or len(samples) < 2 or samples.shape != reference.shape:
            return 0.0
        return float(self.quantile * standard_error(scores, self.baseline))

    def try_qp(self, qp: int) -> Trial:
        """Make, decode and evaluate the stream at a qp, once."""
        if qp in self.trials:
            return self.trials[qp][0]
        start = time.perf_counter()
        data = self.coder.encode(qp)
        if self.max_bytes is not None and len(data) > self.max_bytes:
            # Too large: its metric does not matter.
            trial = Trial(qp, len(data), math.nan, math.nan, 0.0, False, time.perf_counter() - start)
            self.trials[qp] = trial, b""
            return trial
        scores = self._evaluate(self.coder.decoded(data))
        drop = self.sign * (self.baseline.value - scores.value)
        margin = self._margin(scores) if self.max_bytes is None else 0.0
        fits = len(data) <= self.max_bytes if self.max_bytes is not None else drop + margin <= self.limit
        trial = Trial(qp, len(data), scores.value, drop, margin, fits, time.perf_counter() - start)
        self.trials[qp] = trial, data
        _LOG.info("qp %d: %d bytes, metric %g", qp, trial.bytes, trial.metric)
        if self.progress is not None:
            total = min(self.budget.evaluations, 1 << 20)
            what = f"qp {qp}: {trial.bytes} bytes, {self.task.metric} {trial.metric:.4g}"
            self.progress(self.budget.used, total, what)
        return trial

    def result(self) -> CompressionResult:
        """Search, and return the choice."""
        good, bad = self._bracket()
        while good is not None and bad is not None and abs(good - bad) > 1 and self.budget.is_left():
            middle = (good + bad) // 2
            if self.try_qp(middle).kept:
                good = middle
            else:
                bad = middle
        self._neighbours(good)
        return self._chosen()

    def _bracket(self) -> tuple[int | None, int | None]:
        """Return a qp that keeps the promise and one that does not, as far as there are such."""
        coarser = 1 if self.max_bytes is None else -1  # towards breaking the promise
        density = self.coder.config.qp_density
        qp = _at_density(_FIRST_QP[self.coder.calibration is not None], density)
        good: int | None = None
        bad: int | None = None
        stride = _at_density(_QP_STRIDE, density)
        while self.budget.is_left():
            if self.try_qp(qp).kept:
                good = qp
                if bad is not None:
                    break
                nxt = qp + coarser * stride
            else:
                bad = qp
                if good is not None:
                    break
                nxt = qp - coarser * stride
            nxt = min(max(nxt, self.finest), self.coarsest)
            if nxt in self.trials:
                break
            qp, stride = nxt, stride * 2 if len(self.trials) > 2 else stride
        return good, bad

    def _neighbours(self, good: int | None) -> None:
        """A noisy metric may keep the promise a step further."""
        coarser = 1 if self.max_bytes is None else -1
        for offset in (2, 3):
            if good is None or not self.budget.is_left():
                return
            qp = good + coarser * offset
            if self.finest <= qp <= self.coarsest:
                self.try_qp(qp)

    def _chosen(self) -> CompressionResult:
        evaluated = [(trial, data) for trial, data in self.trials.values() if data]
        passing = [pair for pair in evaluated if pair[0].kept]
        if not passing:
            pairs = evaluated or [self._smallest()]
            trial, data = min(pairs, key=lambda pair: pair[0].drop if self.max_bytes is None else pair[0].bytes)
        elif self.max_bytes is None:
            trial, data = min(passing, key=lambda pair: pair[0].bytes)
        else:
            trial, data = min(passing, key=lambda pair: (pair[0].drop, pair[0].bytes))
        return CompressionResult(
            data,
            bool(passing),
            trial.metric,
            self.baseline.value,
            self.promise,
            tuple(trial for trial, _ in self.trials.values()),
            self.coder.float_bytes,
            self.task.metric,
            self.task.unit,
        )

    def _smallest(self) -> tuple[Trial, bytes]:
        """Evaluate the smallest stream that was made, where all were too large to be."""
        qp = max(self.trials)
        data = self.coder.encode(qp)
        scores = self._evaluate(self.coder.decoded(data))
        drop = self.sign * (self.baseline.value - scores.value)
        trial = Trial(qp, len(data), scores.value, drop, 0.0, False, 0.0)
        self.trials[qp] = trial, data
        return trial, data


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
