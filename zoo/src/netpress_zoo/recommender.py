"""Recommendation of films by collaborative filtering: which of 100 films would a user watch?

Source: He et al., Neural Collaborative Filtering (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.data import DataFolder, build, layers_of
from netpress.evaluate.samples import Batches, Epochs, choose, inference

__all__ = ["GMF", "MLP", "recsys_gmf", "recsys_mlp"]

_USERS, _ITEMS = 6040, 3706
_CANDIDATES = 100
_CALIBRATION = 512
_FILE = "test_users.npz"


def recsys_mlp(data: Path, limit: int | None = None) -> Task:
    """Perceptron over embeddings of users and films: the film is among the first ten for 67.14 % of 4026 users."""
    return _task("recsys-mlp", "mlp_ml1m.safetensors", MLP, "embeddings of width 32 and four layers", data, limit)


def recsys_gmf(data: Path, limit: int | None = None) -> Task:
    """Weighted products of embeddings: the film is among the first ten for 63.69 % of 4026 users."""
    return _task("recsys-gmf", "gmf_ml1m.safetensors", GMF, "weighted products of embeddings of width 8", data, limit)


def _task(name: str, weights: str, network: Callable[[], nn.Module], words: str, data: Path, limit: int | None) -> Task:
    contents = "users, int16 (n,); candidates, int16 (n, 100): the film that was watched, and 99 others"
    folder = DataFolder(name, data, "recsys-ncf", {weights: "weights", _FILE: contents})
    arrays = folder.arrays(_FILE)
    everyone, all_candidates = arrays["users"].astype(np.int64), arrays["candidates"].astype(np.int64)
    chosen = choose(len(everyone), limit)
    users, candidates = everyone[chosen], all_candidates[chosen]
    evaluation = Batches(len(users), 256, lambda rows: _pairs(users[rows], candidates[rows]))
    evaluated = np.zeros((_USERS, _ITEMS), bool)
    evaluated[everyone[:, None], all_candidates] = True
    some_users = choose(_USERS, _CALIBRATION)

    def unseen(user_ids: np.ndarray, random: np.random.Generator) -> Tensor:
        return _pairs(user_ids, np.stack([_draw(~evaluated[user], random) for user in user_ids]))

    def train(rows: np.ndarray, generator: torch.Generator) -> Tensor:
        return unseen(rows, np.random.default_rng(int(torch.randint(2**31, (), generator=generator))))

    return Task(
        name=name,
        model=lambda: build(network, folder.path / weights),
        train_batches=lambda: Epochs(_USERS, 64, train),
        calibration_batches=Batches(
            _CALIBRATION, 64, lambda rows: unseen(some_users[rows], np.random.default_rng([0, int(rows[0])]))
        ),
        evaluation_batches=evaluation,
        evaluate=lambda module: _hits(module, evaluation),
        metric="hit rate at 10",
        unit="%",
        description={
            "use case": "recommendation",
            "network": f"neural collaborative filtering, {words}",
            "layers": layers_of(network),
            "data": f"MovieLens 1M: {len(everyone)} users evaluate, each with a film that was watched and 99 that were "
            f"not; other pairs of users and films train on the network's own outputs, {_CALIBRATION} users with 100 "
            "films each calibrate",
            "source": "hexiangnan/neural_collaborative_filtering",
            "licence": "weights: Apache-2.0; data: for research",
        },
    )


def _draw(allowed: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return random.choice(np.flatnonzero(allowed), _CANDIDATES, replace=False)


def _pairs(users: np.ndarray, items: np.ndarray) -> Tensor:
    """Every user with each of their items, int64 (n, 100, 2)."""
    return torch.from_numpy(np.stack([np.broadcast_to(users[:, None], items.shape), items], -1))


def _hits(module: nn.Module, pairs: Iterable[Tensor]) -> Scores:
    """100 for each user with fewer than ten films before or beside the one that was watched, else 0."""
    samples = []
    with inference(module) as device:
        for batch in pairs:
            scores = module(batch.to(device)).cpu()
            rank = (scores[:, 1:] >= scores[:, :1]).sum(1)
            samples.append(100 * (rank < 10).numpy().astype(np.float32))
    return Scores(np.concatenate(samples))


class MLP(nn.Module):
    """Four linear layers over the embeddings of user and item."""

    def __init__(self) -> None:
        super().__init__()
        self.user_embedding = nn.Embedding(_USERS, 32)
        self.item_embedding = nn.Embedding(_ITEMS, 32)
        self.fc1 = nn.Linear(64, 32)
        self.fc2 = nn.Linear(32, 16)
        self.fc3 = nn.Linear(16, 8)
        self.prediction = nn.Linear(8, 1)

    def forward(self, pairs: Tensor) -> Tensor:
        """Scores (...) of pairs of a user and an item, int64 (..., 2); higher is more likely."""
        x = torch.cat([self.user_embedding(pairs[..., 0]), self.item_embedding(pairs[..., 1])], -1)
        for layer in (self.fc1, self.fc2, self.fc3):
            x = torch.relu(layer(x))
        scores: Tensor = self.prediction(x)[..., 0]
        return scores


class GMF(nn.Module):
    """A weighted sum of the products of the embeddings of user and item."""

    def __init__(self) -> None:
        super().__init__()
        self.user_embedding = nn.Embedding(_USERS, 8)
        self.item_embedding = nn.Embedding(_ITEMS, 8)
        self.prediction = nn.Linear(8, 1)

    def forward(self, pairs: Tensor) -> Tensor:
        """Scores (...) of pairs of a user and an item, int64 (..., 2); higher is more likely."""
        products = self.user_embedding(pairs[..., 0]) * self.item_embedding(pairs[..., 1])
        scores: Tensor = self.prediction(products)[..., 0]
        return scores
