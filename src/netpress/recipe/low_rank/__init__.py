"""Weights in the place of which two smaller factors travel."""

from netpress.recipe.low_rank.stage import LowRank

__all__ = ["LowRank"]
