"""Pictures made worse in known ways, in five grades each."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

__all__ = ["GRADES", "KINDS", "distorted"]

Picture = npt.NDArray[np.uint8]

GRADES = 5
"""Grades of each kind, from hardly visible to very."""

_SIGMAS = (0.5, 1.0, 1.5, 2.5, 4.0)
_NOISES = (4, 8, 16, 32, 64)
_QUALITIES = (70, 45, 25, 12, 5)
_FACTORS = (1.5, 2.0, 3.0, 4.0, 6.0)


def distorted(picture: Picture, kind: str, grade: int, seed: int = 0) -> Picture:
    """Return a distorted copy.

    Args:
        picture: uint8 (height, width, 3).
        kind: one of :data:`KINDS`.
        grade: 0 to 4, growing.
        seed: of the noise.
    """
    return KINDS[kind](picture, grade, seed)


def _blur(picture: Picture, grade: int, seed: int) -> Picture:
    """Gaussian blur, of a standard deviation of 0.5 to 4 pixels."""
    return np.array(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(_SIGMAS[grade])))


def _noise(picture: Picture, grade: int, seed: int) -> Picture:
    """Gaussian noise, of a standard deviation of 4 to 64 of 255."""
    noise = np.random.default_rng(seed).normal(0, _NOISES[grade], picture.shape)
    result: Picture = (picture + noise).round().clip(0, 255).astype(np.uint8)
    return result


def _jpeg(picture: Picture, grade: int, seed: int) -> Picture:
    """JPEG, of quality 70 to 5."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=_QUALITIES[grade])
    with Image.open(file) as image:
        return np.array(image)


def _scaling(picture: Picture, grade: int, seed: int) -> Picture:
    """Made smaller by 1.5 to 6, and large again, both bicubic."""
    height, width = picture.shape[:2]
    small = (max(1, round(width / _FACTORS[grade])), max(1, round(height / _FACTORS[grade])))
    image = Image.fromarray(picture).resize(small, Image.Resampling.BICUBIC)
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))


KINDS: dict[str, Callable[[Picture, int, int], Picture]] = {
    "blur": _blur,
    "noise": _noise,
    "JPEG": _jpeg,
    "scaling": _scaling,
}
"""Name -> function of picture, grade and seed."""
