"""What is learned in ``benchmarks/federated.py``: networks, data, clients and their training.

Nothing here sends anything; ``federated.py`` does it by itself, ``federated_app`` with Flower.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netpress import evaluate
from netpress.evaluate.augmentation import shift_and_flip
from netpress.evaluate.data import DataFolder
from netpress.federated import FederatedConfig
from netpress_zoo.cifar10 import FILES, cifar10_sets

NAMES = ("cifar10", "recsys", "digits")
Model = dict[str, np.ndarray[Any, Any]]
DIRICHLET = 0.5
SHORT_ROUNDS = 0.95  # memory where a round is a few steps


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is trained.

    Attributes:
        network: makes the network with its first weights, for a seed.
        batch: draws a training batch of a client, from its rows.
        loss: of the network on a batch.
        metric: of the network, in per cent.
        split: rows of each client, for a number of clients and a seed.
        steps, rate: local steps of a round, and their learning rate in the first round; it falls to a tenth.
        config: fields of FederatedConfig that are not its defaults.
    """

    network: Callable[[int], nn.Module]
    batch: Callable[[np.ndarray[Any, Any], torch.Generator], Any]
    loss: Callable[[nn.Module, Any], Tensor]
    metric: Callable[[nn.Module], float]
    split: Callable[[int, int], list[np.ndarray[Any, Any]]]
    steps: int
    rate: float
    momentum: float = 0.9
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def dirichlet(labels: np.ndarray[Any, Any], clients: int, seed: int) -> list[np.ndarray[Any, Any]]:
    """Give each client a random share of each class; at least one batch for everybody."""
    random = np.random.default_rng([seed, 7])
    while True:
        parts: list[list[np.ndarray[Any, Any]]] = [[] for _ in range(clients)]
        for label in np.unique(labels):
            rows = random.permutation(np.flatnonzero(labels == label))
            cuts = (np.cumsum(random.dirichlet([DIRICHLET] * clients))[:-1] * len(rows)).astype(int)
            for part, some in zip(parts, np.split(rows, cuts), strict=True):
                part.append(some)
        joined = [np.concatenate(part) for part in parts]
        if min(len(part) for part in joined) >= 32:
            return joined


def _rows(rows: np.ndarray[Any, Any], size: int, generator: torch.Generator) -> np.ndarray[Any, Any]:
    return rows[torch.randint(len(rows), (size,), generator=generator).numpy()]


def cross_entropy(network: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the loss of a classifier."""
    return nn.functional.cross_entropy(network(batch[0]), batch[1])


def cifar10(data: Path, start: str) -> Problem:
    """ResNet-20 on CIFAR-10."""
    task = evaluate.load("cifar10-resnet20", data=data)
    _, _, train = cifar10_sets(DataFolder("federated", data, "cifar10-resnet", FILES), None)
    everything = np.arange(len(train))
    images, labels = train.inputs(everything), train.targets(everything)

    def network(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        made: nn.Module = task.model()
        for module in made.modules():
            is_head = isinstance(module, nn.Linear)
            if hasattr(module, "reset_parameters") and (start == "nothing" or (start == "head" and is_head)):
                module.reset_parameters()
        return made

    def batch(rows: np.ndarray[Any, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        some = _rows(rows, 32, generator)
        return shift_and_flip(images[some], generator), labels[some]

    return Problem(
        network=network,
        batch=batch,
        loss=cross_entropy,
        metric=lambda module: task.scores(module).value,
        split=lambda clients, seed: dirichlet(labels.numpy(), clients, seed),
        steps=40,  # about an epoch of a client
        rate=0.02,
        config={"model_qp": -20},
    )


def recsys(data: Path, noise: float) -> Problem:
    """The perceptron over embeddings of users and films, with noise that training removes."""
    task = evaluate.load("recsys-mlp", data=data)
    teacher = task.model()
    users, films = teacher.user_embedding.num_embeddings, teacher.item_embedding.num_embeddings

    def network(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        made: nn.Module = task.model()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter += noise * parameter.std(correction=0) * torch.randn_like(parameter)
        return made

    def batch(rows: np.ndarray[Any, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        user = torch.from_numpy(_rows(rows, 128, generator))[:, None].expand(-1, 64)
        pairs = torch.stack([user, torch.randint(films, user.shape, generator=generator)], -1)
        with torch.no_grad():
            return pairs, teacher(pairs)

    def split(clients: int, seed: int) -> list[np.ndarray[Any, Any]]:
        random = np.random.default_rng([seed, 7])
        sizes = random.dirichlet([4.0] * clients)
        return np.split(random.permutation(users), (np.cumsum(sizes)[:-1] * users).astype(int))

    return Problem(
        network=network,
        batch=batch,
        loss=lambda module, pairs: nn.functional.binary_cross_entropy_with_logits(module(pairs[0]), pairs[1].sigmoid()),
        metric=lambda module: task.scores(module).value,
        split=split,
        steps=20,
        rate=0.15,
        config={"model_qp": -12, "size": 0.0075, "memory": SHORT_ROUNDS},
    )


def digits() -> Problem:
    """A small convolutional network on scikit-learn's digits."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    images = torch.tensor(found.images[order] / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(found.target[order])
    held_out, rest = slice(0, 500), np.arange(500, len(order))

    def network(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(1024, 40), nn.ReLU(), nn.Linear(40, 10)),
        )

    def batch(rows: np.ndarray[Any, Any], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        some = _rows(rows, 32, generator)
        return images[some], labels[some]

    def metric(module: nn.Module) -> float:
        with torch.no_grad():
            return 100 * float((module.eval()(images[held_out]).argmax(1) == labels[held_out]).float().mean())

    return Problem(
        network=network,
        batch=batch,
        loss=cross_entropy,
        metric=metric,
        split=lambda clients, seed: [rest[part] for part in dirichlet(labels[rest].numpy(), clients, seed)],
        steps=8,
        rate=0.02,
        config={"memory": SHORT_ROUNDS},
    )


def state_of(network: nn.Module) -> Model:
    """Return a copy of all tensors of a network."""
    return {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}


def load_state(network: nn.Module, model: Model) -> nn.Module:
    """Put tensors into a network."""
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in model.items()})
    return network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What one run of the benchmark is, ready for JSON.

    Attributes:
        problem: one of :data:`NAMES`.
        data: folder laid out like the corpus.
        start: of ResNet-20: "head" (its classifier is drawn anew), "trained" or "nothing".
        noise: of the recommender, in deviations of each tensor.
        steps, rate: instead of those of the problem.
        config: fields of FederatedConfig, beside those of the problem.
    """

    problem: str
    data: str = ""
    clients: int = 4
    rounds: int = 20
    seed: int = 0
    start: str = "head"
    noise: float = 0.3
    steps: int | None = None
    rate: float | None = None
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def made(self) -> Problem:
        """Return the problem."""
        makers: dict[str, Callable[[], Problem]] = {
            "cifar10": lambda: cifar10(Path(self.data), self.start),
            "recsys": lambda: recsys(Path(self.data), self.noise),
            "digits": digits,
        }
        problem = makers[self.problem]()
        changes = {key: getattr(self, key) for key in ("steps", "rate") if getattr(self, key) is not None}
        return dataclasses.replace(problem, **changes, config={**problem.config, **self.config})


class Run:
    """One problem with one seed: the same clients and batches for every way to send models."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.problem = settings, settings.made()
        self.rows = self.problem.split(settings.clients, settings.seed)
        self.network = self.problem.network(settings.seed)
        self.start = state_of(self.network)

    @property
    def config(self) -> FederatedConfig:
        """Settings of the compression."""
        return FederatedConfig.from_dict(self.problem.config)

    def train(self, model: Model, client: int, number: int) -> Model:
        """Return the model after the local steps of one client in one round, counted from 0."""
        network, problem = load_state(self.network, model).train(), self.problem
        falling = 0.1 ** (number / max(1, self.settings.rounds - 1))
        optimiser = torch.optim.SGD(network.parameters(), problem.rate * falling, momentum=problem.momentum)
        generator = torch.Generator().manual_seed(10**6 * self.settings.seed + 1000 * client + number)
        for _ in range(problem.steps):
            optimiser.zero_grad()
            problem.loss(network, problem.batch(self.rows[client], generator)).backward()
            optimiser.step()
        return state_of(network)

    def metric(self, model: Model) -> float:
        """Return the metric of a model, in per cent."""
        return self.problem.metric(load_state(self.network, model).eval())
