"""Federated learning with and without compression: traffic in both directions, and what the model can do in the end.

    python benchmarks/federated.py --data CORPUS [--problem NAME ...] [--engine NAME] [--quick] [--json federated.json]

Four clients train on shares of the data that are not alike (Dirichlet split) for twenty rounds; the server averages.
One arm sends float32 (FedAvg), the other what ``netpress.federated`` makes of it. Both arms see the same batches.
Three problems:

- ``cifar10``: ResNet-20 of the corpus whose classifier was drawn anew, 5000 images of CIFAR-10 split by class;
- ``recsys``: the recommender of the corpus with noise on all weights, which the clients remove by learning the outputs
  of the network before; each client has some of the users and all films;
- ``digits``: a small network on scikit-learn's digits, from nothing; needs no corpus. ``--quick`` runs only this.

Three engines carry the messages: ``loop``, in this process; ``simulation``, Flower's simulation engine; ``processes``,
a SuperLink and one SuperNode for each client, which speak gRPC. The last two need ``netpress[flower]``, and run the
Flower app ``federated_app``; its strategy is Flower's FedAvg.

The metric is that of what the server has averaged after the last round, in both arms; ``metric_of_clients`` is that of
the model that one more broadcast gives to the clients. The table counts the messages as they are, the first model
included. The time of coding is only measured by the loop. Needs torch, scikit-learn and matplotlib.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import federated_engines
import netpress
from federated_problems import NAMES, Run, Settings
from netpress.federated import Client, Server
from places import CORPUS

ARMS = ("float32", "netpress")


def plain(run: Run) -> dict[str, Any]:
    """FedAvg with float32 messages, in this process."""
    model = run.start
    weights = [len(rows) / sum(map(len, run.rows)) for rows in run.rows]
    size = sum(value.nbytes for value in model.values())
    for number in range(run.settings.rounds):
        trained = [run.train(model, client, number) for client in range(len(run.rows))]
        model = {
            name: np.asarray(sum(w * t[name].astype(np.float64) for w, t in zip(weights, trained, strict=True))).astype(
                value.dtype
            )
            for name, value in model.items()
        }
    messages = len(run.rows) * run.settings.rounds
    return {"metric": run.metric(model), "sent": messages * size, "received": messages * size}


def compressed(run: Run) -> dict[str, Any]:
    """The same with netpress. Fails where clients and server do not hold the same bits."""
    server = Server(run.start, run.config)
    clients = [Client(str(i), run.config) for i in range(len(run.rows))]
    reports, training, coding = [], 0.0, 0.0
    for number in range(run.settings.rounds):
        for i, client in enumerate(clients):
            begin = time.process_time()
            model = client.receive(server.broadcast(client.name))
            middle = time.process_time()
            trained = run.train(model, i, number)
            end = time.process_time()
            error = server.collect(client.send(trained, samples=len(run.rows[i])), client.name)
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
        "metric": run.metric(aggregate),
        "metric_of_clients": run.metric(model),
        "sent": sum(report.sent_bytes for report in reports),
        "received": sum(report.received_bytes for report in reports),
        "first_broadcast": next(iter(reports[0].sent.values())),
        "sent_by_round": [report.sent_bytes for report in reports],
        "received_by_round": [report.received_bytes for report in reports],
        "training_seconds": training,
        "coding_seconds": coding,
        "seconds_per_update": coding / (len(clients) * run.settings.rounds),
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=CORPUS, help="folder laid out like the corpus")
    parser.add_argument("--problem", action="append", choices=NAMES, help="can be repeated; all without it")
    parser.add_argument("--engine", choices=("loop", *federated_engines.ENGINES), default="loop")
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
    for name in ["digits"] if arguments.quick else arguments.problem or NAMES:
        fields = {key: getattr(arguments, key) for key in ("clients", "rounds", "start", "noise", "steps", "rate")}
        settings = Settings(problem=name, data=str(arguments.data.resolve()), config=arguments.config, **fields)
        measure(settings, arguments.engine, arguments.seeds, arguments.json)


def measure(settings: Settings, engine: str, seeds: list[int], path: Path | None) -> None:
    """Run one problem with one engine for some seeds, print a line for each and keep the figures."""
    key = settings.problem if engine == "loop" else f"{settings.problem}-{engine}"
    if settings.steps is not None:
        key += f"-{settings.steps}-steps"
    problem = settings.made()
    used = {
        **{name: getattr(settings, name) for name in ("clients", "rounds", "start", "noise")},
        **{"engine": engine, "steps": problem.steps, "rate": problem.rate, "config": Run(settings).config.to_dict()},
    }
    problems = json.loads(path.read_text())["problems"] if path and path.exists() else {}
    known = problems.get(key, {})
    is_same = all(known.get(name) == value for name, value in used.items())
    rows = [row for row in known["rows"] if row["seed"] not in seeds] if is_same else []
    for seed in seeds:
        run = Run(dataclasses.replace(settings, seed=seed))
        row = {"seed": seed, "metric_at_start": run.metric(run.start)}
        if engine == "loop":
            row.update({"float32": plain(run), "netpress": compressed(run)})
        else:
            row.update(federated_engines.ENGINES[engine](run.settings, ARMS))
        rows.append(row)
        print(describe(key, row), flush=True)
        rows.sort(key=lambda row: row["seed"])
        problems[key] = {**used, "rows": rows, **summary(rows)}
        if path:
            path.write_text(json.dumps({"about": about(), "problems": problems}, indent=1) + "\n")
            plot(key, problems[key], path.with_name(f"{path.stem}-{key}.svg"))
    print(f"{key}: {summary(rows)}", flush=True)


def about() -> dict[str, str]:
    """Return what the figures were measured with."""
    return {
        "netpress": netpress.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def describe(name: str, row: dict[str, Any]) -> str:
    """Return a line about one run."""
    plain, coded = row["float32"], row["netpress"]
    share = (coded["sent"] + coded["received"]) / (plain["sent"] + plain["received"])
    line = (
        f"{name} seed {row['seed']}: start {row['metric_at_start']:.2f}, float32 {plain['metric']:.2f}, netpress "
        f"{coded['metric']:.2f}; first broadcast "
        f"{coded['first_broadcast']:,}, down {coded['sent']:,}, up {coded['received']:,} bytes, {100 * share:.2f} % of "
        "float32"
    )
    if "coding_seconds" in coded:
        line += f"; coding {100 * coded['coding_seconds'] / coded['training_seconds']:.1f} % of the training time"
    return line


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the figures over all seeds; the traffic is that of all runs together."""
    total = {arm: sum(row[arm]["sent"] + row[arm]["received"] for row in rows) for arm in ARMS}
    metrics = {arm: float(np.mean([row[arm]["metric"] for row in rows])) for arm in ARMS}
    figures = {
        "traffic_share_percent": 100 * total["netpress"] / total["float32"],
        "float32_metric": metrics["float32"],
        "netpress_metric": metrics["netpress"],
        "metric_change": metrics["netpress"] - metrics["float32"],
    }
    coded = [row["netpress"] for row in rows]
    if all("coding_seconds" in row for row in coded):
        seconds = [sum(row[key] for row in coded) for key in ("coding_seconds", "training_seconds")]
        figures["coding_share_of_training_percent"] = 100 * seconds[0] / seconds[1]
    return figures


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
    axes.xaxis.get_major_locator().set_params(integer=True)
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
