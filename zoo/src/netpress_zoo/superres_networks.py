"""Networks that enlarge images.

Sources: Hui et al., Lightweight Image Super-Resolution with Information Multi-distillation Network (2019); Kim et al.,
Accurate Image Super-Resolution Using Very Deep Convolutional Networks (2016); Ahn et al., Fast, Accurate, and
Lightweight Super-Resolution with Cascading Residual Network (2018).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["CARNM", "IMDN", "VDSR"]

_WIDTH = 64
_KEPT = 16
"""Channels that a step of IMDN keeps; the others go on."""


def _leaky(x: Tensor) -> Tensor:
    return nn.functional.leaky_relu(x, 0.05)


class _ChannelAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv_du = nn.Sequential(nn.Conv2d(_WIDTH, 4, 1), nn.ReLU(), nn.Conv2d(4, _WIDTH, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        deviation = (x - mean).square().mean((2, 3), keepdim=True).sqrt()
        weighted: Tensor = x * self.conv_du(deviation + mean)
        return weighted


class _Distillation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(_WIDTH, _WIDTH, 3, 1, 1)
        self.c2 = nn.Conv2d(_WIDTH - _KEPT, _WIDTH, 3, 1, 1)
        self.c3 = nn.Conv2d(_WIDTH - _KEPT, _WIDTH, 3, 1, 1)
        self.c4 = nn.Conv2d(_WIDTH - _KEPT, _KEPT, 3, 1, 1)
        self.cca = _ChannelAttention()
        self.c5 = nn.Conv2d(_WIDTH, _WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        rest = x
        for convolution in (self.c1, self.c2, self.c3):
            values = _leaky(convolution(rest))
            kept.append(values[:, :_KEPT])
            rest = values[:, _KEPT:]
        kept.append(self.c4(rest))
        refined: Tensor = self.c5(self.cca(torch.cat(kept, 1)))
        return x + refined


class IMDN(nn.Module):
    """Six blocks that hand on a part of their channels at each step, and pixel shuffling."""

    _BLOCKS = 6

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.fea_conv = nn.Conv2d(3, _WIDTH, 3, 1, 1)
        for block in range(1, self._BLOCKS + 1):
            self.add_module(f"IMDB{block}", _Distillation())
        self.c = nn.Sequential(nn.Conv2d(self._BLOCKS * _WIDTH, _WIDTH, 1), nn.LeakyReLU(0.05))
        self.LR_conv = nn.Conv2d(_WIDTH, _WIDTH, 3, 1, 1)
        self.upsampler = nn.Sequential(nn.Conv2d(_WIDTH, 3 * scale**2, 3, 1, 1), nn.PixelShuffle(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, s h, s w) of images (n, 3, h, w), values from 0 to 1."""
        first = features = self.fea_conv(x)
        outputs = []
        for block in range(1, self._BLOCKS + 1):
            features = self.get_submodule(f"IMDB{block}")(features)
            outputs.append(features)
        image: Tensor = self.upsampler(self.LR_conv(self.c(torch.cat(outputs, 1))) + first)
        return image


class _Convolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(_WIDTH, _WIDTH, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


class VDSR(nn.Module):
    """Twenty convolutions that correct the luma of an image already enlarged."""

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Conv2d(1, _WIDTH, 3, 1, 1, bias=False)
        self.residual_layer = nn.Sequential(*(_Convolution() for _ in range(18)))
        self.output = nn.Conv2d(_WIDTH, 1, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Luma (n, 1, h, w) of luma (n, 1, h, w), values from 0 to 1."""
        correction: Tensor = self.output(self.residual_layer(torch.relu(self.input(x))))
        return x + correction


class _Shift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shifter = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        shifted: Tensor = self.shifter(x)
        return shifted


class _Pointwise(nn.Module):
    def __init__(self, width_in: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width_in, _WIDTH, 1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.body(x)
        return mixed


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(_WIDTH, _WIDTH, 3, 1, 1, groups=4),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, 1, 1, groups=4),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + x)


def _cascade(x: Tensor, steps: list[nn.Module], mixers: list[nn.Module]) -> Tensor:
    """Each step works on the mix of the outputs of all steps before."""
    outputs = [x]
    for step, mixer in zip(steps, mixers, strict=True):
        outputs.append(step(x))
        x = mixer(torch.cat(outputs, 1))
    return x


class _CascadeBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.b1 = _Residual()
        self.c1, self.c2, self.c3 = (_Pointwise(count * _WIDTH) for count in (2, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return _cascade(x, [self.b1] * 3, [self.c1, self.c2, self.c3])


class _Enlarge(nn.Module):
    def __init__(self, factors: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for factor in factors:
            convolution = nn.Conv2d(_WIDTH, _WIDTH * factor**2, 3, 1, 1, groups=4)
            layers += [convolution, nn.ReLU(), nn.PixelShuffle(factor)]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        larger: Tensor = self.body(x)
        return larger


class CARNM(nn.Module):
    """Cascading residual network, the small variant; holds the layers for three scales."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.sub_mean = _Shift()
        self.add_mean = _Shift()
        self.entry = nn.Conv2d(3, _WIDTH, 3, 1, 1)
        self.b1, self.b2, self.b3 = (_CascadeBlock() for _ in range(3))
        self.c1, self.c2, self.c3 = (_Pointwise(count * _WIDTH) for count in (2, 3, 4))
        self.upsample = nn.ModuleDict({"up2": _Enlarge([2]), "up3": _Enlarge([3]), "up4": _Enlarge([2, 2])})
        self.exit = nn.Conv2d(_WIDTH, 3, 3, 1, 1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 3, s h, s w) of images (n, 3, h, w), values from 0 to 1."""
        x = self.entry(self.sub_mean(x))
        x = _cascade(x, [self.b1, self.b2, self.b3], [self.c1, self.c2, self.c3])
        image: Tensor = self.add_mean(self.exit(self.upsample[f"up{self.scale}"](x)))
        return image
