"""Fifty checkpoints of a training run: as separate streams, and as a chain of updates.

    python benchmarks/updates.py [--rate 0.01] [--seed 0] [--steps 22] [--json updates.json]

A run with another rate, seed or number of steps is added to the file. Trains a small convolutional network on
scikit-learn's digits (part of the package, no download), keeps a checkpoint after every ``--steps`` steps, and stores
all of them as single streams with the same settings, and in chains without keyframes and with one every ten versions.
Bytes of a chain count its manifest. Needs torch, scikit-learn and, for ``--json``, matplotlib.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

import netpress

Model = dict[str, np.ndarray[Any, Any]]
TEST_SAMPLES = 397


def make_network() -> torch.nn.Module:
    """Return a network with some 60 thousand parameters, and integer counters in its batch norms."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 3, padding=1),
        torch.nn.BatchNorm2d(32),
        torch.nn.ReLU(),
        torch.nn.Conv2d(32, 64, 3, padding=1, stride=2),
        torch.nn.BatchNorm2d(64),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(64 * 16, 40),
        torch.nn.ReLU(),
        torch.nn.Linear(40, 10),
    )


def train(count: int, steps: int, rate: float, seed: int) -> tuple[list[Model], Any]:
    """Return the checkpoints, and a function that tells the accuracy of a state on held-out digits, in per cent."""
    torch.manual_seed(seed)
    digits = load_digits()
    images = torch.tensor(digits.images / 16, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(digits.target)
    order = torch.randperm(len(images))
    held_out, rest = order[:TEST_SAMPLES], order[TEST_SAMPLES:]
    network = make_network()
    optimiser = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, count * steps)
    checkpoints = []
    for step in range(1, count * steps + 1):
        batch = rest[torch.randint(len(rest), (64,))]
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(images[batch]), labels[batch]).backward()
        optimiser.step()
        schedule.step()
        if step % steps == 0:
            checkpoints.append({name: value.numpy().copy() for name, value in network.state_dict().items()})

    def accuracy(state: Model) -> float:
        copy = make_network().eval()
        copy.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        with torch.no_grad():
            return 100 * float((copy(images[held_out]).argmax(1) == labels[held_out]).float().mean())

    return checkpoints, accuracy


def error(restored: Model, model: Model) -> float:
    """Return the root mean square error of all float values, relative to that of the values."""
    floats = [name for name, value in model.items() if value.dtype.kind == "f"]
    noise = sum(float(np.square(restored[n].astype(np.float64) - model[n]).sum()) for n in floats)
    signal = sum(float(np.square(model[n].astype(np.float64)).sum()) for n in floats)
    return float(np.sqrt(noise / signal))


def store_apart(checkpoints: list[Model], accuracy: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Encode each checkpoint by itself."""
    start = time.perf_counter()
    streams = [netpress.encode(model, **options) for model in checkpoints]
    seconds = time.perf_counter() - start
    decoded = [netpress.decode(data) for data in streams]
    return figures([len(data) for data in streams], 0, decoded, checkpoints, accuracy, seconds)


def store_chain(
    checkpoints: list[Model], accuracy: Any, options: dict[str, Any], every: int | None, path: Path
) -> dict[str, Any]:
    """Append the checkpoints to a chain, and restore them from its files."""
    start = time.perf_counter()
    chain = netpress.UpdateChain.create(path, checkpoints[0], keyframe_every=every, **options)
    for model in checkpoints[1:]:
        chain.append(model)
    seconds = time.perf_counter() - start
    manifest = (path / "chain.json").stat().st_size
    opened = netpress.UpdateChain.open(path)
    decoded = [opened.load(version) for version in opened.versions]
    return figures([link.bytes for link in opened.log()], manifest, decoded, checkpoints, accuracy, seconds)


def figures(
    sizes: list[int], manifest: int, decoded: list[Model], checkpoints: list[Model], accuracy: Any, seconds: float
) -> dict[str, Any]:
    """Return what is reported of one way to store the checkpoints."""
    errors = [error(restored, model) for restored, model in zip(decoded, checkpoints, strict=True)]
    return {
        "bytes": sum(sizes) + manifest,
        "manifest_bytes": manifest,
        "sizes": sizes,
        "relative_error_first": errors[0],
        "relative_error_last": errors[-1],
        "relative_error_worst": max(errors),
        "accuracy_last": accuracy(decoded[-1]),
        "seconds": seconds,
    }


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoints", type=int, default=50)
    parser.add_argument("--steps", type=int, default=22, help="steps between checkpoints; 22 are an epoch")
    parser.add_argument("--rate", type=float, default=0.01, help="learning rate at the start; it falls to 0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--qp", type=int, nargs="*", default=[], help="also with these qps, beside the default")
    parser.add_argument("--json", type=Path, help="write the figures here, and a plot of the first run beside them")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    checkpoints, accuracy = train(arguments.checkpoints, arguments.steps, arguments.rate, arguments.seed)
    first = checkpoints[0]
    rows = []
    for qp in (None, *arguments.qp):
        options = {} if qp is None else {"qp": qp, "nonweight_qp": qp - 8}
        row: dict[str, Any] = {"qp": qp, "apart": store_apart(checkpoints, accuracy, options)}
        for name, every in (("chain", None), ("chain_keyframe_every_10", 10)):
            with tempfile.TemporaryDirectory() as folder:
                row[name] = store_chain(checkpoints, accuracy, options, every, Path(folder) / "chain")
            row[name]["share_of_apart"] = row[name]["bytes"] / row["apart"]["bytes"]
        rows.append(row)
        for name in ("apart", "chain", "chain_keyframe_every_10"):
            found = row[name]
            print(
                f"qp {qp}, {name}: {found['bytes']:,} bytes ({found.get('share_of_apart', 1):.1%}), relative error "
                f"{found['relative_error_last']:.2e}, accuracy {found['accuracy_last']:.2f} %, {found['seconds']:.1f} s"
            )
    key = {"checkpoints": len(checkpoints), **{name: getattr(arguments, name) for name in ("steps", "rate", "seed")}}
    report = {
        **key,
        "parameters": sum(value.size for value in first.values()),
        "float_bytes": len(checkpoints) * sum(value.nbytes for value in first.values()),
        "accuracy_float": accuracy(checkpoints[-1]),
        "rows": rows,
    }
    if arguments.json:
        runs = json.loads(arguments.json.read_text())["runs"] if arguments.json.exists() else []
        same = [i for i, run in enumerate(runs) if all(run[name] == value for name, value in key.items())]
        at = same[0] if same else len(runs)
        runs[at : at + 1] = [report]
        arguments.json.write_text(json.dumps({"runs": runs}, indent=1) + "\n")
        plot(runs[0], arguments.json.with_suffix(".svg"))


def plot(run: dict[str, Any], path: Path) -> None:
    """Draw the bytes of each version with the default settings."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    names = {"apart": "streams of their own", "chain_keyframe_every_10": "chain, keyframe every 10", "chain": "chain"}
    for name, label in names.items():
        found = run["rows"][0][name]
        axes.plot(found["sizes"], marker=".", label=f"{label}: {found['bytes']:,} bytes")
    axes.set_yscale("log")
    axes.set_xlabel("checkpoint")
    axes.set_ylabel("bytes")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
