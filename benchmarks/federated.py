"""Federated learning with and without compression: traffic in both directions, and what the model can do in the end.

    python benchmarks/federated.py --data CORPUS [--problem NAME ...] [--quick] [--json federated.json]

Four clients train on shares of the data that are not alike (Dirichlet split) for twenty rounds; the server averages.
One arm sends float32 (FedAvg), the other what ``netpress.federated`` makes of it. Both arms see the same batches.
Three problems:

- ``cifar10``: ResNet-20 of the corpus whose classifier was drawn anew, 5000 images of CIFAR-10 split by class;
- ``recsys``: the recommender of the corpus with noise on all weights, which the clients remove by learning the outputs
  of the network before; each client has some of the users and all films;
- ``digits``: a small network on scikit-learn's digits, from nothing; needs no corpus. ``--quick`` runs only this.

The metric is that of what the server has averaged after the last round, in both arms; ``metric_of_clients`` is that of
the model that one more broadcast gives to the clients. The table counts the messages as they are, the first model
included. Needs torch, scikit-learn and matplotlib.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import peer
import torch
from torch import Tensor, nn

import netpress
from netpress import evaluate
from netpress.evaluate.augmentation import shift_and_flip
from netpress.evaluate.data import DataFolder
from netpress.evaluate.networks.cifar10 import FILES, cifar10_sets
from netpress.federated import Client, FederatedConfig, Server

Model = dict[str, np.ndarray[Any, Any]]
DIRICHLET = 0.5


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
        steps=10,  # a quarter of an epoch of a client
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
        config={"model_qp": -12, "size": 0.004},
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
    )


def state_of(network: nn.Module) -> Model:
    """Return a copy of all tensors of a network."""
    return {name: value.detach().numpy().copy() for name, value in network.state_dict().items()}


def load_state(network: nn.Module, model: Model) -> nn.Module:
    """Put tensors into a network."""
    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in model.items()})
    return network


class Run:
    """One problem with one seed: the same clients and batches for every way to send models."""

    def __init__(self, problem: Problem, clients: int, rounds: int, seed: int) -> None:
        self.problem, self.rounds, self.seed = problem, rounds, seed
        self.rows = problem.split(clients, seed)
        self.network = problem.network(seed)
        self.start = state_of(self.network)

    def train(self, model: Model, client: int, number: int) -> Model:
        """Return the model after the local steps of one client in one round, counted from 0."""
        network, problem = load_state(self.network, model).train(), self.problem
        falling = 0.1 ** (number / max(1, self.rounds - 1))
        optimiser = torch.optim.SGD(network.parameters(), problem.rate * falling, momentum=problem.momentum)
        generator = torch.Generator().manual_seed(10**6 * self.seed + 1000 * client + number)
        for _ in range(problem.steps):
            optimiser.zero_grad()
            problem.loss(network, problem.batch(self.rows[client], generator)).backward()
            optimiser.step()
        return state_of(network)

    def metric(self, model: Model) -> float:
        """Return the metric of a model, in per cent."""
        return self.problem.metric(load_state(self.network, model).eval())

    def plain(self) -> dict[str, Any]:
        """FedAvg with float32 messages."""
        model = self.start
        weights = [len(rows) / sum(map(len, self.rows)) for rows in self.rows]
        size = sum(value.nbytes for value in model.values())
        for number in range(self.rounds):
            trained = [self.train(model, client, number) for client in range(len(self.rows))]
            model = {
                name: np.asarray(
                    sum(w * t[name].astype(np.float64) for w, t in zip(weights, trained, strict=True))
                ).astype(value.dtype)
                for name, value in model.items()
            }
        messages = len(self.rows) * self.rounds
        return {"metric": self.metric(model), "sent": messages * size, "received": messages * size}

    def compressed(self, config: FederatedConfig) -> dict[str, Any]:
        """The same with netpress. Asserts that clients and server hold the same bits."""
        server = Server(self.start, config)
        clients = [Client(str(i), config) for i in range(len(self.rows))]
        reports, training, coding = [], 0.0, 0.0
        for number in range(self.rounds):
            for i, client in enumerate(clients):
                begin = time.process_time()
                model = client.receive(server.broadcast(client.name))
                middle = time.process_time()
                trained = self.train(model, i, number)
                end = time.process_time()
                error = server.collect(client.send(trained, samples=len(self.rows[i])), client.name)
                if error is not None:
                    raise error
                training += end - middle
                coding += time.process_time() - end + middle - begin
            begin = time.process_time()
            reports.append(server.aggregate())
            coding += time.process_time() - begin
        model, aggregate = server.model, server.wanted
        for client in clients:
            client.receive(server.broadcast(client.name))
            if any(not np.array_equal(client.model[name], value) for name, value in model.items()):
                raise RuntimeError(f"client {client.name} holds another model than the server")
        return {
            "metric": self.metric(aggregate),
            "metric_of_clients": self.metric(model),
            "sent": sum(report.sent_bytes for report in reports),
            "received": sum(report.received_bytes for report in reports),
            "first_broadcast": next(iter(reports[0].sent.values())),
            "sent_by_round": [report.sent_bytes for report in reports],
            "received_by_round": [report.received_bytes for report in reports],
            "training_seconds": training,
            "coding_seconds": coding,
            "seconds_per_update": coding / (len(clients) * self.rounds),
        }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=peer.SHARED / "corpus", help="folder laid out like the corpus")
    parser.add_argument("--problem", action="append", choices=("cifar10", "recsys", "digits"), help="can be repeated")
    parser.add_argument("--quick", action="store_true", help="digits only")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--start", choices=("head", "trained", "nothing"), default="head", help="of ResNet-20")
    parser.add_argument("--steps", type=int, help="local steps of a round")
    parser.add_argument("--rate", type=float, help="learning rate")
    parser.add_argument("--noise", type=float, default=0.3, help="of the recommender, in deviations of each tensor")
    parser.add_argument("--config", type=json.loads, default={}, help="fields of FederatedConfig, as JSON")
    parser.add_argument(
        "--json",
        type=Path,
        help="write the figures here, and plots beside it; seeds that were measured with the same settings are kept",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = ["digits"] if arguments.quick else arguments.problem or ["cifar10", "recsys", "digits"]
    made: dict[str, Callable[[], Problem]] = {
        "cifar10": lambda: cifar10(arguments.data, arguments.start),
        "recsys": lambda: recsys(arguments.data, arguments.noise),
        "digits": digits,
    }
    about = {
        "netpress": netpress.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "clients": arguments.clients,
        "rounds": arguments.rounds,
    }
    problems: dict[str, Any] = {}
    if arguments.json and arguments.json.exists():
        problems = json.loads(arguments.json.read_text())["problems"]
    for name in names:
        problem = made[name]()
        changes = {key: getattr(arguments, key) for key in ("steps", "rate") if getattr(arguments, key) is not None}
        problem = dataclasses.replace(problem, **changes)
        config = FederatedConfig.from_dict({**problem.config, **arguments.config})
        settings = {
            **{key: getattr(arguments, key) for key in ("clients", "rounds", "start", "noise")},
            **{"steps": problem.steps, "rate": problem.rate, "config": config.to_dict()},
        }
        known = problems.get(name, {})
        is_same = all(known.get(key) == value for key, value in settings.items())
        rows = [row for row in known["rows"] if row["seed"] not in arguments.seeds] if is_same else []
        for seed in arguments.seeds:
            run = Run(problem, arguments.clients, arguments.rounds, seed)
            row = {"seed": seed, "metric_at_start": run.metric(run.start)}
            row["float32"] = run.plain()
            row["netpress"] = run.compressed(config)
            rows.append(row)
            print(describe(name, row), flush=True)
            rows.sort(key=lambda row: row["seed"])
            problems[name] = {**settings, "rows": rows, **summary(rows)}
            if arguments.json:
                arguments.json.write_text(json.dumps({"about": about, "problems": problems}, indent=1) + "\n")
                plot(name, problems[name], arguments.json.with_name(f"{arguments.json.stem}-{name}.svg"))
        print(f"{name}: {summary(rows)}", flush=True)


def describe(name: str, row: dict[str, Any]) -> str:
    """Return a line about one run."""
    plain, coded = row["float32"], row["netpress"]
    share = (coded["sent"] + coded["received"]) / (plain["sent"] + plain["received"])
    return (
        f"{name} seed {row['seed']}: start {row['metric_at_start']:.2f}, float32 {plain['metric']:.2f}, netpress "
        f"{coded['metric']:.2f} (after one more broadcast {coded['metric_of_clients']:.2f}); first broadcast "
        f"{coded['first_broadcast']:,}, down {coded['sent']:,}, up {coded['received']:,} bytes, {100 * share:.2f} % of "
        f"float32; coding {100 * coded['coding_seconds'] / coded['training_seconds']:.1f} % of the training time"
    )


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the figures over all seeds; the traffic is that of all runs together."""
    total = {arm: sum(row[arm]["sent"] + row[arm]["received"] for row in rows) for arm in ("float32", "netpress")}
    metrics = {arm: [row[arm]["metric"] for row in rows] for arm in ("float32", "netpress")}
    return {
        "traffic_share_percent": 100 * total["netpress"] / total["float32"],
        "float32_metric": float(np.mean(metrics["float32"])),
        "netpress_metric": float(np.mean(metrics["netpress"])),
        "metric_change": float(np.mean(metrics["netpress"]) - np.mean(metrics["float32"])),
        "coding_share_of_training_percent": 100
        * sum(row["netpress"]["coding_seconds"] for row in rows)
        / sum(row["netpress"]["training_seconds"] for row in rows),
    }


def plot(name: str, result: dict[str, Any], path: Path) -> None:
    """Draw the bytes of each round, mean over the seeds."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    rows = result["rows"]
    rounds = len(rows[0]["netpress"]["sent_by_round"])
    numbers = np.arange(1, rounds + 1)
    axes.axhline(rows[0]["float32"]["sent"] / rounds, color="black", label="float32, each direction")
    for key, label in (("sent_by_round", "netpress, to the clients"), ("received_by_round", "netpress, to the server")):
        axes.plot(numbers, np.mean([row["netpress"][key] for row in rows], 0), marker=".", label=label)
    axes.set_yscale("log")
    axes.set_xlabel("round")
    axes.set_ylabel("bytes of all clients")
    axes.set_title(
        f"{name}: {result['traffic_share_percent']:.2f} % of the traffic, {result['metric_change']:+.2f} points"
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
