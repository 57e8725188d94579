"""A small NAFNet that takes noise out of gray images, trained here: the recipe is in this file.

Source: Chen et al., Simple Baselines for Image Restoration (2022): gates that multiply halves of the channels stand for
activations, and a scale of each channel for attention.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import torch
from torch import Tensor, nn

from netpress import Task
from netpress.evaluate.data import layers_of
from netpress_zoo.denoise import denoising_loss, denoising_task, training_pairs
from netpress_zoo.training import Recipe, TrainedNetwork

__all__ = ["NAFNet", "denoise_nafnet"]

_NAME = "denoise-nafnet"
_WIDTHS = (12, 24, 48)
"""Channels at full, half and quarter resolution."""
_EPOCHS, _RATE, _PATCH, _BATCH = 10, 4e-3, 64, 8


def denoise_nafnet(data: Path, limit: int | None = None, cache: str | Path | None = None) -> Task:
    """NAFNet for gray images with noise of 25 gray values: 27.43 dB over 34 images of BSD68; noisy they have 20.17 dB.

    Args:
        data: the folder with all data.
        limit: how many of the 34 images to evaluate.
        cache: a folder for the trained weights; None for the user's cache folder.
    """
    task = denoising_task(_NAME, data, limit)
    recipe = Recipe(
        name=_NAME,
        network=NAFNet,
        batches=lambda: training_pairs(_NAME, data, size=_BATCH, patch=_PATCH),
        loss=denoising_loss,
        epochs=_EPOCHS,
        learning_rate=_RATE,
        weight_decay=0.0,
        minutes=2,
    )
    description = {
        **task.description,
        "use case": "image restoration",
        "network": f"NAFNet for gray images, widths {', '.join(map(str, _WIDTHS))}, one block at each depth and side",
        "layers": layers_of(NAFNet),
        "source": "weights: trained here with these images, "
        f"{_EPOCHS} epochs; images: cszn/DnCNN (Berkeley segmentation data set)",
        "licence": "images: for research",
    }
    return dataclasses.replace(task, model=TrainedNetwork(recipe, cache).get, description=description)


class _Norm(nn.LayerNorm):
    """Normalises the channels of each pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _gate(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return first * second


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = _Norm(width, eps=1e-6)
        self.conv1 = nn.Conv2d(width, 2 * width, 1)
        self.conv2 = nn.Conv2d(2 * width, 2 * width, 3, 1, 1, groups=2 * width)
        self.attention = nn.Conv2d(width, width, 1)
        self.conv3 = nn.Conv2d(width, width, 1)
        self.norm2 = _Norm(width, eps=1e-6)
        self.conv4 = nn.Conv2d(width, 2 * width, 1)
        self.conv5 = nn.Conv2d(width, width, 1)
        self.beta = nn.Parameter(torch.full((1, width, 1, 1), 0.1))
        self.gamma = nn.Parameter(torch.full((1, width, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        inner = _gate(self.conv2(self.conv1(self.norm1(x))))
        inner = self.conv3(inner * self.attention(inner.mean((2, 3), keepdim=True)))
        x = x + self.beta * inner
        mixed: Tensor = x + self.gamma * self.conv5(_gate(self.conv4(self.norm2(x))))
        return mixed


class NAFNet(nn.Module):
    """Two depths of an encoder and a decoder with sums between them, and blocks at the bottom."""

    def __init__(self) -> None:
        super().__init__()
        self.intro = nn.Conv2d(1, _WIDTHS[0], 3, 1, 1)
        self.encoders = nn.ModuleList(_Block(width) for width in _WIDTHS[:-1])
        pairs = list(itertools.pairwise(_WIDTHS))
        self.downs = nn.ModuleList(nn.Conv2d(narrow, wide, 2, 2) for narrow, wide in pairs)
        self.middle = nn.Sequential(_Block(_WIDTHS[-1]), _Block(_WIDTHS[-1]))
        self.ups = nn.ModuleList(nn.Conv2d(wide, 4 * narrow, 1, bias=False) for narrow, wide in reversed(pairs))
        self.decoders = nn.ModuleList(_Block(width) for width in reversed(_WIDTHS[:-1]))
        self.ending = nn.Conv2d(_WIDTHS[0], 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Clean images (n, 1, h, w) of noisy images (n, 1, h, w), values from 0 to 1; any size."""
        height, width = x.shape[2:]
        padded = nn.functional.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        inner = self.intro(padded)
        kept = []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            inner = encoder(inner)
            kept.append(inner)
            inner = down(inner)
        inner = self.middle(inner)
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            inner = decoder(nn.functional.pixel_shuffle(up(inner), 2) + kept.pop())
        found: Tensor = (self.ending(inner) + padded)[:, :, :height, :width]
        return found
