"""Structured pruning: whole channels go."""

from netpress.recipe.prune.stage import Prune

__all__ = ["Prune"]
