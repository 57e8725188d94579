"""Images as networks: a function of the place gives the colour.

Source: Sitzmann et al., Implicit Neural Representations with Periodic Activation Functions (2020).
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.data import DataFolder, build, decode_image, layers_of
from netpress.evaluate.metrics import mean_psnr
from netpress.evaluate.samples import Batches, Epochs, choose, inference

__all__ = ["Siren", "siren_kodim15", "siren_kodim23"]

_SIDE = 256
_CALIBRATION = 1024


def siren_kodim23(data: Path, limit: int | None = None) -> Task:
    """Part of Kodak's image 23 as a network: 37.113 dB. A sample is a row of 256 pixels."""
    return _task("inr-siren-kodim23", "kodim23", 64, 64, data, limit)


def siren_kodim15(data: Path, limit: int | None = None) -> Task:
    """Part of Kodak's image 15 as a network, trained shortly: 29.426 dB. A sample is a row of 256 pixels."""
    return _task("inr-siren-kodim15", "kodim15", 64, 128, data, limit)


def _task(name: str, image: str, top: int, left: int, data: Path, limit: int | None) -> Task:
    weights = f"siren_{image}.safetensors"
    folder = DataFolder(name, data, "inr-siren", {weights: "weights"})
    kodak = DataFolder(name, data, "image-sets", {f"kodak/{image}.png": "the image"})
    pixels = decode_image((kodak.path / "kodak" / f"{image}.png").read_bytes())
    colours = torch.from_numpy(pixels[top : top + _SIDE, left : left + _SIDE].copy())
    grid = _grid()
    rows = choose(_SIDE, limit)
    evaluation = Batches(len(rows), 32, lambda places: grid[rows[places]].flatten(0, 1))
    flat_grid, flat_colours = grid.flatten(0, 1), colours.flatten(0, 1).float() / 255
    between = _between(_CALIBRATION)

    def train(places: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return flat_grid[places], flat_colours[places]

    return Task(
        name=name,
        model=lambda: build(Siren, folder.path / weights),
        train_batches=lambda: Epochs(_SIDE**2, 4096, train),
        calibration_batches=Batches(_CALIBRATION, 256, lambda places: between[places]),
        evaluation_batches=evaluation,
        loss=_loss,
        evaluate=lambda module: _errors(module, evaluation, colours[rows]),
        metric="PSNR",
        unit="dB",
        description={
            "use case": "implicit neural representation of an image",
            "network": "SIREN, five layers of 64 with sines, from coordinates to colours",
            "layers": layers_of(Siren),
            "data": f"{_SIDE}x{_SIDE} pixels of a Kodak image; the network stands for this image alone, so that its "
            f"pixels evaluate and train, and {_CALIBRATION} places between the pixels calibrate",
            "source": "weights: made with this data; image: EmilienDupont/coin",
            "licence": "free to use",
        },
    )


def _grid() -> Tensor:
    """Coordinates (x, y) of the pixels, (256, 256, 2), from -1 to 1."""
    line = torch.linspace(-1, 1, _SIDE)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], -1)


def _between(count: int) -> Tensor:
    """Coordinates of places in the middle between pixels, chosen at random, (count, 2)."""
    places = np.random.default_rng(0).integers(0, _SIDE - 1, (count, 2)) + 0.5
    return torch.from_numpy((places / (_SIDE - 1) * 2 - 1).astype(np.float32))


def _loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared error."""
    colours = module(batch[0])
    return nn.functional.mse_loss(colours, batch[1].to(colours.device))


def _errors(module: nn.Module, coordinates: Batches, wanted: Tensor) -> Scores:
    """Mean squared error of each row of pixels, as 8-bit values; the metric is the PSNR of all rows."""
    with inference(module) as device:
        found = torch.cat([module(places.to(device)).cpu() for places in coordinates])
    values = (found.clamp(0, 1) * 255).round().reshape(wanted.shape)
    return Scores((values - wanted).double().square().mean((1, 2)).numpy(), mean_psnr)


class Siren(nn.Module):
    """Six linear layers with sines between them."""

    _FREQUENCY = 30

    def __init__(self) -> None:
        super().__init__()
        widths = (2, 64, 64, 64, 64, 64, 3)
        self.net = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths))

    def forward(self, coordinates: Tensor) -> Tensor:
        """Colours (n, 3), about 0 to 1, of places (n, 2), x and y from -1 to 1."""
        x = coordinates
        for layer in list(self.net)[:-1]:
            x = torch.sin(self._FREQUENCY * layer(x))
        colours: Tensor = self.net[-1](x) + 0.5
        return colours
