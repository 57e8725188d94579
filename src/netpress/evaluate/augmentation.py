"""Random changes of training images that leave their labels true."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["random_crop", "shift_and_flip"]

_LARGEST_SHIFT_PIXELS = 4


def shift_and_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Move each image by up to four pixels in each direction, with zeros where it was, and mirror half of them.

    Args:
        images: (n, channels, height, width).
        generator: the source of randomness.
    """
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, [_LARGEST_SHIFT_PIXELS] * 4)
    corners = torch.randint(0, 2 * _LARGEST_SHIFT_PIXELS + 1, (count, 2), generator=generator).tolist()
    mirrored = torch.rand(count, generator=generator) < 0.5
    result = torch.stack(
        [image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, corners, strict=True)]
    )
    return torch.where(mirrored.reshape(-1, 1, 1, 1), result.flip(3), result)


def random_crop(images: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Cut a square at a random place out of each image and mirror half of them.

    Args:
        images: (n, channels, height, width), both at least ``size``.
        size: pixels on each side of the square.
        generator: the source of randomness.
    """
    count, _, height, width = images.shape
    tops = torch.randint(0, height - size + 1, (count,), generator=generator).tolist()
    lefts = torch.randint(0, width - size + 1, (count,), generator=generator).tolist()
    mirrored = (torch.rand(count, generator=generator) < 0.5).reshape(-1, 1, 1, 1)
    cut = [image[:, y : y + size, x : x + size] for image, y, x in zip(images, tops, lefts, strict=True)]
    result = torch.stack(cut)
    return torch.where(mirrored, result.flip(3), result)
