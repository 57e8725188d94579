"""The samples of a task as a judge of networks: metric with its interval, loss, divergence."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from netpress import InvalidConfig, Scores, Task
from netpress.compare import divergence_rows, divergence_scores, inference, network_with, resample
from netpress.evaluate.results import Interval

__all__ = ["Judge", "Judgement", "State"]

State = Mapping[str, npt.NDArray[Any]]
"""Tensors of a network by name."""

_CONFIDENCE_LEVEL = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judgement:
    """What a judge finds; see :class:`netpress.evaluate.results.Measurement`.

    Attributes:
        metric, metric_interval, loss, loss_interval: as there.
        divergences: of the outputs, sample by sample; None if the task has no evaluation batches.
    """

    metric: float
    metric_interval: Interval | None
    loss: float
    loss_interval: Interval | None
    divergences: Scores | None

    @property
    def divergence(self) -> float | None:
        """The divergence over all samples."""
        return None if self.divergences is None else self.divergences.value


class Judge:
    """A task with its float network, which is run once, and its outputs.

    Args:
        task: a task with ``model`` and ``evaluate``; without evaluation batches there are no divergences.
        resamples: choices of the samples for the intervals.

    Raises:
        InvalidConfig: the task lacks something, or the metric of the float network is not a number.
    """

    def __init__(self, task: Task, resamples: int = 1000) -> None:
        if task.model is None:
            raise InvalidConfig(f"task {task.name!r} has no model")
        self.task = task
        self.resamples = resamples
        self.module: nn.Module = task.model()
        self.module.eval()
        digest = hashlib.sha256()
        self._outputs: list[Tensor] = []
        if task.evaluation_batches is not None:
            for batch in task.batches("evaluation"):
                _add_to(digest, batch)
                with inference(self.module):
                    self._outputs.append(task.output(self.module, batch).cpu())
        # Where evaluate runs the same batches, their outputs need not be computed twice.
        with _Watch(self.module, self._outputs, "values") as watch:
            self.scores = task.scores(self.module)
        is_same = watch.is_complete and not any(rows[:, 0].any() for rows in watch.rows)
        self._inputs = watch.inputs if is_same else None
        if math.isinf(self.scores.value):
            raise InvalidConfig(f"task {task.name!r}: the metric of the float network is infinite")
        # One sample says nothing about its like.
        self._can_resample = len(self.scores.samples) > 1
        self._resampled = self._resample(self.scores)
        self.input_hash = digest.hexdigest()
        self._judgements: dict[str, Judgement] = {}

    @property
    def float_metric(self) -> float:
        """Metric of the float network."""
        return self.scores.value

    @property
    def float_interval(self) -> Interval:
        """Bounds of the metric of the float network."""
        return _interval(self._resampled) or (self.float_metric, self.float_metric)

    def judge(self, state: State) -> Judgement:
        """Run a network with the weights of a state over the samples; the same weights are run once only.

        Raises:
            InvalidConfig: its metric is not a number.
            InvalidModel: the state does not fit.
        """
        digest = hashlib.sha256()
        _add_to(digest, state)
        key = digest.hexdigest()
        if key not in self._judgements:
            self._judgements[key] = self._judge(state)
        return self._judgements[key]

    def _judge(self, state: State) -> Judgement:
        module = network_with(self.module, state)
        if self._inputs is None:
            scores, found = self.task.scores(module), self._divergences(module)
        else:
            with _Watch(module, self._outputs, self.task.outputs) as watch:
                scores = self.task.scores(module)
            same = watch.is_complete and watch.inputs == self._inputs
            found = watch.divergences() if same else self._divergences(module)
        sign = 1 if self.task.direction == "max" else -1
        resampled = self._resample(scores)
        return Judgement(
            metric=scores.value,
            metric_interval=_interval(resampled),
            loss=sign * (self.float_metric - scores.value),
            loss_interval=_interval(sign * (self._resampled - resampled)),
            divergences=found,
        )

    def _resample(self, scores: Scores) -> npt.NDArray[np.float64]:
        """The metric of choices of the samples; NaN if there is only one sample to choose from."""
        return resample(scores, resamples=self.resamples) if self._can_resample else np.full(1, np.nan)

    def _divergences(self, module: nn.Module) -> Scores | None:
        """Divergences of the outputs on the evaluation batches; None if the task has none."""
        rows = []
        if self._outputs:
            for batch, wanted in zip(self.task.batches("evaluation"), self._outputs, strict=True):
                with inference(module):
                    found = self.task.output(module, batch).cpu()
                rows.append(divergence_rows(self.task.outputs, wanted, found))
        return divergence_scores(self.task.outputs, rows) if rows else None


class _Watch:
    """Compares the outputs of a network, while something else runs it, with known ones in their order.

    It is complete if the outputs were as many as known, each of its shape; ``inputs`` has a checksum for each of them.
    """

    def __init__(self, module: nn.Module, outputs: list[Tensor], kind: str) -> None:
        self._module, self._expected, self._kind = module, iter(outputs), kind
        self.rows: list[npt.NDArray[np.float64]] = []
        self.inputs: list[str] = []
        self.is_complete = bool(outputs)

    def __enter__(self) -> _Watch:
        self._handle = self._module.register_forward_hook(self._compare, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()
        if next(self._expected, None) is not None:
            self.is_complete = False

    def _compare(self, _: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        wanted = next(self._expected, None) if self.is_complete else None
        if wanted is None or not isinstance(output, Tensor) or output.shape != wanted.shape:
            self.is_complete = False
            return
        digest = hashlib.blake2b()
        _add_to(digest, (inputs, named))
        self.inputs.append(digest.hexdigest())
        self.rows.append(divergence_rows(self._kind, wanted, output.detach().cpu()))

    def divergences(self) -> Scores:
        """Return the divergences of all outputs."""
        return divergence_scores(self._kind, self.rows)


def _interval(values: npt.NDArray[np.float64]) -> Interval | None:
    """Bounds that hold the middle 95 % of some values; None if one is not finite."""
    if not np.isfinite(values).all():
        return None
    low, high = np.quantile(values, [(1 - _CONFIDENCE_LEVEL) / 2, (1 + _CONFIDENCE_LEVEL) / 2])
    return float(low), float(high)


def _add_to(digest: Any, batch: Any) -> None:
    """Add the tensors or arrays of a batch or state to a hash."""
    if isinstance(batch, Mapping):
        for name in sorted(batch):
            digest.update(str(name).encode())
            _add_to(digest, batch[name])
    elif isinstance(batch, (tuple, list)):
        for entry in batch:
            _add_to(digest, entry)
    elif isinstance(batch, Tensor):
        _add_to(digest, batch.detach().cpu().numpy())
    elif isinstance(batch, np.ndarray):
        digest.update(f"{batch.dtype} {batch.shape}".encode())
        digest.update(np.ascontiguousarray(batch).tobytes())
    else:
        digest.update(repr(batch).encode())
