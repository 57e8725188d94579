"""Which rank each weight of a network gets when it is decomposed.

A weight of ``rows x columns`` that is replaced by two factors of rank r holds ``r (rows + columns)`` values; that is
fewer than before only below the *break-even rank*.
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Spectrum", "rank_for_energy", "rank_for_error", "ranks_for_budget"]

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Spectrum:
    """The singular values of a weight (falling), possibly weighted by its inputs, and what a rank costs.

    ``rows`` and ``columns`` are those of the unfolded weight, ``values`` have at least one element.
    """

    values: Array
    rows: int
    columns: int

    @property
    def cost(self) -> int:
        """Values in the factors for each rank."""
        return self.rows + self.columns

    @property
    def full_cost(self) -> int:
        """Values of the weight."""
        return self.rows * self.columns

    @property
    def break_even(self) -> int:
        """The largest rank whose factors hold fewer values than the weight; 0 if there is none."""
        return min((self.full_cost - 1) // self.cost, len(self.values))

    def error(self, rank: int) -> float:
        """Return the squared error that remains at a rank, as a share of the weight's squares."""
        squares = np.square(self.values, dtype=np.float64)
        total = float(squares.sum())
        return float(squares[rank:].sum()) / total if total > 0 else 0.0


def rank_for_energy(spectrum: Spectrum, energy: float) -> int:
    """Return the smallest rank that keeps a share ``energy`` (0..1) of the weight's squares, at least 1."""
    squares = np.cumsum(np.square(spectrum.values, dtype=np.float64))
    if squares[-1] == 0:
        return 1
    return int(np.searchsorted(squares, energy * squares[-1] * (1 - 1e-12))) + 1


def rank_for_error(spectrum: Spectrum, mean_squared_error: float) -> int:
    """Return the smallest rank whose mean squared error per weight is at most the given one, at least 1.

    Source: the mean-squared-error threshold of core experiment 1.
    """
    tail = np.cumsum(np.square(spectrum.values, dtype=np.float64)[::-1])[::-1]
    allowed = mean_squared_error * spectrum.full_cost
    return max(1, int(np.count_nonzero(tail > allowed)))


def ranks_for_budget(spectra: Mapping[str, Spectrum], budget: int) -> dict[str, int | None]:
    """Share out a number of values among the factors of all weights so that the relative errors sum to the least.

    Ranks are added where they remove most error per value. A weight whose factors would hold as many values as it has
    stays whole.

    Args:
        spectra: of each weight.
        budget: values that all factors and whole weights together may hold. Less than one rank for each gives one rank
            for each.

    Returns:
        Rank by name; None for a weight that stays whole.
    """
    ranks: dict[str, int | None] = {}
    heap: list[tuple[float, str]] = []
    remaining = budget
    squares: dict[str, Sequence[float]] = {}
    for name, spectrum in spectra.items():
        if spectrum.break_even < 1:
            ranks[name] = None
            remaining -= spectrum.full_cost
            continue
        energy = np.square(spectrum.values, dtype=np.float64)
        squares[name] = (energy / max(float(energy.sum()), 1e-300)).tolist()
        ranks[name] = 1
        remaining -= spectrum.cost
        _push(heap, name, squares[name], 1, spectrum)
    while heap:
        _, name = heapq.heappop(heap)
        spectrum, rank = spectra[name], ranks[name]
        if rank is None:
            continue
        if rank < spectrum.break_even:
            if spectrum.cost > remaining:
                continue
            remaining -= spectrum.cost
            ranks[name] = rank + 1
            _push(heap, name, squares[name], rank + 1, spectrum)
        elif spectrum.full_cost - rank * spectrum.cost <= remaining:
            remaining -= spectrum.full_cost - rank * spectrum.cost
            ranks[name] = None
    return ranks


def _push(heap: list[tuple[float, str]], name: str, squares: Sequence[float], rank: int, spectrum: Spectrum) -> None:
    """Queue the next rank of a weight, or the step from the break-even rank to the whole weight."""
    if rank < spectrum.break_even:
        gain, cost = squares[rank], spectrum.cost
    else:
        gain, cost = sum(squares[rank:]), max(1, spectrum.full_cost - rank * spectrum.cost)
    heapq.heappush(heap, (-gain / cost, name))
