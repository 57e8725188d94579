"""Updates of ResNet-20 that is fine-tuned on CIFAR-10: bytes and accuracy, netpress beside NNCodec.

    python benchmarks/fine_tuning.py --data CORPUS [--epochs 1] [--qps -24 -20 ...] [--json fine_tuning.json]

Each epoch over the 5000 training images gives an update, which is coded as the difference to what the receiver holds.
Three ways: ``netpress.encode(new, base=held)``; the same with the integers of ``netpress.quantize_model``, which looks
at 512 unlabelled training images; and NNCodec's difference coding with TCA, with its own settings and with coarser
steps for what is not a weight, which suits it better. TCA needs an update before, so it works from the second epoch on.

Each way is swept over several steps. Compared is the smallest size whose accuracy is within half a point of the float
network's after fine-tuning, and, where fine-tuning itself changes the accuracy little, the share of test images that
are right or wrong as with the float network after fine-tuning (``same``).

With ``--models FOLDER`` the checkpoints are kept there and used again.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import netpress
from netpress import evaluate
from places import CORPUS
from rivals import nncodec

Model = dict[str, np.ndarray[Any, Any]]
ALLOWED_LOSS = 0.5
VARIANCE_QP = -75  # a variance next to zero that becomes negative makes the network useless, in both codecs


def state_of(network: torch.nn.Module) -> Model:
    """Return a copy of all tensors of a network."""
    return {name: value.numpy().copy() for name, value in network.state_dict().items()}


def fine_tuned(task: netpress.Task, epochs: int, rate: float, folder: Path) -> list[Model]:
    """Return the network before training and after each epoch."""
    network = task.model()
    models = [state_of(network)]
    torch.manual_seed(0)
    optimiser = torch.optim.SGD(network.parameters(), rate, momentum=0.9, weight_decay=1e-4)
    for epoch in range(epochs):
        path = folder / f"epoch-{epoch + 1}.npz"
        if path.exists():
            models.append(dict(np.load(path)))
            network.load_state_dict({name: torch.from_numpy(value) for name, value in models[-1].items()})
            continue
        network.train()
        for inputs, labels in task.batches("train"):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(network(inputs), labels).backward()
            optimiser.step()
        models.append(state_of(network))
        np.savez(path, **models[-1])
    return models


def loaded(task: netpress.Task, model: Model) -> torch.nn.Module:
    """Return the network with the tensors of a model; those that it lacks stay."""
    network = task.model()
    network.load_state_dict({name: torch.from_numpy(np.array(v)) for name, v in model.items()}, strict=False)
    return network.eval()


def coarse(model: Model, qp: int) -> dict[str, Any]:
    """Return options with steps for biases and norms that go with those of weights: a quarter."""
    variances = {name: VARIANCE_QP for name in model if name.endswith("running_var")}
    return {"qp": qp, "nonweight_qp": qp - 8, "qp_per_tensor": variances}


def ours(models: list[Model], qp: int, calibrations: list[netpress.Calibration] | None) -> tuple[list[int], Model]:
    """Return the bytes of each update, and what the receiver holds in the end."""
    held, sizes = models[0], []
    for i, model in enumerate(models[1:]):
        given = None
        if calibrations is not None:
            given = netpress.quantize_model(model, calibrations[i], qp=qp, base=held, lambda_scale=1.0)
        data = netpress.encode(model, base=held, quantized=given, effort=9, **coarse(model, qp))
        held = netpress.decode(data, base=held)
        sizes.append(len(data))
    return sizes, held


def theirs(models: list[Model], qps: list[int]) -> dict[str, tuple[list[int], Model]]:
    """The same with NNCodec, by name of the setting."""
    settings = {}
    for qp in qps:
        settings[f"nncodec qp {qp}"] = {"qp": qp}
        settings[f"nncodec coarse qp {qp}"] = {**coarse(models[0], qp), "row_skipping": True}
    return nncodec.updates(models, settings)


def smallest(rows: list[dict[str, Any]], way: str, least: float) -> dict[str, Any] | None:
    """Return the smallest row of a way whose accuracy is at least ``least``."""
    good = [row for row in rows if row["way"] == way and row["accuracy"] >= least]
    return min(good, key=lambda row: row["bytes"][-1]) if good else None


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=CORPUS, help="folder laid out like the corpus")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.002)
    parser.add_argument("--qps", type=int, nargs="*", default=[-22, -21, -20, -19, -18, -17, -16])
    parser.add_argument("--models", type=Path, help="folder for checkpoints")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task = evaluate.load("cifar10-resnet20", data=arguments.data)
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.models or Path(name)
        models = fine_tuned(task, arguments.epochs, arguments.rate, folder)
    floats = 4 * sum(value.size for value in models[0].values() if value.dtype == np.float32)
    original, reference = (task.scores(loaded(task, model)) for model in (models[0], models[-1]))
    before, after = original.value, reference.value
    print(f"float network: {before:.2f} % before, {after:.2f} % after", flush=True)
    rows: list[dict[str, Any]] = []

    def note(way: str, qp: int, found: tuple[list[int], Model]) -> None:
        sizes, held = found
        scores = task.scores(loaded(task, held))
        same = 100 * float(np.mean(scores.samples == reference.samples))
        rows.append({"way": way, "qp": qp, "bytes": sizes, "accuracy": scores.value, "same_percent": same})
        share = 100 * sizes[-1] / floats
        print(
            f"{way} qp {qp}: {sizes} bytes, {share:.2f} %, accuracy {scores.value:.2f}, same {same:.2f} %", flush=True
        )

    start = time.perf_counter()
    calibrations = [netpress.calibrate(loaded(task, model), task.batches("calibration")) for model in models[1:]]
    print(f"calibrated in {time.perf_counter() - start:.0f} s", flush=True)
    for qp in arguments.qps:
        note("netpress", qp, ours(models, qp, None))
        note("netpress calibrated", qp, ours(models, qp, calibrations))
    if nncodec.available():
        for name, found in theirs(models, arguments.qps).items():
            way, qp = name.split(" qp ")
            note(way, int(qp), found)
    best = {way: smallest(rows, way, after - ALLOWED_LOSS) for way in sorted({row["way"] for row in rows})}
    for way, row in best.items():
        print(
            f"{way}: " + ("never within half a point" if row is None else f"{row['bytes'][-1]} bytes at qp {row['qp']}")
        )
    if arguments.json:
        about = {"netpress": netpress.__version__, "torch": torch.__version__, "python": platform.python_version()}
        report = {"about": about, "float_bytes": floats, "before": before, "after": after, "rows": rows, "best": best}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
        plot(report, arguments.json.with_suffix(".svg"))


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw bytes of the last update and accuracy."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")
    for way in sorted({row["way"] for row in report["rows"]}, reverse=True):
        rows = [row for row in report["rows"] if row["way"] == way]
        axes.plot([row["bytes"][-1] for row in rows], [row["accuracy"] for row in rows], marker=".", label=way)
    axes.axhline(report["after"], color="black", linewidth=0.8, label="float32, after")
    axes.axhline(report["before"], color="black", linewidth=0.8, linestyle=":", label="float32, before")
    axes.set_xscale("log")
    axes.set_xlabel("bytes of the update")
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
