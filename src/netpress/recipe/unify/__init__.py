"""Weight unification: one magnitude for all weights of a block."""
