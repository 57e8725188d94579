"""Curves of bytes over divergence, compared at equal divergence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from netpress.evaluate.results import Measurement

__all__ = ["Comparison", "Curve", "bytes_at", "compare", "curves_of"]

Curve = Sequence[tuple[float, int]]
"""Pairs of divergence and bytes, in any order."""

_COMPARED_DIVERGENCES = 21


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Bytes of some curves for one byte of others, each time the least of all curves.

    Attributes:
        ratio: geometric mean over the divergences that both sides reach; below 1 if the first are smaller.
        lowest, highest: these divergences.
    """

    ratio: float
    lowest: float
    highest: float


def bytes_at(curve: Curve, divergence: float) -> float:
    """Return the bytes at a divergence, interpolated on logarithms of both; NaN outside of the points.

    Points that another one beats in bytes and divergence are left out.

    Example:
        >>> round(bytes_at([(0.01, 4000), (0.04, 1000)], 0.02))
        2000
    """
    ordered: list[tuple[float, int]] = []
    for point in sorted(curve):
        if not ordered or point[1] < ordered[-1][1]:
            ordered.append(point)
    if len(ordered) < 2 or not 0 < ordered[0][0] <= divergence <= ordered[-1][0]:
        return math.nan
    x, y = np.log(ordered).T
    return float(np.exp(np.interp(np.log(divergence), x, y)))


def curves_of(measurements: Iterable[Measurement], first_word: str) -> Mapping[str, Curve]:
    """Return the curves of the tools of a sweep whose names start with a word, by name."""
    curves: dict[str, list[tuple[float, int]]] = {}
    for point in measurements:
        if point.group == "sweep" and point.tool.startswith(first_word) and point.size and point.divergence:
            curves.setdefault(point.tool, []).append((point.divergence, point.size))
    return curves


def compare(ours: Iterable[Curve], theirs: Iterable[Curve]) -> Comparison | None:
    """Return the bytes of one side for one byte of the other at equal divergence; None if they have none in common."""
    sides = [list(ours), list(theirs)]
    reached = [[d for curve in curves for d, _ in curve if d > 0] for curves in sides]
    if not all(reached):
        return None
    lowest, highest = max(map(min, reached)), min(map(max, reached))
    if not lowest < highest:
        return None
    logarithms = []
    for divergence in np.geomspace(lowest, highest, _COMPARED_DIVERGENCES)[1:-1]:
        least = [_least(curves, float(divergence)) for curves in sides]
        if not any(map(math.isnan, least)):
            logarithms.append(math.log(least[0] / least[1]))
    if not logarithms:
        return None
    return Comparison(math.exp(sum(logarithms) / len(logarithms)), lowest, highest)


def _least(curves: Iterable[Curve], divergence: float) -> float:
    sizes = (bytes_at(curve, divergence) for curve in curves)
    return min((size for size in sizes if not math.isnan(size)), default=math.nan)
