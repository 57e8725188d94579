"""A network that takes noise out of gray images.

Source: Zhang et al., Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising (2017).
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.augmentation import random_crop
from netpress.evaluate.data import DataFolder, build, layers_of
from netpress.evaluate.metrics import psnr
from netpress.evaluate.samples import Batches, Epochs, choose, inference

__all__ = ["DnCNN", "denoise_dncnn", "denoising_loss", "denoising_task", "training_pairs"]

_NAME = "denoise-dncnn"
_WEIGHTS, _TRAIN = "dncnn_gray25.safetensors", "train_gray_200.npz"
_NOISE = 25 / 255
"""Standard deviation, for gray values from 0 to 1."""
_WIDTH = 64
_PATCH = 64
_CALIBRATION = 256
_TRAIN_FILES = {_TRAIN: "images, uint8 (n, 180, 180)"}


def denoise_dncnn(data: Path, limit: int | None = None) -> Task:
    """DnCNN for gray images with noise of 25 gray values: 28.784 dB over 34 images of BSD68."""
    folder = DataFolder(_NAME, data, "denoise", {_WEIGHTS: "weights", **_TRAIN_FILES})
    task = denoising_task(_NAME, data, limit)
    description = {
        **task.description,
        "use case": "image denoising",
        "network": "DnCNN for gray images, 17 convolutions that find the noise, batch norms folded into them",
        "layers": layers_of(DnCNN),
        "source": "weights: cszn/KAIR; images: cszn/DnCNN (Berkeley segmentation data set)",
        "licence": "weights: MIT; images: for research",
    }
    return dataclasses.replace(task, model=lambda: build(DnCNN, folder.path / _WEIGHTS), description=description)


def denoising_task(name: str, data: Path, limit: int | None) -> Task:
    """Return the task of denoising gray images, without a network."""
    train = DataFolder(name, data, "denoise", _TRAIN_FILES).arrays(_TRAIN)["images"]
    clean = DataFolder(name, data, "image-sets", {"bsd68": "gray PNG images"}).images("bsd68/*.png", "L")
    chosen = choose(len(clean), limit)
    evaluation = Batches(len(chosen), 1, lambda rows: _noisy(clean[chosen[rows[0]]], int(chosen[rows[0]])))

    def fixed(rows: np.ndarray) -> Tensor:
        pairs = [_pair(train, rows[i : i + 1], _PATCH, torch.Generator().manual_seed(int(rows[i])))
                 for i in range(len(rows))]  # fmt: skip
        return torch.cat([noisy for noisy, _ in pairs])

    return Task(
        name=name,
        train_batches=lambda: training_pairs(name, data),
        calibration_batches=Batches(_CALIBRATION, 16, fixed),
        evaluation_batches=evaluation,
        loss=denoising_loss,
        evaluate=lambda module: _quality(module, evaluation, [clean[row] for row in chosen]),
        metric="PSNR",
        unit="dB",
        description={
            "data": "34 images of BSD68 with Gaussian noise of 25 gray values evaluate; parts of "
            f"{_PATCH}x{_PATCH} pixels of 200 images of BSD400 with such noise train, {_CALIBRATION} calibrate",
        },
    )


def training_pairs(name: str, data: Path, size: int = 16, patch: int = _PATCH) -> Epochs:
    """Return batches of noisy parts of images and the clean parts, two of each image in an epoch."""
    train = DataFolder(name, data, "denoise", _TRAIN_FILES).arrays(_TRAIN)["images"]
    return Epochs(2 * len(train), size, lambda rows, generator: _pair(train, rows, patch, generator))


def _pair(train: np.ndarray, rows: np.ndarray, patch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(train[rows % len(train)])[:, None].float() / 255
    images = random_crop(images, patch, generator)
    return images + _NOISE * torch.randn(images.shape, generator=generator), images


def _noisy(image: np.ndarray, number: int) -> Tensor:
    """Image (1, 1, height, width), 0 to 1, with the noise that belongs to its number in the set."""
    noise = np.random.default_rng(number).normal(0, _NOISE, image.shape).astype(np.float32)
    return torch.from_numpy(image.astype(np.float32) / 255 + noise)[None, None]


def denoising_loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean squared error of a batch (noisy, clean)."""
    image = module(batch[0])
    return nn.functional.mse_loss(image, batch[1].to(image.device))


def _quality(module: nn.Module, noisy: Batches, clean: list[np.ndarray]) -> Scores:
    """PSNR of each image, in dB, as 8-bit values."""
    samples = []
    with inference(module) as device:
        for image, original in zip(noisy, clean, strict=True):
            found = (module(image.to(device))[0, 0].clamp(0, 1) * 255).round().cpu()
            samples.append(psnr(found, torch.from_numpy(original)))
    return Scores(np.array(samples))


class DnCNN(nn.Module):
    """Seventeen convolutions, whose output is subtracted from the input."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, _WIDTH, 3, 1, 1), nn.ReLU()]
        for _ in range(15):
            layers += [nn.Conv2d(_WIDTH, _WIDTH, 3, 1, 1), nn.ReLU()]
        self.model = nn.Sequential(*layers, nn.Conv2d(_WIDTH, 1, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Clean images (n, 1, h, w) of noisy images (n, 1, h, w), values from 0 to 1."""
        noise: Tensor = self.model(x)
        return x - noise
