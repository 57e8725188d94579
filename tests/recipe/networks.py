"""Small networks with most kinds of layers."""

from __future__ import annotations

import torch
from torch import nn


def _shake(module: nn.Module, seed: int) -> nn.Module:
    """Give batch norms statistics and factors as after training."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            for tensor, low, high in (
                (layer.running_mean, -1, 1),
                (layer.running_var, 0.5, 2),
                (layer.weight.data, 0.5, 2),
                (layer.bias.data, -1, 1),
            ):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
    return module.eval()


class ConvNet(nn.Module):
    """Plain, strided, transposed, grouped and depthwise convolutions with batch norms, and a linear layer."""

    inputs = (3, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.b1 = nn.BatchNorm2d(16, eps=1e-3)
        self.c2 = nn.Conv2d(16, 24, 3, stride=2, padding="valid", dilation=2)
        self.b2 = nn.BatchNorm2d(24)
        self.t = nn.ConvTranspose2d(24, 12, 4, stride=2, padding=1, bias=False)
        self.b3 = nn.BatchNorm2d(12)
        self.d = nn.Conv2d(12, 12, 3, padding=1, groups=12, padding_mode="circular")
        self.g = nn.Conv2d(12, 24, (3, 1), groups=4, padding="same")
        self.fc = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.b1(self.c1(x)).relu()
        x = self.b2(self.c2(x)).relu()
        x = self.b3(self.t(x)).relu()
        return self.fc(self.g(self.d(x)).mean((2, 3)))


class OneDimensional(nn.Module):
    """Convolutions over time, a transposed one, and a linear layer with batch norm."""

    inputs = (4, 12)

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(4, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU(), nn.ConvTranspose1d(8, 6, 2, stride=2),
            nn.BatchNorm1d(6), nn.ReLU(), nn.Flatten(), nn.Linear(144, 20, bias=False), nn.BatchNorm1d(20),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


class ThreeDimensional(nn.Module):
    """Convolutions over volumes."""

    inputs = (2, 6, 6, 6)

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv3d(2, 8, 3, bias=False)
        self.n = nn.BatchNorm3d(8)
        self.b = nn.ConvTranspose3d(8, 4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.n(self.a(x)).relu()).flatten(1)


class Attention(nn.Module):
    """One transformer layer."""

    inputs = (5, 16)

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.norm = nn.LayerNorm(16)
        self.feed = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.feed(self.norm(x))


NETWORKS = {"conv": ConvNet, "1d": OneDimensional, "3d": ThreeDimensional, "attention": Attention}


def make(name: str, seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    """Return a network in inference mode and a batch of inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = NETWORKS[name]()
        return _shake(network, seed), torch.randn(16, *network.inputs)
