"""The network, its data and its training; nothing here knows of netpress or Flower."""

import torch
from sklearn.datasets import load_digits
from torch import nn


def make_network() -> nn.Module:
    """Return a small convolutional network."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(1024, 40), nn.ReLU(), nn.Linear(40, 10)),
    )


def load_data(part: int, parts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images and labels of one client; part -1 is held out for the server."""
    digits = load_digits()
    order = torch.randperm(len(digits.images), generator=torch.Generator().manual_seed(0))
    rows = order[:400] if part < 0 else order[400:][part::parts]
    return torch.tensor(digits.images[rows] / 16, dtype=torch.float32).unsqueeze(1), torch.tensor(digits.target[rows])


def train(network: nn.Module, images: torch.Tensor, labels: torch.Tensor, rate: float) -> None:
    """Train for one epoch."""
    optimiser = torch.optim.SGD(network.train().parameters(), rate, momentum=0.9)
    for rows in torch.randperm(len(images)).split(32):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
        optimiser.step()


def accuracy(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images that are told right."""
    with torch.no_grad():
        return float((network.eval()(images).argmax(1) == labels).float().mean())
