"""Changes of a model before coding that a decoder undoes: folding, scaling, low rank, sparsity."""
