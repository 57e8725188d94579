"""FastestDet: a detector on ShuffleNetV2.

Source: Ma et al., ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design (2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["FastestDet"]

_WIDTH = 96


def _norm(width_in: int, width: int, kernel: int = 1, stride: int = 1, depthwise: bool = False) -> list[nn.Module]:
    """A convolution without bias and its batch norm."""
    groups = width_in if depthwise else 1
    convolution = nn.Conv2d(width_in, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(width)]


class _Unit(nn.Module):
    """A unit of ShuffleNetV2: of stride 2 if the number of channels changes, else on every second channel."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        middle = width // 2
        self.down = width_in != width
        stride = 2 if self.down else 1
        main_in = width_in if self.down else middle
        main_out = width - width_in if self.down else middle
        self.branch_main = nn.Sequential(
            *_norm(main_in, middle),
            nn.ReLU(),
            *_norm(middle, middle, 3, stride, depthwise=True),
            *_norm(middle, main_out),
            nn.ReLU(),
        )
        if self.down:
            self.branch_proj = nn.Sequential(
                *_norm(width_in, width_in, 3, 2, depthwise=True), *_norm(width_in, width_in), nn.ReLU()
            )

    def forward(self, x: Tensor) -> Tensor:
        if self.down:
            return torch.cat([self.branch_proj(x), self.branch_main(x)], 1)
        return torch.cat([x[:, 0::2], self.branch_main(x[:, 1::2])], 1)


class _Backbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(*_norm(3, 24, 3, 2), nn.ReLU())
        self.stage2 = self._stage(24, 48, 4)
        self.stage3 = self._stage(48, 96, 8)
        self.stage4 = self._stage(96, 192, 4)

    @staticmethod
    def _stage(width_in: int, width: int, units: int) -> nn.Sequential:
        return nn.Sequential(_Unit(width_in, width), *(_Unit(width, width) for _ in range(units - 1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        fine = self.stage2(nn.functional.max_pool2d(self.first_conv(x), 3, 2, 1))
        middle = self.stage3(fine)
        return fine, middle, self.stage4(middle)


class _Pointwise(nn.Module):
    def __init__(self, width_in: int) -> None:
        super().__init__()
        self.conv1x1 = nn.Sequential(*_norm(width_in, _WIDTH), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.conv1x1(x)
        return values


class _Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.Conv1x1 = _Pointwise(336)
        for count in (1, 2, 3):
            layers = [layer for _ in range(count) for layer in (*_norm(_WIDTH, _WIDTH, 5, depthwise=True), nn.ReLU())]
            self.add_module(f"S{count}", nn.Sequential(*layers))
        self.output = nn.Sequential(*_norm(3 * _WIDTH, _WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv1x1(x)
        scales = torch.cat([self.get_submodule(f"S{count}")(x) for count in (1, 2, 3)], 1)
        return torch.relu(x + self.output(scales))


class _Layers(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv5x5 = nn.Sequential(*_norm(_WIDTH, _WIDTH, 5, depthwise=True), nn.ReLU(), *_norm(_WIDTH, width))

    def forward(self, x: Tensor) -> Tensor:
        values: Tensor = self.conv5x5(x)
        return values


class _Head(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1x1 = _Pointwise(_WIDTH)
        self.obj_layers = _Layers(1)
        self.reg_layers = _Layers(4)
        self.cls_layers = _Layers(classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1x1(x)
        return torch.cat([self.obj_layers(x), self.reg_layers(x), self.cls_layers(x)], 1)


class FastestDet(nn.Module):
    """Detector with one grid of outputs, a sixteenth of the size of the image."""

    def __init__(self, classes: int = 80) -> None:
        super().__init__()
        self.backbone = _Backbone()
        self.SPP = _Pyramid()
        self.detect_head = _Head(classes)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, 5 + classes, h / 16, w / 16) of images (n, 3, h, w), blue first, 0 to 1.

        Channel 0 is the logit that something is there, 1 to 4 are its place and size before tanh and the sigmoid, and
        the rest are the logits of the classes.
        """
        fine, middle, coarse = self.backbone(x)
        fine = nn.functional.avg_pool2d(fine, 3, 2, 1)
        coarse = nn.functional.interpolate(coarse, scale_factor=2)
        outputs: Tensor = self.detect_head(self.SPP(torch.cat([fine, middle, coarse], 1)))
        return outputs
