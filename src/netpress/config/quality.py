"""The quality ladder: how fine a model is quantised where no qp says it."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["QUALITIES", "Quality"]


class Quality(NamedTuple):
    """Signal-to-noise ratios in dB: of a weight of mean size, and of everything else."""

    weights: float
    other: float


QUALITIES = {"small": Quality(38.0, 62.0), "default": Quality(43.0, 70.0), "high": Quality(54.0, 80.0)}
"""The rungs, by the name that ``quality`` takes. docs/results/default-quality.md says what each does to networks."""
