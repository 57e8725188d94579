"""What the tools that learn minimise, and gradients of it."""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from netpress.errors import InvalidConfig, RecipeError
from netpress.task import Batch, Task

__all__ = ["batches_of", "frozen", "network_loss", "seeded", "value_of"]


def network_loss(task: Task, module: Any) -> Callable[[Any, Batch], Any]:
    """Return the function of a network and a batch that is to be minimised.

    Args:
        task: its ``loss`` is taken where there is one.
        module: the original network; without a loss, outputs are compared with its own, see
            :func:`netpress.recipe.loop.distillation_loss`.
    """
    if task.loss is not None:
        return task.loss
    from netpress.recipe.loop import distillation_loss

    teacher = frozen(module)
    return lambda student, batch: distillation_loss(task, student, teacher, batch)


def frozen(module: Any) -> Any:
    """Return a copy of a network in inference mode, without gradients."""
    return copy.deepcopy(module).eval().requires_grad_(False)


def batches_of(task: Task, limit: int | None = None) -> Iterable[Batch]:
    """Return the batches to learn from: those for training, else those for calibration where a loss needs no labels.

    Raises:
        InvalidConfig: the task has none, or the limit is below 1.
    """
    if limit is not None and limit < 1:
        raise InvalidConfig(f"at least one batch is needed, not {limit}")
    which = "calibration" if task.train_batches is None and task.loss is None else "train"
    return itertools.islice(task.batches(which), limit)


def value_of(loss: Any, task: Task) -> float:
    """Return the number in a loss.

    Raises:
        RecipeError: it is infinite or undefined.
    """
    value = float(loss.detach())
    if not math.isfinite(value):
        raise RecipeError(f"task {task.name!r}: the loss is {value}; a lower learning rate may help")
    return value


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Fix torch's random numbers inside, and leave those outside as they were."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
