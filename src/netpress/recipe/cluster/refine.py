"""Refinement of cluster quantisation with data of the task."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from netpress.errors import InvalidConfig, InvalidModel
from netpress.recipe.cluster.lloyd import Clusters, make_clusters
from netpress.recipe.objective import batches_of, network_loss, seeded, value_of
from netpress.task import Task

__all__ = ["refine_centres"]

_MIGRATION_SHARES = (1.0, 0.25, 0.06, 0.015)
"""Shares of the members that want to go over that are tried."""
_MIGRATION_BATCHES = 8
"""Batches that decide between them."""


def refine_centres(
    module: Any,
    clusters: Mapping[str, Clusters],
    task: Task,
    *,
    epochs: int = 1,
    learning_rate: float | tuple[float, float] = (1e-3, 1e-5),
    migration: bool = True,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> dict[str, Clusters]:
    """Move the centres of clusters by the gradients of their members.

    The network runs in inference mode with the centres in place of its weights. A centre gets the sum of the gradients
    of its members (Adam). A member that is drawn away from its cluster, by more than half of the distance to the next
    centre, may go over to that one at the end of an epoch: its pull is the sum of its gradients less the mean of its
    cluster's, in units of the tensor's root mean square, times the learning rate. Many moves at once do harm, so that
    shares of those that are drawn most are tried, and the one with the least loss is taken, which may be none.

    Args:
        module: ``torch.nn.Module`` with the float weights; not changed.
        clusters: name of a parameter -> its clusters.
        task: trained towards its ``loss``, else towards the outputs of ``module``.
        epochs: 0 or more.
        learning_rate: in units of the weights, above 0; a pair is the first and the last of a line.
        migration: whether members may go over.
        seed: of torch's random numbers while this runs.
        progress: called with the number of epochs done and the mean loss of the last one.

    Returns:
        New clusters by name; no more centres than before.

    Raises:
        RecipeError: the loss is not finite.
        InvalidModel: a name or a shape does not fit the module.
        InvalidConfig: an option is out of range, or the task has no batches.

    Source: gradient-based clustering and cluster migration of MPEG's core experiment on cluster quantisation;
    S. Han, H. Mao and W. J. Dally, 2016.
    """
    import torch

    start, end = (learning_rate, learning_rate) if isinstance(learning_rate, (int, float)) else learning_rate
    if epochs < 0 or not (start > 0 and end > 0):
        raise InvalidConfig("epochs must be 0 or more and learning rates above 0")
    student = copy.deepcopy(module).eval().requires_grad_(False)
    shared = _shared_weights(student, clusters)
    objective = network_loss(task, module)
    if epochs == 0 or not shared:
        return dict(clusters)
    optimizer = torch.optim.Adam([s.centres for s in shared.values()], lr=start)
    with seeded(seed), torch.enable_grad():
        for epoch in range(epochs):
            rate = start + (end - start) * epoch / max(epochs - 1, 1)
            optimizer.param_groups[0]["lr"] = rate
            losses = []
            for batch in batches_of(task):
                for s in shared.values():
                    s.fill()
                loss = objective(student, batch)
                losses.append(value_of(loss, task))
                loss.backward()
                for s in shared.values():
                    s.gather(rate)
                optimizer.step()
            if not losses:
                raise InvalidConfig(f"task {task.name!r} has no batches")
            if migration:
                _migrate(list(shared.values()), student, objective, list(batches_of(task, _MIGRATION_BATCHES)))
            if progress is not None:
                progress(epoch + 1, float(np.mean(losses)))
    originals = dict(module.named_parameters(remove_duplicate=False))
    return {name: s.result(originals[name]) for name, s in shared.items()}


def _shared_weights(student: Any, clusters: Mapping[str, Clusters]) -> dict[str, _SharedWeight]:
    """Return the parameters that have clusters."""
    parameters = dict(student.named_parameters(remove_duplicate=False))
    for name, c in clusters.items():
        if name not in parameters:
            raise InvalidModel("is not a parameter of the network", tensor=name)
        if tuple(parameters[name].shape) != c.indexes.shape:
            raise InvalidModel(f"has shape {tuple(parameters[name].shape)}, not {c.indexes.shape}", tensor=name)
    return {name: _SharedWeight(parameters[name], c) for name, c in clusters.items()}


def _migrate(shared: list[_SharedWeight], student: Any, objective: Any, batches: list[Any]) -> None:
    """Move members over to the clusters that they are drawn to, as many as the loss likes best."""
    import torch

    def loss() -> float:
        for s in shared:
            s.fill()
        with torch.no_grad():
            value = float(np.mean([float(objective(student, batch)) for batch in batches]))
        return value if np.isfinite(value) else np.inf

    before = [s.indexes for s in shared]
    wishes = [s.wishes() for s in shared]
    strengths = torch.cat([strength[strength > 1] for _, strength in wishes])
    if len(strengths) == 0:
        return
    ranked = strengths.sort(descending=True).values
    best, chosen = loss(), before
    for share in _MIGRATION_SHARES:
        limit = ranked[int(share * (len(ranked) - 1))]
        for s, old, (targets, strength) in zip(shared, before, wishes, strict=True):
            s.indexes = torch.where(strength >= limit, targets, old)
        value = loss()
        if value < best:
            best, chosen = value, [s.indexes for s in shared]
    for s, old, new in zip(shared, before, chosen, strict=True):
        s.indexes = new
        s.pull[new != old] = 0


class _SharedWeight:
    """A parameter whose values are those of few centres, in torch."""

    def __init__(self, parameter: Any, clusters: Clusters) -> None:
        import torch

        self.parameter = parameter.requires_grad_(True)
        self.indexes = torch.from_numpy(clusters.indexes.reshape(-1).astype(np.int64)).to(parameter.device)
        self.centres = torch.from_numpy(clusters.centres.copy()).to(parameter.device).requires_grad_(True)
        self.pull = torch.zeros(self.indexes.shape, device=parameter.device)

    def fill(self) -> None:
        """Put the centres into the network."""
        self.parameter.data.copy_(self.centres.detach()[self.indexes].reshape(self.parameter.shape))
        self.parameter.grad = None

    def gather(self, rate: float) -> None:
        """Sum up the gradients of each centre's members, and what remains for each member."""
        import torch

        gradient = self.parameter.grad
        if gradient is None:  # the loss does not depend on it
            self.centres.grad = torch.zeros_like(self.centres)
            return
        flat = gradient.reshape(-1).float()
        sums = torch.zeros_like(self.centres, requires_grad=False).index_add_(0, self.indexes, flat)
        self.centres.grad = sums
        counts = torch.bincount(self.indexes, minlength=len(sums)).clamp(min=1)
        size = flat.square().mean().sqrt()
        if size > 0:
            self.pull -= rate / size * (flat - (sums / counts)[self.indexes])

    def wishes(self) -> tuple[Any, Any]:
        """Return the cluster that each member is drawn to, and how much: 1 is half of the way."""
        import torch

        centres, order = self.centres.detach().sort()
        ranks = torch.empty_like(order)
        ranks[order] = torch.arange(len(order), device=order.device)
        gaps = torch.cat([centres.new_full((1,), torch.inf), centres.diff(), centres.new_full((1,), torch.inf)])
        rank = ranks[self.indexes]
        is_up = self.pull > 0
        gap = torch.where(is_up, gaps[rank + 1], gaps[rank])
        target = (rank + is_up.long() * 2 - 1).clamp(0, len(order) - 1)
        return order[target], self.pull.abs() / (gap / 2)

    def result(self, original: Any) -> Clusters:
        """Return the clusters; ``original`` is the parameter that they stand for."""
        weight = original.detach().float().cpu().numpy()
        indexes = self.indexes.cpu().numpy().reshape(weight.shape)
        return make_clusters(weight, self.centres.detach().cpu().numpy(), indexes)
