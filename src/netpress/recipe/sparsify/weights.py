"""Unstructured pruning: zero single weights, at once or in steps with training between them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig, InvalidModel
from netpress.recipe.sensitivity import mean_gradients, squared_gradients
from netpress.task import Task

__all__ = ["apply_masks", "cubic_sparsities", "sparsify_gradually", "sparsity_masks"]

Masks = dict[str, npt.NDArray[np.bool_]]


def sparsity_masks(
    module: Any,
    *,
    sparsity: float,
    criterion: str = "magnitude",
    scope: str = "global",
    task: Task | None = None,
    names: Collection[str] | None = None,
    batches: int | None = None,
    seed: int = 0,
) -> Masks:
    """Choose the weights that matter least.

    Args:
        module: ``torch.nn.Module``; not changed.
        sparsity: 0..1, share of the weights to zero, rounded down to whole weights.
        criterion: ``"magnitude"``: absolute values. ``"gradient"``: value times mean gradient, the first-order change
            of the loss. ``"fisher"``: squared value times mean squared gradient, the second-order change.
        scope: ``"global"``: one ranking over all weights; ``"layer"``: the same share of each.
        task: gives the gradients.
        names: parameters to sparsify; None: all of two or more dimensions.
        batches: see :func:`squared_gradients`.
        seed: see :func:`squared_gradients`.

    Returns:
        Name -> bool of the parameter's shape, False where the weight is to be zero.

    Raises:
        InvalidConfig: an option is out of range, or the criterion needs a task.
        InvalidModel: a name is not a parameter.

    Source: Y. LeCun, J. Denker and S. Solla, 1990, with the Fisher information in place of the Hessian;
    P. Molchanov et al., 2017, for first-order changes.
    """
    if not 0 <= sparsity <= 1 or scope not in ("global", "layer"):
        raise InvalidConfig(f"sparsity is 0..1 and scope 'global' or 'layer', not {sparsity}, {scope!r}")
    scores = _scores(module, criterion, task, names, batches, seed)
    if scope == "layer":
        return {name: _keep(score.reshape(-1), sparsity).reshape(score.shape) for name, score in scores.items()}
    flat = np.concatenate([s.reshape(-1) for s in scores.values()]) if scores else np.zeros(0)
    ends = np.cumsum([s.size for s in scores.values()])[:-1]
    parts = np.split(_keep(flat, sparsity), ends) if scores else []
    return {name: part.reshape(s.shape) for (name, s), part in zip(scores.items(), parts, strict=True)}


def sparsify_gradually(
    module: Any,
    *,
    sparsity: float,
    train: Callable[[Any, Callable[[], None]], Any],
    steps: int = 5,
    criterion: str = "magnitude",
    scope: str = "global",
    task: Task | None = None,
    names: Collection[str] | None = None,
    batches: int | None = None,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> tuple[Any, Masks]:
    """Sparsify in steps, and train after each of them.

    Args:
        module: ``torch.nn.Module``; not changed.
        sparsity: 0..1, at the end.
        train: called with the network and a function that sets the zeros again, which it calls after every step of the
            optimiser, such as ``lambda network, after_step: train(network, task, epochs=1, after_step=after_step)``.
        steps: 1 or more.
        criterion, scope, task, names, batches, seed: see :func:`sparsity_masks`.
        progress: called with the number of steps done and the sparsity.

    Returns:
        A new network with the zeros in place, and the masks. A weight that is zeroed once stays zero.

    Raises:
        InvalidConfig, InvalidModel: see :func:`sparsity_masks`.

    Source: M. Zhu and S. Gupta, 2018, for the cubic schedule.
    """
    network = copy.deepcopy(module)
    masks: Masks = {}
    for step, share in enumerate(cubic_sparsities(sparsity, steps), 1):
        found = sparsity_masks(
            network,
            sparsity=share,
            criterion=criterion,
            scope=scope,
            task=task,
            names=names,
            batches=batches,
            seed=seed + step,
        )
        masks = found
        apply_masks(network, masks)
        train(network, lambda masks=masks: apply_masks(network, masks))  # type: ignore[misc]
        apply_masks(network, masks)
        if progress is not None:
            progress(step, share)
    return network, masks


def cubic_sparsities(sparsity: float, steps: int) -> list[float]:
    """Return the sparsity after each step: fast at first, slow at the end.

    >>> cubic_sparsities(0.8, 2)
    [0.7000000000000001, 0.8]
    """
    if steps < 1:
        raise InvalidConfig(f"at least one step is needed, not {steps}")
    return [sparsity * (1 - (1 - step / steps) ** 3) for step in range(1, steps + 1)]


def apply_masks(module: Any, masks: Mapping[str, npt.NDArray[np.bool_]]) -> None:
    """Zero the weights of a network, in place, where its masks are False."""
    import torch

    parameters = dict(module.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].masked_fill_(~torch.from_numpy(mask).to(parameters[name].device), 0)


def _scores(
    module: Any,
    criterion: str,
    task: Task | None,
    names: Collection[str] | None,
    batches: int | None,
    seed: int,
) -> dict[str, npt.NDArray[np.float64]]:
    """Return how much each weight matters. Those that are zero matter less than all others."""
    parameters = {n: p.detach().double().cpu().numpy() for n, p in module.named_parameters() if p.is_floating_point()}
    chosen = [n for n, p in parameters.items() if p.ndim > 1] if names is None else list(names)
    for name in chosen:
        if name not in parameters:
            raise InvalidModel("is not a parameter of the network", tensor=name)
    if criterion == "magnitude":
        scores = {name: np.abs(parameters[name]) for name in chosen}
    elif criterion not in ("gradient", "fisher"):
        raise InvalidConfig(f"the criterion is 'magnitude', 'gradient' or 'fisher', not {criterion!r}")
    elif task is None:
        raise InvalidConfig(f"the criterion {criterion!r} needs a task")
    elif criterion == "gradient":
        gradients = mean_gradients(module, task, batches=batches, seed=seed)
        scores = {name: np.abs(parameters[name] * gradients[name]) for name in chosen}
    else:
        squares = squared_gradients(module, task, batches=batches, seed=seed)
        scores = {name: parameters[name] ** 2 * squares[name] for name in chosen}
    return {name: np.where(parameters[name] == 0, -1.0, score) for name, score in scores.items()}


def _keep(scores: npt.NDArray[np.float64], sparsity: float) -> npt.NDArray[np.bool_]:
    """Return a mask that leaves out the lowest scores, the first of equals first."""
    keep = np.ones(len(scores), bool)
    # The product may fall just short of a whole number.
    number = int(np.floor(sparsity * len(scores) + 1e-9))
    keep[np.argsort(scores, kind="stable")[:number]] = False
    return keep
