"""Performance maps: the metric of a task at several strengths of a tool, for the stream's parameter sets."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream.maps import (
    DecompositionEntry,
    DecompositionPerformanceMap,
    PruningEntry,
    PruningPerformanceMap,
    SparsificationEntry,
    SparsificationPerformanceMap,
    UnificationEntry,
    UnificationPerformanceMap,
)
from netpress.errors import InvalidConfig
from netpress.recipe.prune.channels import prune_channels
from netpress.recipe.unify.blocks import unify
from netpress.task import Task
from netpress.transforms.decompose import decompose, recompose

__all__ = [
    "measure_decomposition",
    "measure_pruning",
    "measure_sparsification",
    "measure_unification",
]

MAX_ENTRIES = 254
"""Most entries of a map: its count has 8 bits and is one more."""

Array = npt.NDArray[np.float32]
Progress = Callable[[int, float], None]


def measure_sparsification(
    module: Any, task: Task, thresholds: Sequence[float], *, progress: Progress | None = None
) -> SparsificationPerformanceMap:
    """Measure a network whose small weights are zero.

    Args:
        module: ``torch.nn.Module``; not changed.
        task: has ``evaluate``.
        thresholds: 0 or more, at most 254; weights of two or more dimensions whose magnitude is below are zeroed.
        progress: called with the number of strengths done and the metric.

    Returns:
        One entry for each threshold: share of weights that are not zero, and the metric. Class accuracies stay empty.

    Raises:
        InvalidConfig: the task has no ``evaluate``, or a threshold is out of range.

    Source: sparsification_performance_map() of the standard.
    """
    entries: list[SparsificationEntry] = []
    for threshold in _strengths(thresholds, 0, np.inf):
        changed = {name: np.where(np.abs(w) < threshold, np.float32(0), w) for name, w in _weights(module).items()}
        kept = sum(int(np.count_nonzero(w)) for w in changed.values()) / sum(w.size for w in changed.values())
        entries.append(SparsificationEntry(threshold, kept, _metric(module, task, changed, len(entries), progress)))
    return SparsificationPerformanceMap(tuple(entries))


def measure_pruning(
    module: Any, task: Task, ratios: Sequence[float], *, progress: Progress | None = None, **options: Any
) -> PruningPerformanceMap:
    """Measure a network without some of its channels.

    Args:
        module: ``torch.nn.Module``; not changed.
        task: has ``evaluate`` and batches.
        ratios: 0..1, exclusive of 1: shares of channels to remove, of those that can go.
        progress: called with the number of strengths done and the metric.
        **options: of :func:`netpress.recipe.prune.channels.prune_channels`.

    Returns:
        One entry for each ratio: the share of *parameters* that went, and the metric.

    Raises:
        InvalidConfig, RecipeError: see :func:`netpress.recipe.prune.channels.prune_channels`.

    Source: pruning_performance_map() of the standard.
    """
    entries: list[PruningEntry] = []
    total = sum(p.numel() for p in module.parameters())
    for ratio in _strengths(ratios, 0, 1):
        smaller = prune_channels(module, task, share=ratio, **options).module
        gone = 1 - sum(p.numel() for p in smaller.parameters()) / total
        metric = task.scores(smaller).value
        entries.append(PruningEntry(gone, metric))
        if progress is not None:
            progress(len(entries), metric)
    return PruningPerformanceMap(tuple(entries))


def measure_unification(
    module: Any,
    task: Task,
    shares: Sequence[float],
    *,
    block: tuple[int, int] = (4, 4),
    super_block: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> UnificationPerformanceMap:
    """Measure a network with unified weights.

    Args:
        module: ``torch.nn.Module``; not changed.
        task: has ``evaluate``.
        shares: 0..1, of blocks in each weight.
        block, super_block: see :func:`netpress.recipe.unify.blocks.unify`, sides of at most 255.
        progress: called with the number of strengths done and the metric.

    Returns:
        One entry for each share: the largest mean squared error of a unified block of any weight, and the metric. The
        dimensions are those of a block and a super-block; weights are read as matrices, which the entry says by
        leaving ``reshaped_tensor_dimensions`` empty.

    Raises:
        InvalidConfig: the task has no ``evaluate``, or an option is out of range.

    Source: unification_performance_map() of the standard.
    """
    if max(*block, *(super_block or ())) > 255:
        raise InvalidConfig("sides of blocks have 8 bits")
    entries: list[UnificationEntry] = []
    for share in _strengths(shares, 0, 1):
        unified = {
            name: unify(w, block=block, super_block=super_block, share=share, name=name)
            for name, w in _weights(module).items()
        }
        metric = _metric(module, task, {n: u.values for n, u in unified.items()}, len(entries), progress)
        threshold = max((u.threshold for u in unified.values()), default=0.0)
        entries.append(UnificationEntry((), super_block or (), block, threshold, metric))
    return UnificationPerformanceMap(tuple(entries))


def measure_decomposition(
    module: Any, task: Task, thresholds: Sequence[float], *, progress: Progress | None = None
) -> DecompositionPerformanceMap:
    """Measure a network with weights of low rank.

    Args:
        module: ``torch.nn.Module``; not changed.
        task: has ``evaluate``.
        thresholds: 0 or more; each weight gets the lowest rank whose mean squared error does not exceed it, and stays
            as it is where two factors would not be smaller.
        progress: called with the number of strengths done and the metric.

    Returns:
        One entry for each threshold: the metric, and the parameters of all weights of two or more dimensions with
        their factors over those before.

    Raises:
        InvalidConfig: the task has no ``evaluate``, or a threshold is out of range.

    Source: decomposition_performance_map() of the standard.
    """
    entries: list[DecompositionEntry] = []
    weights = _weights(module)
    ranks = {name: np.cumsum(_singular_powers(w)[::-1])[::-1] / w.size for name, w in weights.items()}
    for threshold in _strengths(thresholds, 0, np.inf):
        changed, count = {}, 0
        for name, w in weights.items():
            rows, columns = w.shape[0], w.size // w.shape[0]
            # What rank r leaves out is the power of the singular values after the first r.
            rank = max(int(np.count_nonzero(ranks[name] > threshold)), 1)
            size = rank * (rows + columns)
            if size < w.size:
                changed[name] = recompose(*decompose(w, rank, name=name), w.shape, name=name)
            count += min(size, w.size)
        metric = _metric(module, task, changed, len(entries), progress)
        entries.append(DecompositionEntry(threshold, metric, count / sum(w.size for w in weights.values())))
    return DecompositionPerformanceMap(tuple(entries))


def _singular_powers(weight: Array) -> npt.NDArray[np.float64]:
    """Return the squares of the singular values, largest first."""
    matrix = weight.reshape(weight.shape[0], -1).astype(np.float64)
    return np.asarray(np.linalg.svd(matrix, compute_uv=False) ** 2)


def _weights(module: Any) -> dict[str, Array]:
    """Return the parameters of two or more dimensions."""
    weights = {
        name: p.detach().float().cpu().numpy()
        for name, p in module.named_parameters()
        if p.dim() > 1 and p.is_floating_point()
    }
    if not weights:
        raise InvalidConfig("the network has no weights of two or more dimensions")
    return weights


def _strengths(values: Sequence[float], low: float, high: float) -> list[float]:
    """Check the strengths of a map."""
    if len(values) > MAX_ENTRIES or not all(low <= v <= high and np.isfinite(v) for v in values):
        raise InvalidConfig(f"a map takes at most {MAX_ENTRIES} strengths of {low:g} or more and at most {high:g}")
    return [float(v) for v in values]


def _metric(module: Any, task: Task, changed: Mapping[str, Array], done: int, progress: Progress | None) -> float:
    """Evaluate a network with other weights."""
    import torch

    network = copy.deepcopy(module).eval()
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for name, values in changed.items():
            parameters[name].copy_(torch.from_numpy(np.ascontiguousarray(values)))
    metric = task.scores(network).value
    if progress is not None:
        progress(done + 1, metric)
    return metric
