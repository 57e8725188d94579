"""The training loop that all stages share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import Any

import torch
from torch import nn

from netpress.compare import kl_divergence
from netpress.errors import InvalidConfig, RecipeError
from netpress.parallel import Progress
from netpress.task import Task, beside

__all__ = ["OPTIMIZERS", "distillation_loss", "rebatched", "train"]

OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": lambda parameters, **options: torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **options),
}
"""Optimisers by name; SGD with Nesterov momentum 0.9."""

_BATCH_NORMS = nn.modules.batchnorm._BatchNorm
_DROPOUTS = nn.modules.dropout._DropoutNd


def distillation_loss(task: Task, module: nn.Module, teacher: nn.Module, batch: Any) -> torch.Tensor:
    """Return how far the outputs of a network are from those of another one on a batch, a scalar.

    For logits the mean Kullback-Leibler divergence in nats; for values the squared error relative to the teacher's
    mean square.

    Source: Hinton, Vinyals and Dean, 2015, at temperature 1.
    """
    with torch.no_grad():
        wanted = task.output(teacher, batch)
    output = task.output(module, batch)
    if task.outputs == "logits":
        return kl_divergence(wanted, output).mean()
    scale = wanted.square().mean().clamp_min(torch.finfo(wanted.dtype).tiny)
    return (output - wanted).square().mean() / scale


def train(
    module: nn.Module,
    task: Task,
    *,
    epochs: int,
    optimizer: str = "adam",
    learning_rate: tuple[float, float] = (1e-3, 1e-5),
    parameters: Iterable[nn.Parameter] | None = None,
    teacher: nn.Module | None = None,
    distillation: float | None = None,
    batch_size: int | None = None,
    weight_decay: float = 0.0,
    gradient_limit: float | None = None,
    seed: int = 0,
    batch_norm: str = "train",
    dropout: float | None = None,
    progress: Progress | None = None,
    after_step: Callable[[], None] | None = None,
    batches: str = "train",
) -> list[float]:
    """Train a network in place.

    Args:
        module: the network; left in inference mode.
        task: gives the batches, and the loss if it has one.
        epochs: passes over the batches, at least 1.
        optimizer: a name in :data:`OPTIMIZERS`.
        learning_rate: at the first and at the last step, falling geometrically between.
        parameters: what is trained; None: all parameters that require gradients. The others get none.
        teacher: the network whose outputs are wanted, in inference mode.
        distillation: share of the distance to the teacher's outputs in the loss, 0..1. None: all of it where the task
            has no loss, else none.
        batch_size: joins or splits the batches of the task to this size; None leaves them as they are.
        weight_decay: of the optimiser.
        gradient_limit: gradients are scaled down to this norm; None for no limit.
        seed: of torch's generators, whose state is restored afterwards.
        batch_norm: ``"train"``, or ``"frozen"`` for statistics that stay as they are.
        dropout: replaces the probability of all dropout layers meanwhile.
        progress: called with steps done, steps in all (an estimate in the first epoch) and the epoch.
        after_step: called after each step of the optimiser.
        batches: ``"train"``, or ``"calibration"`` to learn from the teacher on unlabelled inputs.

    Returns:
        The mean loss of each epoch.

    Raises:
        RecipeError: the loss is not finite, or there is neither loss nor teacher.
        InvalidConfig: an option is out of range, or the task has no such batches.
    """
    if optimizer not in OPTIMIZERS:
        raise InvalidConfig(f"optimizer is one of {', '.join(OPTIMIZERS)}, not {optimizer!r}")
    if epochs < 1 or min(learning_rate) <= 0:
        raise InvalidConfig("training needs at least one epoch and learning rates above 0")
    if distillation is None:
        distillation = 0.0 if task.loss is not None and batches == "train" else 1.0
    if (distillation < 1 and task.loss is None) or (distillation > 0 and teacher is None):
        raise RecipeError("training needs a loss of the task, or a network to learn from")
    trained = list(parameters if parameters is not None else (p for p in module.parameters() if p.requires_grad))
    if not trained:
        raise RecipeError("there is nothing to train")

    def loss_of(batch: Any) -> torch.Tensor:
        loss = torch.zeros((), device=trained[0].device)
        if distillation < 1 and task.loss is not None:
            loss = loss + (1 - distillation) * task.loss(module, beside(module, batch))
        if distillation > 0 and teacher is not None:
            loss = loss + distillation * distillation_loss(task, module, teacher, batch)
        return loss

    with torch.random.fork_rng(), _TrainingMode(module, trained, batch_norm, dropout):
        torch.manual_seed(seed)
        method = OPTIMIZERS[optimizer](trained, lr=learning_rate[0], weight_decay=weight_decay)
        losses: list[float] = []
        step, steps = 0, _known_steps(task.batches(batches), batch_size, epochs)
        for epoch in range(epochs):
            total, count = 0.0, 0
            for batch in rebatched(task.batches(batches), batch_size):
                if steps:
                    _set_rate(method, learning_rate, step / max(1, steps - 1))
                method.zero_grad(set_to_none=True)
                loss = loss_of(batch)
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise RecipeError(f"the loss is {value} in epoch {epoch + 1}; a lower learning rate may help")
                loss.backward()
                if gradient_limit is not None:
                    nn.utils.clip_grad_norm_(trained, gradient_limit)
                method.step()
                if after_step is not None:
                    after_step()
                total, count, step = total + value, count + 1, step + 1
                if progress is not None:
                    progress(step, steps or step * epochs, f"epoch {epoch + 1} of {epochs}, loss {total / count:.4g}")
            if not count:
                raise RecipeError(f"the task has no {batches} batches")
            steps = steps or count * epochs
            losses.append(total / count)
        return losses


def _known_steps(batches: Iterable[Any], batch_size: int | None, epochs: int) -> int | None:
    """Steps in all, where the batches tell how many they are; otherwise the first epoch does, at the first rate."""
    return epochs * len(batches) if isinstance(batches, Sized) and batch_size is None else None


def _set_rate(method: torch.optim.Optimizer, learning_rate: tuple[float, float], position: float) -> None:
    first, last = learning_rate
    for group in method.param_groups:
        group["lr"] = first * (last / first) ** min(1.0, position)


class _TrainingMode:
    """Put a network into training mode, and back into inference mode at the end, with its settings as they were."""

    def __init__(
        self, module: nn.Module, trained: Sequence[nn.Parameter], batch_norm: str, dropout: float | None
    ) -> None:
        if batch_norm not in ("train", "frozen"):
            raise InvalidConfig(f"batch_norm is 'train' or 'frozen', not {batch_norm!r}")
        self.module, self.batch_norm, self.dropout = module, batch_norm, dropout
        self.trained = {id(parameter) for parameter in trained}

    def __enter__(self) -> None:
        self.gradients = [(p, p.requires_grad) for p in self.module.parameters()]
        self.probabilities = [(m, m.p) for m in self.module.modules() if isinstance(m, _DROPOUTS)]
        for parameter, _ in self.gradients:
            parameter.requires_grad_(id(parameter) in self.trained)
        self.module.train()
        for layer in self.module.modules():
            if self.batch_norm == "frozen" and isinstance(layer, _BATCH_NORMS):
                layer.eval()
        if self.dropout is not None:
            for layer, _ in self.probabilities:
                layer.p = self.dropout

    def __exit__(self, *_: object) -> None:
        for parameter, needed in self.gradients:
            parameter.requires_grad_(needed)
            parameter.grad = None
        for layer, probability in self.probabilities:
            layer.p = probability
        self.module.eval()


def rebatched(batches: Iterable[Any], size: int | None) -> Iterator[Any]:
    """Join and split batches so that each has ``size`` samples; the last one may have fewer.

    Batches are tensors, or tuples, lists or dictionaries of tensors with the samples along their first dimension.
    """
    if size is None:
        yield from batches
        return
    if size < 1:
        raise InvalidConfig(f"batch_size is {size}, less than 1")
    held: Any = None
    for batch in batches:
        held = batch if held is None else _joined(held, batch)
        count = _samples(held)
        start = 0
        while count - start >= size:
            yield _cut(held, start, start + size)
            start += size
        held = _cut(held, start, count) if start < count else None
    if held is not None:
        yield held


def _samples(batch: Any) -> int:
    first = next(iter(batch.values())) if isinstance(batch, Mapping) else batch
    first = first[0] if isinstance(first, (tuple, list)) else first
    return len(first)


def _cut(batch: Any, start: int, end: int) -> Any:
    if isinstance(batch, Mapping):
        return {key: value[start:end] for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        return type(batch)(value[start:end] for value in batch)
    return batch[start:end]


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, Mapping):
        return {key: torch.cat([value, second[key]]) for key, value in first.items()}
    if isinstance(first, (tuple, list)):
        return type(first)(torch.cat(pair) for pair in zip(first, second, strict=True))
    return torch.cat([first, second])
