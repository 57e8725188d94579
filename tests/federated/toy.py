"""A linear model with running statistics that several clients train, in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from netpress.federated import Client, FederatedConfig, Server

Array = np.ndarray[Any, Any]
Model = dict[str, Array]
INPUTS, OUTPUTS, SAMPLES = 24, 16, 64


def first_model() -> Model:
    """All kinds of tensors that a state dictionary has."""
    return {
        "fc.weight": np.zeros((OUTPUTS, INPUTS), np.float32),
        "fc.bias": np.zeros(OUTPUTS, np.float32),
        "bn.running_mean": np.zeros(OUTPUTS, np.float32),
        "bn.running_var": np.ones(OUTPUTS, np.float32),
        "bn.num_batches_tracked": np.array(0, np.int64),
        "scale": np.array(1.0, np.float32),
        "mask": np.ones(3, np.bool_),
        "empty": np.zeros((0, 4), np.float32),
    }


class Task:
    """Data of several clients, whose inputs are not alike; the true weights are those of ``wanted``."""

    def __init__(self, clients: int = 3, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.wanted = random.laplace(0, 1, (OUTPUTS, INPUTS)).astype(np.float32)
        shapes = (SAMPLES, INPUTS)
        self.inputs = [random.normal(0, 1, shapes).astype(np.float32) + random.normal(0, 0.3) for _ in range(clients)]
        self.targets = [x @ self.wanted.T for x in self.inputs]

    def train(self, model: Model, client: int, steps: int = 4) -> Model:
        """Change a model in place, as frameworks do, and return it."""
        x, y = self.inputs[client].astype(np.float32), self.targets[client]
        for _ in range(steps):
            error = x @ model["fc.weight"].T + model["fc.bias"] - y
            model["fc.weight"] -= 0.2 * (error.T @ x) / SAMPLES
            model["fc.bias"] -= 0.2 * error.mean(0)
            out = x @ model["fc.weight"].T
            model["bn.running_mean"] += 0.1 * (out.mean(0) - model["bn.running_mean"])
            model["bn.running_var"] += 0.1 * (out.var(0) - model["bn.running_var"])
            model["bn.num_batches_tracked"] += 1
        return model

    def error(self, model: Model) -> float:
        """Mean square error of the weights, relative to their power."""
        return float(np.square(model["fc.weight"] - self.wanted).mean() / np.square(self.wanted).mean())


def start(count: int = 3, config: FederatedConfig | None = None) -> tuple[Task, Server, list[Client]]:
    """Return a task, its server and its clients."""
    return Task(count), Server(first_model(), config), [Client(f"client {i}", config) for i in range(count)]


def play(task: Task, server: Server, clients: list[Client], chosen: list[int] | None = None) -> Any:
    """Play one round with some of the clients; every update has to be taken."""
    for i in range(len(clients)) if chosen is None else chosen:
        client = clients[i]
        model = client.receive(server.broadcast(client.name))
        assert_same(client.model, server.model)
        assert server.collect(client.send(task.train(model, i), samples=SAMPLES), client.name) is None
    return server.aggregate()


def assert_same(one: Model, other: Model) -> None:
    """The same tensors to the last bit."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value.dtype == other[name].dtype
        assert value.shape == other[name].shape
        assert value.tobytes() == other[name].tobytes()
