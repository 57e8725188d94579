"""Unstructured pruning: single weights become zero."""

from netpress.recipe.sparsify.stage import Sparsify

__all__ = ["Sparsify"]
