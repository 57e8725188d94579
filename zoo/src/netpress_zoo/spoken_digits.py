"""A small network that hears spoken digits, trained here: the whole recipe is in this file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Task
from netpress.evaluate.classification import classification_task, cross_entropy
from netpress.evaluate.data import DataFolder, layers_of
from netpress.evaluate.samples import Samples, choose
from netpress_zoo.training import Recipe, TrainedNetwork

__all__ = ["DigitNetwork", "fsdd_cnn"]

_NAME = "fsdd-cnn"
_TEST, _TRAIN = "test_idx0-4.npz", "train_idx5-19.npz"
_FREQUENCY = 8000  # samples in a second
_WINDOW, _HOP, _BANDS, _FRAMES = 256, 80, 40, 80
_EPOCHS, _RATE = 20, 3e-3
_CALIBRATION = 256


def fsdd_cnn(data: Path, limit: int | None = None, cache: str | Path | None = None) -> Task:
    """Convolutional network for spoken digits, trained when it is first asked for (half a minute).

    Args:
        data: the folder with all data.
        limit: how many of the 300 test recordings to evaluate.
        cache: a folder for the trained weights; None for the user's cache folder.
    """
    contents = "samples, int16 at 8 kHz, back to back; offsets, int64 (n + 1,); labels, uint8 (n,)"
    folder = DataFolder(_NAME, data, "fsdd", {_TEST: contents, _TRAIN: contents})
    test, train = (folder.arrays(file) for file in (_TEST, _TRAIN))
    test_features, train_features = _features(test), _features(train)
    recordings = Samples(
        lambda rows: train_features[rows], choose(len(train_features), None), train["labels"], _augment
    )
    recipe = Recipe(
        name=_NAME,
        network=DigitNetwork,
        batches=lambda: recordings.epochs(32),
        loss=cross_entropy,
        epochs=_EPOCHS,
        learning_rate=_RATE,
        largest_gradient=math.inf,
    )
    network = TrainedNetwork(recipe, cache)
    return classification_task(
        _NAME,
        network=DigitNetwork,
        weights=network.get,
        test=Samples(lambda rows: test_features[rows], choose(len(test_features), limit), test["labels"]),
        calibration=Samples(recordings.read, choose(len(train_features), _CALIBRATION)),
        train=recordings,
        train_size=32,
        description={
            "use case": "spoken digits in audio",
            "network": "four convolutions over 80 frames of 40 logarithmic mel bands",
            "layers": layers_of(DigitNetwork),
            "data": "Free Spoken Digit Dataset: 300 test recordings, 900 training recordings, "
            f"{_CALIBRATION} of these calibrate; the network is trained here, {_EPOCHS} epochs",
            "source": "Jakobovski/free-spoken-digit-dataset",
            "licence": "recordings: CC BY-SA 4.0",
        },
    )


def _features(archive: dict[str, np.ndarray]) -> Tensor:
    """Logarithmic mel bands of recordings, float32 (n, 1, 40, 80), normalised; cut or filled at the end."""
    filters = _mel_filters()
    window = torch.hann_window(_WINDOW)
    result = []
    for start, end in zip(archive["offsets"], archive["offsets"][1:], strict=False):
        signal = torch.zeros(_FRAMES * _HOP + _WINDOW)
        recording = torch.from_numpy(archive["samples"][start:end].astype(np.float32) / 32768)[: len(signal)]
        signal[: len(recording)] = recording
        frames = signal.unfold(0, _WINDOW, _HOP)[:_FRAMES] * window
        power = torch.fft.rfft(frames).abs().square()
        bands = torch.log(filters @ power.T + 1e-6)
        result.append((bands - bands.mean()) / bands.std())
    return torch.stack(result)[:, None]


def _mel_filters() -> Tensor:
    """Triangular filters (40, 129) at equal distances of the mel scale, 60 Hz to 4 kHz.

    Source: O'Shaughnessy, Speech Communication (1987): mel = 2595 log10(1 + f / 700).
    """
    low, high = (2595 * math.log10(1 + frequency / 700) for frequency in (60, _FREQUENCY / 2))
    edges = 700 * (10 ** (torch.linspace(low, high, _BANDS + 2) / 2595) - 1)
    bins = torch.linspace(0, _FREQUENCY / 2, _WINDOW // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


def _augment(features: Tensor, generator: torch.Generator) -> Tensor:
    """Move each recording by up to eight frames, and add a little noise."""
    shifts = torch.randint(-8, 9, (len(features),), generator=generator).tolist()
    moved = torch.stack([sample.roll(shift, -1) for sample, shift in zip(features, shifts, strict=True)])
    return moved + 0.1 * torch.randn(moved.shape, generator=generator)


class DigitNetwork(nn.Module):
    """Four convolutions with batch norms, the mean over time and frequency, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width_in, width in ((1, 16), (16, 32), (32, 64), (64, 64)):
            layers += [nn.Conv2d(width_in, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10) of mel bands (n, 1, 40, 80)."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits
