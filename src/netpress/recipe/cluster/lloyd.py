"""Cluster quantisation of one tensor: every weight becomes the index of a centre in a short list of values.

Source: MPEG's core experiment on cluster quantisation; S. Lloyd, 1982; P. A. Chou, T. Lookabaugh and R. M. Gray, 1989,
for the variant that counts bits.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig, InvalidModel
from netpress.recipe.cluster.starts import STARTS, bounded_density, first_centres

__all__ = ["MAX_ENTRIES", "Clusters", "cluster", "fixed_length_bytes", "make_clusters"]

MAX_ENTRIES = 4096
"""Most centres of a tensor: 12 bits, the largest of the core experiment."""

Vector = npt.NDArray[np.float64]
Indexes = npt.NDArray[np.int32]

_SMALLEST_IMPORTANCE = 2.0**-20
"""Share of the mean importance that the least important weight counts with, so that every cluster has a mean."""


@dataclasses.dataclass(frozen=True, slots=True)
class Clusters:
    """A tensor as indexes into a list of centres.

    Args:
        centres: float32 ``(k,)``, strictly increasing; each is used.
        indexes: int32, shape of the tensor, 0..k - 1.
        squared_error: sum over the tensor of the squared distances from the weights that it stands for.
    """

    centres: npt.NDArray[np.float32]
    indexes: Indexes
    squared_error: float

    def values(self) -> npt.NDArray[np.float32]:
        """Return the centres in place of the indexes: float32, shape of the tensor."""
        return self.centres[self.indexes]

    def counts(self) -> npt.NDArray[np.int64]:
        """Return how many weights each centre stands for: int64 ``(k,)``."""
        return np.bincount(self.indexes.reshape(-1), minlength=len(self.centres)).astype(np.int64)

    def entropy_bits(self) -> float:
        """Return the bits of all indexes under the best static code, without its probabilities."""
        counts = self.counts().astype(np.float64)
        return float(np.sum(counts * -np.log2(counts / counts.sum())))


def fixed_length_bytes(clusters: Clusters) -> int:
    """Return the size by which the core experiment counted: indexes of equal length, and 4 bytes for each centre.

    >>> fixed_length_bytes(cluster(np.arange(16, dtype=np.float32), 4))
    20
    """
    entries = len(clusters.centres)
    return (clusters.indexes.size * (entries - 1).bit_length() + 7) // 8 + 4 * entries


def cluster(
    weight: npt.NDArray[Any],
    entries: int,
    *,
    init: str = "density",
    importance: npt.NDArray[Any] | str | None = None,
    iterations: int = 300,
    rate_weight: float = 0.0,
    density_bound: float = 0.01,
    seed: int = 0,
    name: str | None = None,
) -> Clusters:
    """Quantise a tensor to few values.

    Lloyd's iterations run on the sorted values with sums over ranges, so that one costs O(entries log n) and they may
    be many; sorting takes O(n log n). Each also merges and splits clusters where that helps.

    Args:
        weight: finite floats of any shape, not empty; not changed.
        entries: 2..4096, the most centres; fewer come back where the tensor has fewer values, or rates say so.
        init: ``"density"``, ``"quantile"``, ``"linear"`` or ``"kmeans++"``: where the centres start. After many
            iterations it matters little; after none, ``"kmeans++"`` is best for many entries.
        importance: nonnegative, of the shape of ``weight``: how much the squared error of each weight counts. Least of
            all counts a millionth of the mean. ``"density"``: rare values count more, by the bounded over the true
            density. None: all alike.
        iterations: most iterations; they end when no centre moves.
        rate_weight: 0 or more; how much squared error, times importance, one bit is worth. Above 0, weights go where
            error plus rate is least, and centres that do not pay vanish; importances are then rounded to powers of 2.
        density_bound: 0..1; least density, as a share of its peak.
        seed: for ``"kmeans++"``.
        name: name of the tensor, for errors.

    Raises:
        InvalidModel: the tensor is empty, not of floats, or not finite.
        InvalidConfig: an option is out of range.

    >>> cluster(np.array([1.0, 1.1, 5.0, 5.1]), 2).centres
    array([1.05, 5.05], dtype=float32)
    """
    flat = _checked(weight, name)
    if not 2 <= entries <= MAX_ENTRIES or init not in STARTS:
        raise InvalidConfig(
            f"clusters take 2..{MAX_ENTRIES} entries and one of {list(STARTS)}, not {entries}, {init!r}"
        )
    if not (iterations >= 0 and 0 <= rate_weight < np.inf and 0 <= density_bound <= 1):
        raise InvalidConfig("iterations and rate_weight must be 0 or more, density_bound 0..1")
    weights = _importance(flat, weight.shape, importance, density_bound)
    order = np.argsort(flat, kind="stable") if weights is not None else None
    sample = _Sample.of(np.sort(flat) if order is None else flat[order], None if order is None else weights[order])  # type: ignore[index]
    distinct = 1 + int(np.count_nonzero(np.diff(sample.values)))
    if distinct <= entries:
        centres = np.unique(sample.values)
    else:
        mass = np.diff(sample.weights)
        centres = first_centres(sample.values, mass, entries, init, density_bound=density_bound, seed=seed)
        centres = _lloyd(sample, centres, entries, iterations)
    if rate_weight > 0:
        classes = _importance_classes(weights, flat.size)
        samples = [_Sample.of(np.sort(flat[members]), None, scale) for scale, members in classes]
        centres, lengths = _rate_iterations(samples, centres, rate_weight, iterations)
        indexes = _cheapest_indexes(flat, classes, centres, lengths, rate_weight)
    else:
        centres = np.unique(centres.astype(np.float32)).astype(np.float64)
        indexes = np.searchsorted(_middles(centres), flat).astype(np.int32)
    return make_clusters(weight, centres, indexes.reshape(weight.shape))


def _checked(weight: npt.NDArray[Any], name: str | None) -> Vector:
    """Return the values as float64, in one dimension."""
    # ml_dtypes' types are not subtypes of numpy's floats.
    is_float = np.issubdtype(weight.dtype, np.floating) or weight.dtype.name.startswith(("bfloat", "float"))
    if not is_float or weight.size == 0:
        raise InvalidModel(f"{weight.dtype} of shape {weight.shape} cannot be clustered", tensor=name)
    with np.errstate(over="ignore"):
        flat = weight.reshape(-1).astype(np.float32).astype(np.float64)
    if not np.isfinite(flat).all():
        raise InvalidModel("infinite or undefined values cannot be clustered", tensor=name)
    return flat


def _importance(flat: Vector, shape: tuple[int, ...], given: Any, density_bound: float) -> Vector | None:
    """Return the importance of each weight, all above 0, or None where they are alike."""
    if given is None:
        return None
    if isinstance(given, str):
        if given != "density":
            raise InvalidConfig(f"importance is an array, 'density' or None, not {given!r}")
        if flat.min() == flat.max():
            return None
        edges, density = bounded_density(np.sort(flat), np.ones(len(flat)), 0.0, 1024)
        bounded = np.maximum(density, max(density_bound, 1e-6)) / np.maximum(density, 1e-6)
        return np.asarray(bounded[np.clip(np.searchsorted(edges, flat, side="right") - 1, 0, 1023)], np.float64)
    weights = np.asarray(given, np.float64)
    if weights.shape != shape or not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise InvalidConfig(f"importances are finite, 0 or more and of shape {shape}")
    mean = float(weights.mean())
    return np.maximum(weights.reshape(-1), mean * _SMALLEST_IMPORTANCE) if mean > 0 else None


def _importance_classes(weights: Vector | None, size: int) -> list[tuple[float, Any]]:
    """Return powers of 2 with the positions of the weights whose importance they stand for."""
    if weights is None:
        return [(1.0, slice(0, size))]
    exponents = np.rint(np.log2(weights)).astype(np.int64)
    return [(float(2.0**e), np.flatnonzero(exponents == e)) for e in np.unique(exponents)]


@dataclasses.dataclass(frozen=True, slots=True)
class _Sample:
    """Sorted values with running sums, each of which starts with 0: of weights, of values, of squares."""

    values: Vector
    weights: Vector
    sums: Vector
    squares: Vector
    scale: float
    shift: float

    @classmethod
    def of(cls, values: Vector, weights: Vector | None, scale: float = 1.0) -> _Sample:
        """Sum up sorted values, whose weights are given or ``scale``."""
        shift = float(values[len(values) // 2])  # squares of large values that lie close together would cancel
        moved = values - shift
        if weights is None:
            total = scale * np.arange(len(values) + 1, dtype=np.float64)
            weights = np.float64(scale)
        else:
            total = _running(weights)
        return cls(values, total, _running(weights * moved), _running(weights * moved * moved), scale, shift)

    def moments(self, edges: npt.NDArray[np.int64]) -> tuple[Vector, Vector, Vector]:
        """Return weight, sum of the values less the shift, and sum of their squares, between successive positions."""
        return np.diff(self.weights[edges]), np.diff(self.sums[edges]), np.diff(self.squares[edges])


def _running(values: Vector) -> Vector:
    """Return running sums that start with 0."""
    result = np.zeros(len(values) + 1)
    np.cumsum(values, out=result[1:])
    return result


def _middles(centres: Vector) -> Vector:
    """Return the middles between neighbours."""
    return np.asarray(centres[:-1] + 0.5 * np.diff(centres))


def _edges(sample: _Sample, bounds: Vector) -> npt.NDArray[np.int64]:
    """Return the positions at which the clusters start, and the end."""
    return np.concatenate([[0], np.searchsorted(sample.values, bounds), [len(sample.values)]])


def _lloyd(sample: _Sample, centres: Vector, entries: int, iterations: int) -> Vector:
    """Move each centre to the mean of the values that are nearest to it, again and again; keep ``entries`` of them.

    Lloyd's iterations alone end far from the best centres, as none can pass another. So each of them also merges
    neighbours and splits other clusters instead where that lowers the error.
    """
    for _ in range(iterations):
        edges = _edges(sample, _middles(centres))
        edges = _relocate(sample, np.unique(edges), entries)
        weights, sums, _ = sample.moments(edges)
        moved = sums / weights + sample.shift
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def _relocate(sample: _Sample, edges: npt.NDArray[np.int64], entries: int) -> npt.NDArray[np.int64]:
    """Cut clusters at their means until there are ``entries``; then cut one for each cheaper merger of two others."""
    weights, sums, _ = sample.moments(edges)
    powers = sums * sums / weights
    cuts = np.searchsorted(sample.values, sums / weights + sample.shift)
    inside = (cuts > edges[:-1]) & (cuts < edges[1:])  # not where all values of a cluster are alike
    cuts = np.where(inside, cuts, edges[:-1] + 1)
    lower, upper = (sample.sums[cuts] - sample.sums[edges[:-1]], sample.sums[edges[1:]] - sample.sums[cuts])
    masses = (sample.weights[cuts] - sample.weights[edges[:-1]], sample.weights[edges[1:]] - sample.weights[cuts])
    gains = np.where(inside, lower**2 / masses[0] + upper**2 / np.where(inside, masses[1], 1) - powers, -np.inf)
    costs = powers[:-1] + powers[1:] - (sums[:-1] + sums[1:]) ** 2 / (weights[:-1] + weights[1:])
    by_gain = [int(i) for i in np.argsort(-gains, kind="stable") if inside[i]]
    missing = entries - len(weights)
    chosen = by_gain[:missing]
    busy = np.zeros(len(weights), bool)
    busy[chosen] = True
    splits = iter(by_gain[missing:])
    merged = []
    for pair in np.argsort(costs, kind="stable"):
        if busy[pair] or busy[pair + 1]:
            continue
        split = next((i for i in splits if not busy[i] and i not in (pair, pair + 1)), None)
        if split is None or gains[split] <= costs[pair] * 1.001 + 1e-12 * powers.sum():
            break
        busy[[pair, pair + 1, split]] = True
        chosen.append(split)
        merged.append(int(pair) + 1)
    return np.sort(np.concatenate([np.delete(edges, merged), cuts[chosen]]))


def _rate_iterations(
    samples: list[_Sample], centres: Vector, rate_weight: float, iterations: int
) -> tuple[Vector, Vector]:
    """Lower error plus rate in turns: centres, code lengths, assignment.

    Returns:
        The centres that are left, which float32 can hold, and their code lengths in bits.
    """
    centres = np.unique(centres)
    lengths = np.full(len(centres), np.log2(max(len(centres), 2)))
    size = sum(len(s.values) for s in samples)
    best = np.inf
    for i in range(iterations + 1):
        parts = [_edges(s, _cheapest_bounds(centres, lengths, rate_weight / s.scale)) for s in samples]
        counts = np.sum([np.diff(edges) for edges in parts], axis=0)
        used = counts > 0
        cost = rate_weight * float(np.sum(counts * lengths))
        weight, total = np.zeros(len(centres)), np.zeros(len(centres))
        for sample, edges in zip(samples, parts, strict=True):
            weights, sums, squares = sample.moments(edges)
            offsets = centres - sample.shift
            cost += float(np.sum(squares - 2 * offsets * sums + offsets * offsets * weights))
            weight += weights
            total += sums + sample.shift * weights
        # The last turn leaves the centres; where little is gained there is nothing left to find.
        is_last = i == iterations or cost > best * (1 - 1e-7)
        best = cost
        # Means of classes of importance need not be in order, and tiny ones may coincide.
        moved = centres[used] if is_last else total[used] / weight[used]
        centres, numbers = np.unique(moved, return_inverse=True)
        lengths = -np.log2(np.bincount(numbers, weights=counts[used]) / size)
        if is_last:
            break
    rounded, kept = np.unique(centres.astype(np.float32), return_index=True)
    return rounded.astype(np.float64), lengths[kept]


def _cheapest_bounds(centres: Vector, lengths: Vector, rate_weight: float) -> Vector:
    """Return the values between which each centre is the cheapest: the lower envelope of one parabola per centre.

    Args:
        centres: strictly increasing.
        lengths: bits of each.
        rate_weight: squared error that a bit is worth.

    Returns:
        One bound less than centres, not decreasing; a centre between equal bounds is never the cheapest.
    """
    # (x - c)^2 + p is x^2 plus a line in x: a bound is where the lines of two centres meet.
    offsets = centres * centres + rate_weight * lengths
    hull: list[int] = []
    starts: list[float] = []
    for k in range(len(centres)):
        start = -np.inf
        while hull:
            j = hull[-1]
            start = float((offsets[k] - offsets[j]) / (2 * (centres[k] - centres[j])))
            if start > starts[-1]:
                break
            hull.pop()
            starts.pop()
            start = -np.inf
        hull.append(k)
        starts.append(start)
    bounds = np.full(len(centres), np.inf)
    bounds[hull] = starts
    # A centre that was passed over begins where the next one that was kept begins.
    return np.asarray(np.minimum.accumulate(bounds[::-1])[::-1][1:])


def _cheapest_indexes(
    flat: Vector, classes: list[tuple[float, Any]], centres: Vector, lengths: Vector, rate_weight: float
) -> Indexes:
    """Return for each weight the centre with the least error plus rate."""
    indexes = np.empty(flat.size, np.int32)
    for scale, members in classes:
        indexes[members] = np.searchsorted(_cheapest_bounds(centres, lengths, rate_weight / scale), flat[members])
    return indexes


def make_clusters(weight: npt.NDArray[Any], centres: npt.NDArray[Any], indexes: npt.NDArray[Any]) -> Clusters:
    """Return clusters with these values: sorted, each different, each used.

    Args:
        weight: finite floats, what the clusters stand for.
        centres: finite, ``(k,)``, in any order.
        indexes: integers of the shape of ``weight``, 0..k - 1.
    """
    distinct, numbers = np.unique(centres.astype(np.float32), return_inverse=True)
    moved = numbers[indexes.reshape(-1)]
    used = np.bincount(moved, minlength=len(distinct)) > 0
    kept = distinct[used]
    final = (np.cumsum(used) - 1).astype(np.int32)[moved]
    flat = weight.reshape(-1).astype(np.float32).astype(np.float64)
    error = float(np.sum((flat - kept[final].astype(np.float64)) ** 2))
    return Clusters(kept, final.reshape(weight.shape), error)
