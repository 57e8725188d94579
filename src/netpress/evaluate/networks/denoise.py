"""A network that takes noise out of gray images.

Source: Zhang et al., Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising (2017).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.augmentation import random_crop
from netpress.evaluate.data import DataFolder, build, layers_of
from netpress.evaluate.metrics import psnr
from netpress.evaluate.samples import Batches, Epochs, choose, inference

__all__ = ["DnCNN", "denoise_dncnn"]

_NAME = "denoise-dncnn"
_WEIGHTS, _TRAIN = "dncnn_gray25.safetensors", "train_gray_200.npz"
_NOISE = 25 / 255
"""Standard deviation, for gray values from 0 to 1."""
_WIDTH = 64
_PATCH = 64
_CALIBRATION = 256


def denoise_dncnn(data: Path, limit: int | None = None) -> Task:
    """DnCNN for gray images with noise of 25 gray values: 28.784 dB over 34 images of BSD68."""
    folder = DataFolder(_NAME, data, "denoise", {_WEIGHTS: "weights", _TRAIN: "images, uint8 (n, 180, 180)"})
    clean = DataFolder(_NAME, data, "image-sets", {"bsd68": "gray PNG images"}).images("bsd68/*.png", "L")
    chosen = choose(len(clean), limit)
    train = folder.arrays(_TRAIN)["images"]
    evaluation = Batches(len(chosen), 1, lambda rows: _noisy(clean[chosen[rows[0]]], int(chosen[rows[0]])))

    def pair(rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(train[rows % len(train)])[:, None].float() / 255
        images = random_crop(images, _PATCH, generator)
        return images + _NOISE * torch.randn(images.shape, generator=generator), images

    def fixed(rows: np.ndarray) -> Tensor:
        pairs = [pair(rows[i : i + 1], torch.Generator().manual_seed(int(rows[i]))) for i in range(len(rows))]
        return torch.cat([noisy for noisy, _ in pairs])

    return Task(
        name=_NAME,
        model=lambda: build(DnCNN, folder.path / _WEIGHTS),
        train_batches=lambda: Epochs(2 * len(train), 16, pair),
        calibration_batches=Batches(_CALIBRATION, 16, fixed),
        evaluation_batches=evaluation,
        loss=_loss,
        evaluate=lambda module: _quality(module, evaluation, [clean[row] for row in chosen]),
        metric="PSNR",
        unit="dB",
        description={
            "use case": "image denoising",
            "network": "DnCNN for gray images, 17 convolutions that find the noise, batch norms folded into them",
            "layers": layers_of(DnCNN),
            "data": "34 images of BSD68 with Gaussian noise of 25 gray values evaluate; parts of "
            f"{_PATCH}x{_PATCH} pixels of 200 images of BSD400 with such noise train, {_CALIBRATION} calibrate",
            "source": "weights: cszn/KAIR; images: cszn/DnCNN (Berkeley segmentation data set)",
            "licence": "weights: MIT; images: for research",
        },
    )


def _noisy(image: np.ndarray, number: int) -> Tensor:
    """Image (1, 1, height, width), 0 to 1, with the noise that belongs to its number in the set."""
    noise = np.random.default_rng(number).normal(0, _NOISE, image.shape).astype(np.float32)
    return torch.from_numpy(image.astype(np.float32) / 255 + noise)[None, None]


def _loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared error."""
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
    """Seventeen convolutions; what they find is taken off the input."""

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
