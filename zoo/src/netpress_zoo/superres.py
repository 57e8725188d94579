"""Super-resolution: images of Set5 from smaller ones; images of Kodak to calibrate and train."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from netpress import InvalidConfig, Scores, Task
from netpress.evaluate.data import DataFolder, build, decode_image, layers_of
from netpress.evaluate.metrics import luma, psnr
from netpress.evaluate.samples import Batches, Epochs, choose, inference
from netpress_zoo.superres_networks import CARNM, IMDN, VDSR

__all__ = ["carn_m", "imdn_x2", "imdn_x4", "vdsr"]

_PATCH = 48
"""Pixels on each side of a part of a small image to train with."""
_CALIBRATION = 256

Pixels = np.ndarray
"""An image, uint8 (height, width, 3)."""


def imdn_x2(data: Path, limit: int | None = None) -> Task:
    """IMDN for twice the width: 37.996 dB on Set5."""
    return _task("superres-imdn-x2", "imdn_x2", lambda: IMDN(2), 2, data, limit, _IMDN)


def imdn_x4(data: Path, limit: int | None = None) -> Task:
    """IMDN for four times the width: 32.210 dB on Set5."""
    return _task("superres-imdn-x4", "imdn_x4", lambda: IMDN(4), 4, data, limit, _IMDN)


def carn_m(data: Path, limit: int | None = None, scale: int = 2) -> Task:
    """CARN-M for 2, 3 or 4 times the width: 37.678, 34.058 and 31.883 dB on Set5."""
    return _task("superres-carn-m", "carn_m", lambda: CARNM(scale), scale, data, limit, _CARN)


def vdsr(data: Path, limit: int | None = None, scale: int = 2) -> Task:
    """VDSR for 2, 3 or 4 times the width: 37.558, 33.719 and 31.244 dB on Set5; luma only."""
    return _task("superres-vdsr", "vdsr", VDSR, scale, data, limit, _VDSR)


@dataclasses.dataclass(frozen=True)
class _Kind:
    network: str
    source: str
    licence: str
    luma: bool = False
    """The network corrects the luma of an enlarged image; otherwise it enlarges the image itself."""


_IMDN = _Kind("IMDN, information multi-distillation", "Zheng222/IMDN", "not stated, for research")
_CARN = _Kind("CARN-M, cascading residual network with group convolutions", "nmhkahn/CARN-pytorch", "MIT")
_VDSR = _Kind("VDSR, 20 convolutions on the luma", "twtygqyy/pytorch-vdsr", "MIT", luma=True)


def _task(
    name: str, weights: str, network: Callable[[], nn.Module], scale: int, data: Path, limit: int | None, kind: _Kind
) -> Task:
    if scale not in (2, 3, 4):
        raise InvalidConfig(f"task {name!r}: scale is 2, 3 or 4, not {scale}")
    folder = DataFolder(name, data, "superres", {f"{weights}.safetensors": "weights"})
    contents = {"set5": "PNG images", "set5_lr": "the same, smaller, NAME_x2.png", "kodak": "PNG images"}
    images = DataFolder(name, data, "image-sets", contents)
    paths = sorted((images.path / "set5").glob("*.png"))
    pairs = [
        (_read(images.path / "set5_lr" / f"{paths[row].stem}_x{scale}.png"), _read(paths[row]))
        for row in choose(len(paths), limit)
    ]
    evaluation = Batches(len(pairs), 1, lambda rows: _prepare(pairs[rows[0]][0], scale, kind.luma)[None])
    patches = _Patches(images.images("kodak/*.png", "RGB"), scale, kind.luma)
    return Task(
        name=name,
        model=lambda: build(network, folder.path / f"{weights}.safetensors"),
        train_batches=lambda: Epochs(200, 16, patches.random),
        calibration_batches=Batches(_CALIBRATION, 16, patches.fixed),
        evaluation_batches=evaluation,
        loss=_loss,
        evaluate=lambda module: _quality(module, evaluation, [large for _, large in pairs], scale, kind.luma),
        metric="PSNR of the luma",
        unit="dB",
        description={
            "use case": f"super-resolution, {scale} times the width and the height",
            "network": kind.network,
            "layers": layers_of(network),
            "data": "5 images of Set5 evaluate; parts of 12 Kodak images, made smaller by bicubic interpolation, train "
            f"and, {_CALIBRATION} of {_PATCH}x{_PATCH} pixels, calibrate",
            "source": f"weights: {kind.source}; images: Zheng222/IMDN (Set5), EmilienDupont/coin (Kodak)",
            "licence": f"weights: {kind.licence}; Kodak images: free to use",
        },
    )


def _read(path: Path) -> Pixels:
    return decode_image(path.read_bytes())


def _resize(image: Pixels, width: int, height: int) -> Pixels:
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def _prepare(small: Pixels, scale: int, of_luma: bool) -> Tensor:
    """Input of a network from a small image: its colours (3, h, w), or the luma of the enlarged image (1, s h, s w)."""
    if not of_luma:
        return torch.from_numpy(small).permute(2, 0, 1).float() / 255
    enlarged = _resize(small, small.shape[1] * scale, small.shape[0] * scale)
    return luma(torch.from_numpy(enlarged).permute(2, 0, 1)).float()[None] / 255


class _Patches:
    """Pairs of small and large parts of images; the small images are made by bicubic interpolation."""

    def __init__(self, images: list[Pixels], scale: int, of_luma: bool) -> None:
        self.scale = 1 if of_luma else scale  # how much larger the target is than the input of the network
        self._inputs, self._targets = [], []
        for image in images:
            height, width = (size // scale for size in image.shape[:2])
            large = image[: height * scale, : width * scale]
            self._inputs.append(_prepare(_resize(large, width, height), scale, of_luma))
            colours = torch.from_numpy(large.copy()).permute(2, 0, 1)
            self._targets.append(luma(colours).float()[None] / 255 if of_luma else colours.float() / 255)

    def fixed(self, rows: np.ndarray) -> Tensor:
        """Inputs (n, channels, 48, 48), each at the place that belongs to its number."""
        return torch.stack([self._cut(torch.Generator().manual_seed(int(row)))[0] for row in rows])

    def random(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Inputs, and the images that should come out."""
        inputs, targets = zip(*(self._cut(generator) for _ in rows), strict=True)
        return torch.stack(inputs), torch.stack(targets)

    def _cut(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        chosen = int(torch.randint(0, len(self._inputs), (), generator=generator))
        small, large = self._inputs[chosen], self._targets[chosen]
        top = int(torch.randint(0, small.shape[1] - _PATCH + 1, (), generator=generator))
        left = int(torch.randint(0, small.shape[2] - _PATCH + 1, (), generator=generator))
        s = self.scale
        return (
            small[:, top : top + _PATCH, left : left + _PATCH],
            large[:, s * top : s * (top + _PATCH), s * left : s * (left + _PATCH)],
        )


def _loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean absolute difference, as these networks are trained."""
    image = module(batch[0])
    return nn.functional.l1_loss(image, batch[1].to(image.device))


def _quality(module: nn.Module, inputs: Batches, large: list[Pixels], scale: int, of_luma: bool) -> Scores:
    """PSNR of the luma of each image, in dB, without ``scale`` pixels at each border."""
    samples = []
    with inference(module) as device:
        for small, original in zip(inputs, large, strict=True):
            image = (module(small.to(device))[0].clamp(0, 1) * 255).cpu()
            found = image[0] if of_luma else luma(image.round())  # only colours become 8-bit values
            height, width = found.shape
            wanted = luma(torch.from_numpy(original[:height, :width].copy()).permute(2, 0, 1))
            inside = (slice(scale, height - scale), slice(scale, width - scale))
            samples.append(psnr(found[inside], wanted[inside]))
    return Scores(np.array(samples))
