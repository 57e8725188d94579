"""A task: what a tool may need to know beyond the weights of a network.

Every field is optional; a tool that needs an absent one says so before it starts. Only numpy is imported here: modules,
batches and tensors are those of the framework that the functions of the task use.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig

__all__ = ["Batch", "Scores", "Task", "beside", "inputs_of", "scores_of"]

Batch = Any
"""One batch of data: a tensor, a tuple or list that starts with the input, or a dictionary of keyword arguments."""


def _mean(samples: npt.NDArray[Any]) -> float:
    return float(np.mean(samples, dtype=np.float64))


@dataclasses.dataclass(frozen=True, slots=True)
class Scores:
    """The result of an evaluation, sample by sample.

    ``samples`` has one row per sample, of any shape; ``aggregate`` makes the metric of a selection of rows, so that
    confidence intervals can be found by resampling. The default is the mean.
    """

    samples: npt.NDArray[Any]
    aggregate: Callable[[npt.NDArray[Any]], float] = _mean

    @property
    def value(self) -> float:
        """The metric over all samples."""
        return float(self.aggregate(self.samples))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """A network with its data and its measure of quality.

    ``train_batches``, ``calibration_batches`` and ``evaluation_batches`` are iterables that can be run through more
    than once, or functions that return a new iterable each time. Calibration uses the inputs alone.
    """

    name: str = "task"
    model: Callable[[], Any] | None = None
    """Returns the network with its float weights, in inference mode; a new one each time."""
    train_batches: Callable[[], Iterable[Batch]] | Iterable[Batch] | None = None
    calibration_batches: Callable[[], Iterable[Batch]] | Iterable[Batch] | None = None
    evaluation_batches: Callable[[], Iterable[Batch]] | Iterable[Batch] | None = None
    """Inputs on which the outputs of two networks are compared; never used for calibration or training."""
    forward: Callable[[Any, Batch], Any] | None = None
    """Runs the network on a batch and returns its output tensor. None: calls it with the inputs of the batch."""
    loss: Callable[[Any, Batch], Any] | None = None
    """Returns the scalar to minimise, from the network and a training batch. None: outputs like the original's."""
    evaluate: Callable[[Any], float | npt.NDArray[Any] | Scores] | None = None
    """Returns the metric of a network: a number, one score per sample (the mean counts), or :class:`Scores`."""
    metric: str = "metric"
    direction: str = "max"
    """``"max"`` if a higher metric is better, else ``"min"``."""
    unit: str = ""
    outputs: str = "values"
    """What the network returns: ``"logits"`` (classes in the last dimension, or in dimension 1 of an image) or
    ``"values"``. A task that does not say it returns values; :func:`netpress.calibrate` and
    :func:`netpress.quantize_blocks`, called without a task, take outputs for logits."""
    description: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Text for reports: use case, network, data, source, licence."""

    def __post_init__(self) -> None:
        if self.direction not in ("max", "min"):
            raise InvalidConfig(f"task {self.name!r}: direction is 'max' or 'min', not {self.direction!r}")
        if self.outputs not in ("logits", "values"):
            raise InvalidConfig(f"task {self.name!r}: outputs are 'logits' or 'values', not {self.outputs!r}")

    def batches(self, which: str) -> Iterable[Batch]:
        """Return ``"train"``, ``"calibration"`` or ``"evaluation"`` batches, from the start.

        Raises:
            InvalidConfig: the task has none.
        """
        source = getattr(self, which + "_batches")
        if source is None:
            raise InvalidConfig(f"task {self.name!r} has no {which}_batches")
        batches: Iterable[Batch] = source() if callable(source) else source
        if iter(batches) is batches and not callable(source):
            raise InvalidConfig(
                f"task {self.name!r}: {which}_batches can be run through only once; give a list or a function"
            )
        return batches

    def output(self, module: Any, batch: Batch) -> Any:
        """Run a network on a batch, moved to where the network is, and return its output tensor."""
        batch = beside(module, batch)
        if self.forward is not None:
            return self.forward(module, batch)
        result = module(**batch) if isinstance(batch, Mapping) else module(inputs_of(batch))
        return getattr(result, "logits", result)

    def scores(self, module: Any) -> Scores:
        """Evaluate a network.

        Raises:
            InvalidConfig: the task has no ``evaluate``, or it returned something else than a number or scores.
        """
        if self.evaluate is None:
            raise InvalidConfig(f"task {self.name!r} has no evaluate")
        return scores_of(self.evaluate(module), self.name)


def beside(module: Any, batch: Batch) -> Batch:
    """Return a batch with its tensors on the device of a torch module's first parameter."""
    parameters = getattr(module, "parameters", None)
    device = next((p.device for p in parameters()), None) if callable(parameters) else None
    return batch if device is None else _moved(batch, device)


def _moved(batch: Batch, device: Any) -> Batch:
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if type(batch) in (tuple, list):
        return type(batch)(_moved(value, device) for value in batch)
    return batch.to(device) if hasattr(batch, "to") else batch


def inputs_of(batch: Batch) -> Any:
    """Return the input of a batch that is a tensor or a tuple or list that starts with it."""
    return batch[0] if isinstance(batch, (tuple, list)) else batch


def scores_of(result: Any, name: str) -> Scores:
    """Bring the result of a task's ``evaluate`` into one form.

    Raises:
        InvalidConfig: it is not a number, has no samples, or is NaN.
    """
    if isinstance(result, Scores):
        scores = result
    else:
        try:
            samples = np.atleast_1d(np.asarray(result, np.float64))
        except (TypeError, ValueError):
            raise InvalidConfig(f"task {name!r}: evaluate returned {type(result).__name__}, not numbers") from None
        scores = Scores(samples)
    if len(scores.samples) == 0:
        raise InvalidConfig(f"task {name!r}: evaluate returned no samples")
    if np.isnan(scores.value):
        raise InvalidConfig(f"task {name!r}: evaluate returned NaN")
    return scores
