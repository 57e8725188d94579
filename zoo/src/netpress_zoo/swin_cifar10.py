"""A small transformer with shifted windows for the objects of CIFAR-10, trained here.

Source: Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows (2021).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from netpress import Task
from netpress_zoo.cifar10_trained import trained_task

__all__ = ["SwinTransformer", "swin_cifar10"]

_PATCH, _WINDOW = 4, 4
_WIDTHS, _HEADS = (48, 96), (3, 6)
_SIDES = (8, 4)
"""Tokens on each side of the image, in each stage."""


def swin_cifar10(data: Path, limit: int | None = None, cache: str | Path | None = None) -> Task:
    """Swin transformer of two stages, trained when it is first asked for: 47.55 % of the 2000 test images."""
    return trained_task(
        "swin-cifar10",
        SwinTransformer,
        data,
        limit,
        cache,
        use_case="classification, transformer",
        about=f"Swin transformer: 64 tokens of {_PATCH}x{_PATCH} pixels, two stages of widths "
        f"{_WIDTHS[0]} and {_WIDTHS[1]}, two blocks each, windows of {_WINDOW}x{_WINDOW}",
        epochs=14,
        learning_rate=2e-3,
        weight_decay=5e-2,
        minutes=2,
    )


class _WindowAttention(nn.Module):
    """Attention among the tokens of each window, with a bias for each distance."""

    relative: Tensor
    forbidden: Tensor

    def __init__(self, width: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.heads, self.side, self.shift = heads, side, shift
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros((2 * _WINDOW - 1) ** 2, heads))
        places = torch.cartesian_prod(torch.arange(_WINDOW), torch.arange(_WINDOW))
        distance = places[:, None] - places[None] + _WINDOW - 1
        self.register_buffer("relative", distance[..., 0] * (2 * _WINDOW - 1) + distance[..., 1], persistent=False)
        self.register_buffer("forbidden", _mask(side, shift), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (n, side, side, width)."""
        count, side, _, width = x.shape
        windows = _windows(x.roll((-self.shift, -self.shift), (1, 2)))
        heads = self.qkv(windows).reshape(len(windows), -1, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.bias[self.relative].permute(2, 0, 1)
        mask = (bias + self.forbidden[:, None]).repeat(count, 1, 1, 1)
        seen = nn.functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], attn_mask=mask)
        mixed = self.proj(seen.transpose(1, 2).reshape(windows.shape))
        across = side // _WINDOW
        whole = mixed.reshape(count, across, across, _WINDOW, _WINDOW, width).transpose(2, 3).reshape(x.shape)
        result: Tensor = whole.roll((self.shift, self.shift), (1, 2))
        return result


def _windows(x: Tensor) -> Tensor:
    """Tokens (n, side, side, width) as windows (n * number, 16, width); those of an image stay together."""
    count, side, _, width = x.shape
    across = side // _WINDOW
    parts = x.reshape(count, across, _WINDOW, across, _WINDOW, width).transpose(2, 3)
    return parts.reshape(count * across**2, _WINDOW**2, width)


def _mask(side: int, shift: int) -> Tensor:
    """What keeps tokens apart that only the shift brought into one window: (windows, 16, 16), 0 or -100."""
    region = torch.zeros(side)
    if shift:
        region[-_WINDOW:-shift] = 1
        region[-shift:] = 2
    regions = (3 * region[:, None] + region[None])[None, ..., None]
    windows = _windows(regions)[..., 0]
    return torch.where(windows[:, :, None] == windows[:, None], 0.0, -100.0)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, side: int, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = _WindowAttention(width, heads, side, shift)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        mixed: Tensor = x + self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))
        return mixed


class _Merging(nn.Module):
    """Makes one token of four neighbours."""

    def __init__(self, narrow: int, wide: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * narrow)
        self.reduction = nn.Linear(4 * narrow, wide, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        count, side, _, width = x.shape
        parts = x.reshape(count, side // 2, 2, side // 2, 2, width).transpose(2, 3)
        merged: Tensor = self.reduction(self.norm(parts.reshape(count, side // 2, side // 2, 4 * width)))
        return merged


class SwinTransformer(nn.Module):
    """Two stages of blocks; in the first one every second block has its windows shifted by half."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, _WIDTHS[0], _PATCH, _PATCH)
        self.norm_embed = nn.LayerNorm(_WIDTHS[0])
        stages = []
        for width, heads, side in zip(_WIDTHS, _HEADS, _SIDES, strict=True):
            shift = _WINDOW // 2 if side > _WINDOW else 0
            stages.append(nn.Sequential(_Block(width, heads, side, 0), _Block(width, heads, side, shift)))
        self.stages = nn.ModuleList(stages)
        self.merging = _Merging(*_WIDTHS)
        self.norm = nn.LayerNorm(_WIDTHS[-1])
        self.head = nn.Linear(_WIDTHS[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 10) of normalised images (n, 3, 32, 32)."""
        tokens = self.norm_embed(self.patch_embed(x).permute(0, 2, 3, 1))
        tokens = self.stages[1](self.merging(self.stages[0](tokens)))
        logits: Tensor = self.head(self.norm(tokens).mean((1, 2)))
        return logits
