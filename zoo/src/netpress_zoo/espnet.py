"""ESPNet: convolutions of several dilations side by side, on few channels each.

Source: Mehta et al., ESPNet: Efficient Spatial Pyramid of Dilated Convolutions for Semantic Segmentation (2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ESPNet"]

_EPSILON = 1e-3
_DILATIONS = (2, 4, 8, 16)


class _Convolution(nn.Module):
    def __init__(self, width_in: int, width: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        padding = (kernel - 1) // 2 * dilation
        self.conv = nn.Conv2d(width_in, width, kernel, stride, padding, dilation, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.conv(x)
        return values


class _Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(width, _EPSILON)
        self.act = nn.PReLU(width)

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.act(self.bn(x))
        return values


class _ConvolutionNorm(_Norm):
    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__(width)
        self.conv = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.conv(x))


def _add_pyramid(module: nn.Module, width: int) -> None:
    """Give a module the convolutions of a pyramid: the first has what the others leave of the channels."""
    narrow = width // 5
    module.add_module("d1", _Convolution(narrow, width - 4 * narrow, 3))
    for dilation in _DILATIONS:
        module.add_module(f"d{dilation}", _Convolution(narrow, narrow, 3, 1, dilation))


def _pyramid(module: nn.Module, x: Tensor) -> Tensor:
    """All dilations of the same input; each but the first is the sum of those before, against patterns of holes."""
    outputs = [module.get_submodule("d1")(x)]
    total: Tensor | None = None
    for dilation in _DILATIONS:
        values = module.get_submodule(f"d{dilation}")(x)
        total = values if total is None else total + values
        outputs.append(total)
    return torch.cat(outputs, 1)


class _Down(_Norm):
    def __init__(self, width_in: int, width: int) -> None:
        super().__init__(width)
        self.c1 = _Convolution(width_in, width // 5, 3, 2)
        _add_pyramid(self, width)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(_pyramid(self, self.c1(x)))


class _Block(nn.Module):
    def __init__(self, width_in: int, width: int, residual: bool = True) -> None:
        super().__init__()
        self.c1 = _Convolution(width_in, width // 5, 1)
        _add_pyramid(self, width)
        self.bn = _Norm(width)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        values = _pyramid(self, self.c1(x))
        normed: Tensor = self.bn(x + values if self.residual else values)
        return normed


class _Encoder(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.level1 = _ConvolutionNorm(3, 16, 2)
        self.b1 = _Norm(19)
        self.level2_0 = _Down(19, 64)
        self.level2 = nn.Sequential(*(_Block(64, 64) for _ in range(2)))
        self.b2 = _Norm(131)
        self.level3_0 = _Down(131, 128)
        self.level3 = nn.Sequential(*(_Block(128, 128) for _ in range(8)))
        self.b3 = _Norm(256)
        self.classifier = _Convolution(256, classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        half = nn.functional.avg_pool2d(x, 3, 2, 1)
        quarter = nn.functional.avg_pool2d(half, 3, 2, 1)
        first = self.b1(torch.cat([self.level1(x), half], 1))
        down = self.level2_0(first)
        second = self.b2(torch.cat([self.level2(down), down, quarter], 1))
        down = self.level3_0(second)
        return first, second, self.classifier(self.b3(torch.cat([down, self.level3(down)], 1)))


class ESPNet(nn.Module):
    """Encoder with two blocks at a quarter and eight at an eighth of the size, and a light decoder."""

    def __init__(self, classes: int = 12) -> None:
        super().__init__()
        self.encoder = _Encoder(classes)
        self.br = nn.BatchNorm2d(classes, _EPSILON)
        self.up_l3 = nn.Sequential(nn.ConvTranspose2d(classes, classes, 2, 2, bias=False))
        self.level3_C = _Convolution(131, classes, 1)
        self.combine_l2_l3 = nn.Sequential(_Norm(2 * classes), _Block(2 * classes, classes, residual=False))
        self.up_l2 = nn.Sequential(nn.ConvTranspose2d(classes, classes, 2, 2, bias=False), _Norm(classes))
        self.conv = _ConvolutionNorm(19 + classes, classes)
        self.classifier = nn.ConvTranspose2d(classes, classes, 2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 12, h, w) of normalised images (n, 3, h, w), blue first; sides are multiples of 8."""
        first, second, third = self.encoder(x)
        up = self.up_l3(self.br(third))
        up = self.up_l2(self.combine_l2_l3(torch.cat([self.level3_C(second), up], 1)))
        logits: Tensor = self.classifier(self.conv(torch.cat([up, first], 1)))
        return logits
