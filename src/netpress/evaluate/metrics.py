"""Measures of quality."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["entropy_bits", "luma", "mean_psnr", "psnr", "spearman"]


def psnr(image: Tensor, reference: Tensor, peak: float = 255) -> float:
    """Return the peak signal-to-noise ratio in dB; infinite if the images are the same."""
    error = torch.mean((image.double() - reference.double()) ** 2).item()
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def entropy_bits(values: npt.NDArray[Any]) -> float:
    """Return the zero-order entropy of all the values together, in bits: their count times the entropy of one."""
    _, counts = np.unique(values, return_counts=True)
    return float(-np.sum(counts * np.log2(counts / counts.sum())))


def spearman(pairs: npt.NDArray[Any]) -> float:
    """Return the Spearman rank correlation of the two columns of ``pairs``, (n, 2)."""
    from scipy.stats import spearmanr

    return float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)


def luma(image: Tensor) -> Tensor:
    """Return the luma, 16 to 235, of a colour image (3, height, width) with values from 0 to 255.

    Source: Recommendation ITU-R BT.601.
    """
    red, green, blue = image.double()
    values: Tensor = 16 + (65.481 * red + 128.553 * green + 24.966 * blue) / 255
    return values


def mean_psnr(errors: npt.NDArray[Any]) -> float:
    """Return the PSNR in dB of 8-bit values from the mean squared errors of parts of equal size; infinite for none."""
    error = float(np.mean(errors))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)
