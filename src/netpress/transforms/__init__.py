"""Changes of a model before coding and their inverses: folding, scaling, low rank, sparsity."""
