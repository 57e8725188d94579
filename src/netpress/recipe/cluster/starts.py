"""First centres of a cluster quantiser: by density, by quantiles, evenly, or drawn by distance."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["STARTS", "bounded_density", "first_centres"]

Vector = npt.NDArray[np.float64]

_SAMPLED_VALUES = 1 << 16
"""Values that kmeans++ draws from at most; its time is this times the number of centres."""


def first_centres(
    values: Vector, weights: Vector, entries: int, start: str, *, density_bound: float, seed: int
) -> Vector:
    """Return the first centres of a cluster quantiser.

    Args:
        values: float64 ``(n,)``, sorted, with more than ``entries`` distinct values.
        weights: float64 ``(n,)``, above 0: how much each counts.
        entries: 1 or more.
        start: a key of :data:`STARTS`.
        density_bound: see :func:`bounded_density`.
        seed: for ``"kmeans++"``.

    Returns:
        float64 ``(entries,)``, sorted; neighbours may be equal.
    """
    return np.sort(STARTS[start](values, weights, entries, density_bound, seed))


def bounded_density(values: Vector, weights: Vector, density_bound: float, bins: int) -> tuple[Vector, Vector]:
    """Estimate the probability density of values, bounded from below by a share of its peak.

    A histogram over the range of the values is smoothed with a Gaussian whose width follows Silverman's rule.

    Args:
        values: float64 ``(n,)``, sorted, not all equal.
        weights: float64 ``(n,)``, above 0: how much each counts.
        density_bound: 0..1, the share.
        bins: number of bins.

    Returns:
        The edges of the bins, ``(bins + 1,)``, and the bounded density in each, ``(bins,)``, scaled to a peak of 1.

    Source: the initialisation of MPEG's core experiment on cluster quantisation; B. W. Silverman, 1986.
    """
    counts, edges = np.histogram(values, bins=bins, range=(values[0], values[-1]), weights=weights)
    quartiles = values[(3 * (len(values) - 1)) // 4] - values[(len(values) - 1) // 4]
    deviation = float(np.std(values))
    spread = min(deviation, quartiles / 1.34) if quartiles > 0 else deviation
    width = 0.9 * spread * len(values) ** -0.2 / (edges[1] - edges[0])
    density = counts.astype(np.float64)
    if width > 0.3:  # narrower than a bin: the histogram is smooth already
        reach = min(int(np.ceil(4 * width)), bins)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
        density = np.convolve(np.pad(density, reach), kernel / kernel.sum(), mode="valid")
    density /= density.max()
    return edges, np.maximum(density, density_bound)


def _by_density(values: Vector, weights: Vector, entries: int, density_bound: float, seed: int) -> Vector:
    """Put centres at equal shares of the integral of the bounded density."""
    edges, density = bounded_density(values, weights, density_bound, max(1024, entries))
    integral = np.concatenate([[0.0], np.cumsum(density)])
    return np.asarray(np.interp(_shares(entries) * integral[-1], integral, edges), np.float64)


def _by_quantile(values: Vector, weights: Vector, entries: int, density_bound: float, seed: int) -> Vector:
    """Put centres at equal shares of the values."""
    integral = np.cumsum(weights)
    return np.asarray(values[np.searchsorted(integral, _shares(entries) * integral[-1])])


def _evenly(values: Vector, weights: Vector, entries: int, density_bound: float, seed: int) -> Vector:
    """Put centres at equal distances."""
    return np.asarray(values[0] + _shares(entries) * (values[-1] - values[0]))


def _by_distance(values: Vector, weights: Vector, entries: int, density_bound: float, seed: int) -> Vector:
    """Draw centres one after the other, by weighted squared distance from those that are there.

    Source: D. Arthur and S. Vassilvitskii, 2007.
    """
    rng = np.random.default_rng(seed)
    if len(values) > _SAMPLED_VALUES:
        drawn = rng.choice(len(values), _SAMPLED_VALUES, replace=False, shuffle=False)
        values, weights = values[drawn], weights[drawn]
    centres = [float(rng.choice(values, p=weights / weights.sum()))]
    distances = weights * (values - centres[0]) ** 2
    for _ in range(entries - 1):
        integral = np.cumsum(distances)
        if integral[-1] <= 0:  # the sample has fewer distinct values than centres are wanted
            centres.append(float(rng.choice(values)))
            continue
        position = int(np.searchsorted(integral, rng.random() * integral[-1], side="right"))
        centres.append(float(values[min(position, len(values) - 1)]))
        np.minimum(distances, weights * (values - centres[-1]) ** 2, out=distances)
    return np.array(centres)


def _shares(entries: int) -> Vector:
    """Return the middles of ``entries`` equal parts of 0..1."""
    return np.asarray((np.arange(entries) + 0.5) / entries)


STARTS: dict[str, Callable[[Vector, Vector, int, float, int], Vector]] = {
    "density": _by_density,
    "quantile": _by_quantile,
    "linear": _evenly,
    "kmeans++": _by_distance,
}
"""Initialisations by name."""
