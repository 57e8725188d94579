"""Small networks with structures that judged networks have too; a change of this file trains them again."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from quality_networks import imagenet

WORDS, LENGTH = 2048, 32
"""Different words, and words of a sentence, of the transformer."""


def mobilenet_v2() -> nn.Module:
    """Inverted residuals with ReLU6 for 32x32 pixels."""
    stages = [(1, 16, 1, 1, 3), (6, 24, 2, 1, 3), (6, 32, 2, 2, 3), (6, 64, 2, 2, 3), (6, 96, 2, 1, 3)]
    return imagenet.MobileNet(stages, (16, 320), 10)


def _with_norm(convolution: nn.Conv2d, activation: nn.Module | None = None) -> nn.Sequential:
    layers = [convolution, nn.BatchNorm2d(convolution.out_channels)]
    return nn.Sequential(*layers, *([] if activation is None else [activation]))


class _Classifier(nn.Module):
    """Features, their mean over the image, and a linear layer."""

    def __init__(self, features: nn.Module, width: int) -> None:
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10) of images (n, 3, 32, 32)."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


def mobilenet_v1() -> nn.Module:
    """Separable convolutions with ReLU6 for 32x32 pixels."""
    layers: list[nn.Module] = [_with_norm(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.ReLU6())]
    widths = (24, 48, 96, 96, 192, 192, 192, 384)
    for width_in, width, stride in zip(widths, widths[1:], (1, 2, 1, 2, 1, 1, 1), strict=False):
        layers.append(_with_norm(nn.Conv2d(width_in, width_in, 3, stride, 1, groups=width_in, bias=False), nn.ReLU6()))
        layers.append(_with_norm(nn.Conv2d(width_in, width, 1, bias=False), nn.ReLU6()))
    return _Classifier(nn.Sequential(*layers), widths[-1])


class _Bottleneck(nn.Module):
    """A narrow 3x3 convolution between two pointwise ones, beside a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        narrow = width // 4
        self.conv = nn.Sequential(
            _with_norm(nn.Conv2d(width_in, narrow, 1, bias=False), nn.ReLU()),
            _with_norm(nn.Conv2d(narrow, narrow, 3, stride, 1, bias=False), nn.ReLU()),
            _with_norm(nn.Conv2d(narrow, width, 1, bias=False)),
        )
        is_same = stride == 1 and width_in == width
        self.shortcut = nn.Identity() if is_same else _with_norm(nn.Conv2d(width_in, width, 1, stride, bias=False))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.relu(self.conv(x) + self.shortcut(x))
        return result


def bottleneck_resnet() -> nn.Module:
    """Residual blocks with bottlenecks for 32x32 pixels."""
    widths = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1))
    layers: list[nn.Module] = [_with_norm(nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.ReLU())]
    width_in = 32
    for width, stride in widths:
        layers.append(_Bottleneck(width_in, width, stride))
        width_in = width
    return _Classifier(nn.Sequential(*layers), width_in)


class _Excited(nn.Module):
    """An inverted residual with hard swish, whose channels are weighted by what their means say."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        wide = 4 * width_in
        self.expand = _with_norm(nn.Conv2d(width_in, wide, 1, bias=False), nn.Hardswish())
        self.depthwise = _with_norm(nn.Conv2d(wide, wide, 5, stride, 2, groups=wide, bias=False), nn.Hardswish())
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(wide, wide // 4, 1),
            nn.ReLU(),
            nn.Conv2d(wide // 4, wide, 1),
            nn.Hardsigmoid(),
        )
        self.project = _with_norm(nn.Conv2d(wide, width, 1, bias=False))
        self.adds = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        result: Tensor = self.project(y * self.squeeze(y))
        return x + result if self.adds else result


def mobilenet_v3() -> nn.Module:
    """Squeeze and excitation with hard swish for 32x32 pixels."""
    layers: list[nn.Module] = [_with_norm(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.Hardswish())]
    width_in = 16
    for width, stride in ((24, 1), (24, 1), (40, 2), (40, 1), (64, 2), (64, 1), (64, 1)):
        layers.append(_Excited(width_in, width, stride))
        width_in = width
    layers.append(_with_norm(nn.Conv2d(width_in, 256, 1, bias=False), nn.Hardswish()))
    return _Classifier(nn.Sequential(*layers), 256)


class GRU(nn.Module):
    """Two layers of gated recurrent units over frames of mel bands, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(40, 96, 2, batch_first=True)
        self.classifier = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10) of mel bands (n, 1, 40, frames)."""
        logits: Tensor = self.classifier(self.gru(x[:, 0].transpose(1, 2))[0].mean(1))
        return logits


class SentenceTransformer(nn.Module):
    """Embeddings of words and places, two blocks with layer norms, the mean, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 64)
        self.places = nn.Parameter(0.02 * torch.randn(LENGTH, 64))
        block = nn.TransformerEncoderLayer(64, 4, 256, 0.1, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, 2, nn.LayerNorm(64), enable_nested_tensor=False)
        self.classifier = nn.Linear(64, 2)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (n, 2) of words (n, 32); 0 is no word."""
        is_word = (codes > 0)[..., None]
        x = self.blocks(self.embedding(codes) + self.places) * is_word
        logits: Tensor = self.classifier(x.sum(1) / is_word.sum(1).clamp(min=1))
        return logits


class UNet(nn.Module):
    """Convolutions with batch norms to a quarter of the resolution, and transposed ones back; finds the noise."""

    def __init__(self) -> None:
        super().__init__()
        self.first = _with_norm(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.ReLU())
        self.down1 = _with_norm(nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.ReLU())
        self.down2 = _with_norm(nn.Conv2d(32, 64, 3, 2, 1, bias=False), nn.ReLU())
        self.middle = _with_norm(nn.Conv2d(64, 64, 3, 1, 1, bias=False), nn.ReLU())
        self.up2 = nn.Sequential(nn.ConvTranspose2d(64, 32, 2, 2, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.up1 = nn.Sequential(nn.ConvTranspose2d(32, 16, 2, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.last = nn.Conv2d(16, 1, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (n, 1, height, width) without noise; the sides are multiples of four."""
        first = self.first(x)
        half = self.down1(first)
        back = self.up2(self.middle(self.down2(half))) + half
        result: Tensor = x - self.last(self.up1(back) + first)
        return result
