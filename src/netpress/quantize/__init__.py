"""Quantisation: step sizes, the choice of a qp per tensor, and the quantisers themselves."""
