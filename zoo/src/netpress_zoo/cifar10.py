"""Images of CIFAR-10: how they are read and prepared."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from netpress.evaluate.augmentation import shift_and_flip
from netpress.evaluate.data import DataFolder
from netpress.evaluate.samples import Samples, choose

__all__ = ["CALIBRATION", "DATA", "FILES", "cifar10_sets"]

CALIBRATION = 512
"""Training images that serve for calibration."""

FILES = {
    "test_2000.npz": "test images, uint8 (n, 32, 32, 3), and labels, uint8 (n,)",
    "train_5000.npz": "training images likewise",
}

DATA = (
    "CIFAR-10: 2000 test images and 5000 training images of 32x32 pixels, 10 balanced classes, from a public copy that "
    "stores them as JPEG, which lowers the accuracy by 8 to 11 points against the original images; calibration with "
    f"{CALIBRATION} training images without their labels"
)

_MEAN = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
_DEVIATION = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)


def cifar10_sets(folder: DataFolder, limit: int | None) -> tuple[Samples, Samples, Samples]:
    """Return the test, calibration and training samples; inputs are (n, 3, 32, 32), normalised."""
    test, train = folder.arrays("test_2000.npz"), folder.arrays("train_5000.npz")
    train_images, train_labels = train["images"], train["labels"]
    return (
        Samples(lambda rows: _prepare(test["images"][rows]), choose(len(test["images"]), limit), test["labels"]),
        Samples(lambda rows: _prepare(train_images[rows]), choose(len(train_images), CALIBRATION)),
        Samples(
            lambda rows: _prepare(train_images[rows]), choose(len(train_images), None), train_labels, shift_and_flip
        ),
    )


def _prepare(images: np.ndarray) -> Tensor:
    values = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (values - _MEAN) / _DEVIATION
