"""Rounding inside a network."""

from __future__ import annotations

from torch import Tensor

__all__ = ["round_through"]


def round_through(values: Tensor) -> Tensor:
    """Round to integers, halves to even; the gradient passes as if nothing had happened.

    Source: Bengio et al., Estimating or Propagating Gradients Through Stochastic Neurons (2013), section 4.
    """
    return values.round().detach() + (values - values.detach())
