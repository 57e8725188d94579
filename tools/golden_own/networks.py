"""Networks for the cases that train or calibrate. Needs torch."""

from __future__ import annotations

from typing import Any

import own_models as models
import torch
from torch import nn

import netpress

__all__ = ["ConvNet", "Perceptron", "task_of"]


def _filled(network: nn.Module, seed: int) -> nn.Module:
    """Give a network parameters that are the same on every machine."""
    for i, (name, value) in enumerate(network.state_dict().items()):
        shape = tuple(value.shape)
        if value.dtype != torch.float32:
            value.fill_(100)
        elif "var" in name or (name.split(".")[0][0] == "n" and name.endswith("weight")):
            value.copy_(torch.from_numpy(models.positive(shape, seed + i)))
        else:
            value.copy_(torch.from_numpy(models.weights(shape, seed + i, 2)))
    return network.eval()


class ConvNet(nn.Module):
    """Convolutions with batch norms of different epsilons, one of them transposed, and a linear layer."""

    def __init__(self, seed: int = 500) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.n1 = nn.BatchNorm2d(8, eps=1e-3)
        self.c2 = nn.Conv2d(8, 12, 3, stride=2)
        self.n2 = nn.BatchNorm2d(12)
        self.t = nn.ConvTranspose2d(12, 6, 2, stride=2, bias=False)
        self.n3 = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 10)
        _filled(self, seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ten values for each image of 3 by 8 by 8."""
        x = self.n1(self.c1(x)).relu()
        x = self.n2(self.c2(x)).relu()
        return self.fc(self.n3(self.t(x)).relu().mean((2, 3)))


class Perceptron(nn.Module):
    """An embedding and two linear layers."""

    def __init__(self, seed: int = 600) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 12)
        self.a = nn.Linear(12, 24)
        self.b = nn.Linear(24, 8)
        _filled(self, seed)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return eight values for each token."""
        return self.b(self.a(self.table(x)).relu())


def task_of(network: nn.Module, **fields: Any) -> netpress.Task:
    """Return a task with inputs, whose metric is the error against the outputs of the network."""
    if isinstance(network, ConvNet):
        batches = [torch.from_numpy(models.weights((8, 3, 8, 8), 700 + i, 4)) for i in range(6)]
    else:
        batches = [torch.from_numpy(models.integers((8, 5), 720 + i, 0, 20)) for i in range(6)]
    with torch.no_grad():
        wanted = network(batches[-1])

    def error(module: Any) -> Any:
        with torch.no_grad():
            return (module(batches[-1]) - wanted).square().flatten(1).mean(1).numpy()

    given = {"train_batches": batches[:4], "calibration_batches": batches[:4]}
    return netpress.Task(evaluate=error, metric="error", direction="min", **{**given, **fields})
