"""A small network in the style of VGG for the objects of CIFAR-10, trained here.

Source: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition (2015): pairs of 3x3
convolutions, then fully connected layers; here with batch norms.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from netpress import Task
from netpress_zoo.cifar10_trained import trained_task

__all__ = ["VGG", "vgg_cifar10"]

_WIDTHS = (16, 32, 64, 128)


def vgg_cifar10(data: Path, limit: int | None = None, cache: str | Path | None = None) -> Task:
    """VGG-style network of eight convolutions, trained when it is first asked for: 63.85 % of the 2000 test images."""
    return trained_task(
        "vgg-cifar10",
        VGG,
        data,
        limit,
        cache,
        use_case="classification, convolutions",
        about="VGG-style network: four pairs of 3x3 convolutions with batch norms, two fully connected layers",
        epochs=10,
        learning_rate=4e-3,
        weight_decay=5e-2,
        minutes=2,
    )


class VGG(nn.Module):
    """Four pairs of convolutions, each at half the resolution of the one before, and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_in = 3
        for width in _WIDTHS:
            for _ in range(2):
                layers += [nn.Conv2d(width_in, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                width_in = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(4 * _WIDTHS[-1], 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10) of normalised images (n, 3, 32, 32)."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits
