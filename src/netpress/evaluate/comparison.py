"""For one release: the comparison of two networks is :mod:`netpress.compare` now."""

from __future__ import annotations

import warnings

from netpress.compare import (
    confidence_interval,
    divergence,
    divergence_rows,
    divergence_scores,
    resample,
    standard_error,
)

__all__ = [
    "confidence_interval",
    "divergence",
    "divergence_rows",
    "divergence_scores",
    "resample",
    "standard_error",
]

warnings.warn("netpress.evaluate.comparison has moved to netpress.compare", DeprecationWarning, stacklevel=2)
