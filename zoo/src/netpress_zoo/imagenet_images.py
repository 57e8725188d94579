"""800 photographs, one of each of 800 classes of ImageNet."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from netpress.evaluate.data import DataFolder, decode_image

__all__ = ["COUNT", "FILE", "FILES", "FOLDER", "reader"]

FOLDER = "imagenet-mobilenetv1"
FILE = "images_800.npz"
COUNT = 800
"""Images in the file."""

FILES = {FILE: "jpeg, uint8: JPEG files of 224x224 pixels back to back; offsets, int64 (n + 1,); labels, int16 (n,)"}


def reader(folder: DataFolder) -> Callable[[np.ndarray], Tensor]:
    """Return a function that reads images as uint8 tensors (n, 3, 224, 224), RGB, by their indices."""
    archive = folder.arrays(FILE)
    jpeg, offsets = archive["jpeg"], archive["offsets"]

    def read(rows: np.ndarray) -> Tensor:
        images = [decode_image(jpeg[offsets[row] : offsets[row + 1]]) for row in rows]
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)

    return read
