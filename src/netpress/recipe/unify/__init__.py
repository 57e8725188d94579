"""Weight unification: one magnitude for all weights of a block."""

from netpress.recipe.unify.stage import Unify

__all__ = ["Unify"]
