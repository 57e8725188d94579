"""Comparing two networks: by their outputs, and by their scores with the uncertainty of the samples.

Also what every comparison needs: the network that a decoded state makes, and evaluation mode for a while.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig, InvalidModel
from netpress.formats.pytorch import to_torch
from netpress.task import Batch, Scores, Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = [
    "OutputChange",
    "OutputJudge",
    "confidence_interval",
    "divergence",
    "divergence_rows",
    "divergence_scores",
    "evaluation_mode",
    "has_batch_norms",
    "inference",
    "kl_divergence",
    "network_with",
    "output_change",
    "resample",
    "standard_error",
]


def network_with(module: nn.Module, state: Mapping[str, npt.NDArray[Any]]) -> nn.Module:
    """Return a copy of a network with the weights of a state, in evaluation mode.

    Args:
        module: the network; it is not changed.
        state: arrays by the names of the network's state dictionary, each with as many values as the tensor has. The
            counters of batch norms (``num_batches_tracked``) may be missing; those of the network are kept then.

    Raises:
        InvalidModel: a tensor is missing, unknown, or of another size.
    """
    result = copy.deepcopy(module)
    expected = result.state_dict()
    unknown = [name for name in state if name not in expected]
    missing = [name for name in expected if name not in state and not name.endswith("num_batches_tracked")]
    if unknown or missing:
        raise InvalidModel(f"the state does not fit the network: missing {missing}, unexpected {unknown}")
    tensors = {}
    for name, value in state.items():
        if value.size != expected[name].numel():
            raise InvalidModel(f"the state has another shape: {value.shape}", tensor=name)
        tensors[name] = to_torch(np.ascontiguousarray(value)).reshape(expected[name].shape)
    result.load_state_dict(tensors, strict=False)
    return result.eval()


def has_batch_norms(module: nn.Module) -> bool:
    """Whether a network has batch norms, of any number of dimensions."""
    from torch import nn

    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())


@contextlib.contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Bring a network into evaluation mode, and each of its layers back into the mode that it was in."""
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for layer, training in modes:
            layer.training = training


@contextlib.contextmanager
def inference(module: nn.Module) -> Iterator[torch.device]:
    """Bring a network into evaluation mode without gradients, and back; yields the device of its parameters."""
    import torch

    parameter = next(module.parameters(), None)
    with evaluation_mode(module), torch.inference_mode():
        yield torch.device("cpu") if parameter is None else parameter.device


def divergence(task: Task, reference: nn.Module, module: nn.Module) -> Scores:
    """Return how far the outputs of a network are from those of another, on the evaluation batches of a task.

    Args:
        task: gives the batches, and says what the outputs are.
        reference: the network to compare with, usually the float one.
        module: the network to judge.

    Returns:
        For logits, the Kullback-Leibler divergence of each sample in nats, the mean over its positions. For values,
        the squared error and the square of the reference of each sample, (samples, 2); the metric is the quotient of
        their sums. 0 means equal outputs in both cases.

    Raises:
        InvalidConfig: the task has no evaluation batches.
    """
    rows = []
    for batch in task.batches("evaluation"):
        with inference(reference):
            expected = task.output(reference, batch).cpu()
        with inference(module):
            changed = task.output(module, batch).cpu()
        rows.append(divergence_rows(task.outputs, expected, changed))
    return divergence_scores(task.outputs, rows)


def divergence_rows(outputs: str, reference: Tensor, found: Tensor) -> npt.NDArray[np.float64]:
    """Return the samples of :func:`divergence` for one batch.

    Args:
        outputs: what they are, ``"logits"`` or ``"values"``.
        reference: outputs of the network to compare with, one row per sample.
        found: those of the other one, of the same shape.
    """
    return _kl_rows(reference, found) if outputs == "logits" else _squares(reference, found)


def divergence_scores(outputs: str, rows: Sequence[npt.NDArray[np.float64]]) -> Scores:
    """Return the scores of :func:`divergence` of the :func:`divergence_rows` of all batches."""
    samples = np.concatenate(rows)
    return Scores(samples) if outputs == "logits" else Scores(samples, _quotient)


@dataclasses.dataclass(frozen=True)
class OutputChange:
    """How far the outputs of a network are from those of another on the same inputs.

    Attributes:
        divergence: the mean Kullback-Leibler divergence of logits in nats, or, for values, the square of
            ``relative_error``; from 0.
        relative_error: norm of the difference of all outputs, divided by the norm of the outputs of the other network;
            from 0.
        agreement: share of the positions at which both find the same class, 0 to 1; None for values.
    """

    divergence: float
    relative_error: float
    agreement: float | None = None

    def __str__(self) -> str:
        """Return relative error and agreement in percent, as a line for people."""
        same = "" if self.agreement is None else f", same class for {100 * self.agreement:.4g} %"
        return f"outputs change by {100 * self.relative_error:.3g} %{same}"


def output_change(task: Task, reference: nn.Module, module: nn.Module, which: str = "evaluation") -> OutputChange:
    """Return how far the outputs of a network are from those of another, on the batches of a task.

    Args:
        task: gives the batches, and says what the outputs are.
        reference: the network to compare with, usually the float one.
        module: the network to judge.
        which: batches of the task: ``"evaluation"``, ``"calibration"`` or ``"train"``; their inputs are used alone.

    Raises:
        InvalidConfig: the task has no such batches.

    Example:
        >>> import torch, netpress
        >>> network, other = torch.nn.Linear(8, 4, bias=False), torch.nn.Linear(8, 4, bias=False)
        >>> _ = other.load_state_dict({"weight": 1.01 * network.weight.data})
        >>> task = netpress.Task(evaluation_batches=[torch.ones(2, 8)], outputs="logits")
        >>> print(output_change(task, network, other))
        outputs change by 1 %, same class for 100 %
    """
    is_logits = task.outputs == "logits"
    rows, squares, same = [], [], []
    for batch in task.batches(which):
        with inference(reference):
            expected = task.output(reference, batch).cpu()
        with inference(module):
            changed = task.output(module, batch).cpu()
        squares.append(_squares(expected, changed))
        if is_logits:
            rows.append(_kl_rows(expected, changed))
            classes = 1 if expected.ndim == 4 else -1
            same.append((expected.argmax(classes) == changed.argmax(classes)).double().reshape(-1).numpy())
    squared = _quotient(np.concatenate(squares))
    if not is_logits:
        return OutputChange(squared, math.sqrt(squared))
    return OutputChange(float(np.concatenate(rows).mean()), math.sqrt(squared), float(np.concatenate(same).mean()))


class OutputJudge:
    """Tells what other values of some tensors of a network do to its outputs, which are kept.

    Args:
        module: the network; unchanged.
        task: runs it, and says what the outputs are.
        batches: inputs.
        memory_bytes: for the outputs; batches that come after are left out.
    """

    def __init__(self, module: nn.Module, task: Task, batches: Iterable[Batch], memory_bytes: float = math.inf) -> None:
        self.task = task
        self.module = copy.deepcopy(module).eval()
        self.tensors = self.module.state_dict()
        self._kept: list[tuple[Batch, Tensor]] = []
        size = 0
        for batch in batches:
            with inference(self.module):
                output = task.output(self.module, batch)
            self._kept.append((batch, output))
            # Outputs over a large vocabulary are larger than the network.
            size += output.numel() * output.element_size()
            if size > memory_bytes:
                break

    def divergence(self, values: Mapping[str, npt.NDArray[Any]]) -> float:
        """Return the divergence with some tensors replaced, which are put back.

        For logits the mean over samples of the Kullback-Leibler divergence in nats, for values the squared error over
        the square of the outputs.
        """
        import torch

        originals = {name: self.tensors[name].clone() for name in values}
        for name, value in values.items():
            self.tensors[name].copy_(torch.from_numpy(np.ascontiguousarray(value)).reshape(originals[name].shape))
        rows = []
        for batch, wanted in self._kept:
            with inference(self.module):
                changed = self.task.output(self.module, batch)
            rows.append(divergence_rows(self.task.outputs, wanted.cpu(), changed.cpu()))
        for name, original in originals.items():
            self.tensors[name].copy_(original)
        return divergence_scores(self.task.outputs, rows).value


def kl_divergence(reference: Tensor, found: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of the distributions that logits stand for, in nats.

    Args:
        reference: logits; classes are in the last dimension, or in dimension 1 of a tensor with four (images).
        found: those of the other network, of the same shape and dtype, in which all is computed.

    Returns:
        One value for each position: the shape of the logits without the dimension of the classes.
    """
    classes = 1 if reference.ndim == 4 else -1
    log_p, log_q = reference.log_softmax(classes), found.log_softmax(classes)
    return (log_p.exp() * (log_p - log_q)).sum(classes)


def _kl_rows(reference: Tensor, found: Tensor) -> npt.NDArray[np.float64]:
    per_position = kl_divergence(reference.double(), found.double())
    result: npt.NDArray[np.float64] = per_position.reshape(len(reference), -1).mean(1).numpy()
    return result


def _squares(reference: Tensor, found: Tensor) -> npt.NDArray[np.float64]:
    wanted = reference.double().reshape(len(reference), -1)
    error = found.double().reshape(len(reference), -1) - wanted
    result: npt.NDArray[np.float64] = np.stack([error.square().sum(1).numpy(), wanted.square().sum(1).numpy()], 1)
    return result


def _quotient(squares: npt.NDArray[Any]) -> float:
    return float(squares[:, 0].sum() / squares[:, 1].sum())


def resample(
    scores: Scores, reference: Scores | None = None, *, resamples: int = 1000, seed: int = 0
) -> npt.NDArray[np.float64]:
    """Return the metric of random choices of the samples, as many as there are, with replacement.

    Args:
        scores: the scores of a network.
        reference: scores of another one on the same samples; then the difference of the two metrics on each choice
            is returned, which varies far less than either.
        resamples: number of choices.
        seed: of the choices.

    Returns:
        One value for each choice, float64 (resamples,).

    Raises:
        InvalidConfig: the two have different numbers of samples.

    Source: Efron, Bootstrap Methods: Another Look at the Jackknife (1979).
    """
    count = len(scores.samples)
    if reference is not None and len(reference.samples) != count:
        raise InvalidConfig(f"scores of {count} and {len(reference.samples)} samples cannot be compared in pairs")
    random = np.random.default_rng(seed)
    values = np.empty(resamples)
    for place in range(resamples):
        rows = random.integers(0, count, count)
        values[place] = scores.aggregate(scores.samples[rows])
        if reference is not None:
            values[place] -= reference.aggregate(reference.samples[rows])
    return values


def confidence_interval(
    scores: Scores,
    reference: Scores | None = None,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bounds between which the metric lies, as far as the choice of samples goes.

    Args:
        scores: the scores of a network.
        reference: scores of another one on the same samples; then the bounds are those of the difference.
        level: share of the choices of samples that lie between the bounds, 0 to 1.
        resamples: choices that are tried.
        seed: of the choices.

    Example:
        >>> import numpy, netpress
        >>> low, high = confidence_interval(netpress.Scores(numpy.arange(100.0)))
        >>> low < 49.5 < high
        True
    """
    if not 0 < level < 1:
        raise InvalidConfig(f"level is between 0 and 1, not {level}")
    values = resample(scores, reference, resamples=resamples, seed=seed)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def standard_error(scores: Scores, reference: Scores | None = None, *, resamples: int = 1000, seed: int = 0) -> float:
    """Return the standard error of the metric, or of its difference from that of ``reference`` on the same samples."""
    return float(np.std(resample(scores, reference, resamples=resamples, seed=seed), ddof=1))
