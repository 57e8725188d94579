"""A convolutional autoencoder that compresses photographs: both its halves are the network."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.augmentation import random_crop
from netpress.evaluate.data import DataFolder, build, layers_of
from netpress.evaluate.metrics import entropy_bits, psnr
from netpress.evaluate.samples import Batches, Epochs, Samples, choose, inference
from netpress_zoo import imagenet_images
from netpress_zoo.rounding import round_through

__all__ = [
    "ImageAutoencoder",
    "coding_loss",
    "crops",
    "image_autoencoder",
    "image_autoencoder_rate",
    "quality_task",
    "rate_task",
]

_WEIGHTS = "ae_n48_m24.safetensors"
_CROP = 128
_CALIBRATION = 256

_DISTORTION = 0.005
"""Weight of the squared error of 8-bit values against bits per pixel: about the slope of this network's own trade-off,
so that training on neither side pays for the other."""


def image_autoencoder(data: Path, limit: int | None = None) -> Task:
    """Quality of the decoded images: 28.35 dB on 12 images of Kodak, at the rate of :func:`image_autoencoder_rate`."""
    return _with_weights(quality_task("image-autoencoder", data, limit), data)


def image_autoencoder_rate(data: Path, limit: int | None = None) -> Task:
    """Size of the coded images: 0.399 bits per pixel on 12 images of Kodak, for the same network."""
    return _with_weights(rate_task("image-autoencoder-rate", data, limit), data)


def _with_weights(task: Task, data: Path) -> Task:
    weights = DataFolder(task.name, data, "autoencoder", {_WEIGHTS: "weights"}).path / _WEIGHTS
    description = {
        **task.description,
        "use case": "image compression with a learned transform",
        "network": "autoencoder of three convolutions and three transposed ones, 24 channels of integers between",
        "layers": layers_of(ImageAutoencoder),
        "source": "weights: made with this data; images: EmilienDupont/coin, EliSchwartz/imagenet-sample-images",
        "licence": "weights and Kodak images: free to use; photographs: for research",
    }
    return dataclasses.replace(task, model=lambda: build(ImageAutoencoder, weights), description=description)


def quality_task(name: str, data: Path, limit: int | None) -> Task:
    """Return the task whose metric is the quality of decoded images, without a network."""
    return _task(name, _quality, data, limit, metric="PSNR", unit="dB", direction="max")


def rate_task(name: str, data: Path, limit: int | None) -> Task:
    """Return the task whose metric is the size of coded images, without a network."""
    task = _task(name, _rate, data, limit, metric="rate of the images", unit="bit/pixel", direction="min")
    reason = "a broken network has a low rate too, so that a lower rate counts as a loss"
    return dataclasses.replace(task, description={**task.description, "both ways": reason})


def _task(
    name: str,
    measure: Callable[[nn.Module, Batches], Scores],
    data: Path,
    limit: int | None,
    *,
    metric: str,
    unit: str,
    direction: str,
) -> Task:
    kodak = DataFolder(name, data, "image-sets", {"kodak": "PNG images"}).images("kodak/*.png", "RGB")
    chosen = choose(len(kodak), limit)
    evaluation = Batches(len(chosen), 1, lambda rows: _prepare(torch.from_numpy(kodak[chosen[rows[0]]])[None]))
    read = _reader(name, data)
    centres = Samples(lambda rows: read(rows)[:, :, 48:-48, 48:-48], choose(imagenet_images.COUNT, _CALIBRATION))
    return Task(
        name=name,
        train_batches=lambda: crops(name, data),
        calibration_batches=centres.batches(32),
        evaluation_batches=evaluation,
        loss=coding_loss,
        evaluate=lambda module: measure(module, evaluation),
        description={
            "data": f"12 Kodak images evaluate; parts of {_CROP}x{_CROP} pixels of 800 photographs of ImageNet train, "
            f"{_CALIBRATION} of them calibrate. Rate: zero-order entropy of each channel of an image",
        },
        metric=metric,
        unit=unit,
        direction=direction,
    )


def crops(name: str, data: Path, size: int = 16) -> Epochs:
    """Return batches of random parts of photographs, one of each in an epoch, values from -0.5 to 0.5."""
    read = _reader(name, data)
    return Epochs(imagenet_images.COUNT, size, lambda rows, generator: random_crop(read(rows), _CROP, generator))


def _reader(name: str, data: Path) -> Callable[[np.ndarray], Tensor]:
    read_pixels = imagenet_images.reader(DataFolder(name, data, imagenet_images.FOLDER, imagenet_images.FILES))
    return lambda rows: read_pixels(rows).float() / 255 - 0.5


def _prepare(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float() / 255 - 0.5


def _quality(module: nn.Module, images: Batches) -> Scores:
    """PSNR of each image, in dB, over its three colours."""
    samples = []
    with inference(module) as device:
        for image in images:
            decoded = (module(image.to(device)).clamp(-0.5, 0.5) + 0.5).cpu()
            samples.append(psnr((decoded * 255).round(), ((image + 0.5) * 255).round()))
    return Scores(np.array(samples))


def _rate(module: nn.Module, images: Batches) -> Scores:
    """Bits of each image, in bits per pixel, if each channel were coded at the entropy of its own integers."""
    samples = []
    with inference(module) as device:
        for image in images:
            latents = module.encode(image.to(device)).round()[0].flatten(1).cpu().numpy()  # type: ignore[operator]
            bits = sum(entropy_bits(channel) for channel in latents)
            samples.append(bits / (image.shape[2] * image.shape[3]))
    return Scores(np.array(samples))


def coding_loss(module: nn.Module, batch: Tensor) -> Tensor:
    """Return the rate plus the weighted distortion of a batch of crops.

    The rate is the entropy of Laplace distributions with the mean magnitudes of the channels, in bits per pixel; one
    half is added, so that it does not fall without end where all integers are zero.
    """
    latents = module.encode(batch)  # type: ignore[operator]
    decoded = module.decode(round_through(latents))  # type: ignore[operator]
    distortion = ((decoded - batch) ** 2).mean() * 255**2
    channel_bits = torch.log2(2 * math.e * (latents.abs().mean((0, 2, 3)) + 0.5))
    pixels = batch.shape[2] * batch.shape[3]
    rate = channel_bits.sum() * (latents.shape[2] * latents.shape[3]) / pixels
    total: Tensor = rate + _DISTORTION * distortion
    return total


class ImageAutoencoder(nn.Module):
    """Encoder and decoder; the integers between them are what would be coded.

    Args:
        wide: channels inside each half.
        narrow: channels between the two.
    """

    def __init__(self, wide: int = 48, narrow: int = 24) -> None:
        super().__init__()
        self.enc = nn.ModuleList(
            nn.Conv2d(width_in, width, 5, 2, 2) for width_in, width in ((3, wide), (wide, wide), (wide, narrow))
        )
        self.ea = nn.ParameterList(nn.Parameter(torch.full((wide,), 0.25)) for _ in range(2))
        self.dec = nn.ModuleList(
            nn.ConvTranspose2d(width_in, width, 5, 2, 2, 1)
            for width_in, width in ((narrow, wide), (wide, wide), (wide, 3))
        )
        self.da = nn.ParameterList(nn.Parameter(torch.full((wide,), 0.25)) for _ in range(2))

    def encode(self, x: Tensor) -> Tensor:
        """Latent values (n, narrow, h / 8, w / 8), not rounded, of images (n, 3, h, w) from -0.5 to 0.5."""
        for layer, slope in zip(self.enc, self.ea, strict=False):
            x = nn.functional.prelu(layer(x), slope)
        latents: Tensor = self.enc[-1](x)
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Images (n, 3, h, w), about -0.5 to 0.5, of latent values (n, narrow, h / 8, w / 8)."""
        x = latents
        for layer, slope in zip(self.dec, self.da, strict=False):
            x = nn.functional.prelu(layer(x), slope)
        image: Tensor = self.dec[-1](x)
        return image

    def forward(self, x: Tensor) -> Tensor:
        """Images after coding, (n, 3, h, w), of images with values from -0.5 to 0.5; sides are multiples of 8."""
        return self.decode(round_through(self.encode(x)))
