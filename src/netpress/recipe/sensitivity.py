"""How much a task depends on each parameter: gradients over its data."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig
from netpress.recipe.objective import batches_of, seeded, value_of
from netpress.task import Batch, Task

__all__ = ["mean_gradients", "squared_gradients"]

Arrays = dict[str, npt.NDArray[np.float32]]


def squared_gradients(module: Any, task: Task, *, batches: int | None = None, seed: int = 0) -> Arrays:
    """Return the mean squared gradient of each parameter: to first order, the diagonal of the Fisher information.

    Where the task has a loss, its gradient of each batch is squared. Else the outputs themselves tell: labels are drawn
    from the classes' own probabilities, or, for values, outputs get random signs, whose expectation is the diagonal of
    the Gauss-Newton matrix of the mean squared error. (The gradient of the distance to the network's own outputs would
    be zero.)

    Args:
        module: ``torch.nn.Module``, run in inference mode; not changed.
        task: its training batches, or without a loss its calibration batches.
        batches: the largest number of batches; None: all.
        seed: of the draws.

    Returns:
        Name -> float32 of the parameter's shape, 0 or more; parameters of integers are left out.

    Raises:
        RecipeError: a loss is not finite.
        InvalidConfig: the task has no batches.

    Source: J. Martens, 2014, for the empirical and the sampled Fisher information.
    """
    return _gradients(module, task, batches, seed, squared=True)


def mean_gradients(module: Any, task: Task, *, batches: int | None = None, seed: int = 0) -> Arrays:
    """Return the mean gradient of each parameter; otherwise as :func:`squared_gradients`."""
    return _gradients(module, task, batches, seed, squared=False)


def _gradients(module: Any, task: Task, batches: int | None, seed: int, *, squared: bool) -> Arrays:
    """Return the mean over batches of the gradients or of their squares."""
    import torch

    network = copy.deepcopy(module).eval()
    parameters = {n: p.requires_grad_(True) for n, p in network.named_parameters() if p.is_floating_point()}
    sums = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    count = 0
    with seeded(seed), torch.enable_grad():
        for batch in batches_of(task, batches):
            loss, samples = _sampled_loss(network, task, batch) if task.loss is None else (task.loss(network, batch), 1)
            value_of(loss, task)
            network.zero_grad()
            loss.backward()
            for name, p in parameters.items():
                if p.grad is not None:
                    # Draws of different samples are independent: the square of their mean is that much too small.
                    sums[name] += p.grad.double() ** 2 * samples if squared else p.grad.double()
            count += 1
    if count == 0:
        raise InvalidConfig(f"task {task.name!r} has no batches")
    return {name: (total / count).float().cpu().numpy() for name, total in sums.items()}


def _sampled_loss(network: Any, task: Task, batch: Batch) -> tuple[Any, int]:
    """Return a loss whose squared gradient estimates the curvature of the outputs, and how many samples it averages."""
    import torch
    from torch.nn import functional

    output = task.output(network, batch)
    if task.outputs == "logits":
        rows = output.movedim(1, -1) if output.dim() == 4 else output
        rows = rows.reshape(-1, rows.shape[-1])
        labels = torch.multinomial(functional.softmax(rows.detach(), -1), 1).squeeze(1)
        return functional.cross_entropy(rows, labels), len(rows)
    signs = torch.randint_like(output, 0, 2, dtype=output.dtype) * 2 - 1
    return (output * signs).sum() * (2 / output.numel()) ** 0.5, 1
