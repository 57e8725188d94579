"""The chain of the core experiments, redone: low rank, retraining, clusters, entropy coding.

For four models of the corpus, as in the responses to core experiments 1 to 3:

1. low rank at working points, with the metric before and after retraining;
2. clusters of 2 to 8 bits on the original and on a low-rank network: size as the experiment counted it (indexes of
   equal length, 4 bytes for each entry, 4 for each other value), and as coded;
3. the chain: what a static arithmetic coder with transmitted probabilities makes of the clusters, what NNCodec's
   codebook mode does, what netpress does with the same clusters, and what it does with all of its tools.

    python benchmarks/chain.py --data CORPUS [--model NAME ...] [--quick] [--out docs/results/chain.json]

Plots (metric against share of the float size) are written beside the JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file

import netpress
from netpress import Task, evaluate
from netpress.compare import has_batch_norms
from netpress.recipe import BatchNormFold, Cluster, LowRank, Quantize, Retrain, Stage
from netpress.recipe.candidate import Candidate
from netpress.recipe.cluster.lloyd import Clusters
from netpress.recipe.layers import coded_parameters
from places import CORPUS
from rivals import nncodec
from static_coder import coded_bytes

BITS = range(2, 9)
RATES = (4.0, 16.0, 48.0, 128.0)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is done with one model. Epochs are of retraining at each working point."""

    task: str
    working_points: tuple[float, ...]
    epochs: int
    learning_rate: tuple[float, float]
    batch_norm: str = "train"
    distillation: float | None = None
    limit: int | None = None
    nncodec_bits: int = 3
    qps: tuple[int, ...] = (-28, -24, -20, -16, -12, -9)


PLANS = {
    "resnet20": Plan("cifar10-resnet20", (0.6, 0.4, 0.25), 3, (2e-3, 5e-5), distillation=0.5),
    "ds-cnn": Plan("kws-ds-cnn", (0.6, 0.4, 0.25), 5, (1e-3, 2e-5), distillation=0.5),
    "autoencoder": Plan("image-autoencoder", (0.7, 0.5, 0.3), 2, (3e-4, 3e-5), qps=(-36, -32, -28, -24, -20, -16)),
    "mobilenetv1": Plan(
        "imagenet-mobilenetv1",
        (0.9, 0.8),
        3,
        (3e-5, 1e-6),  # with 256 images to train on, larger ones unlearn
        batch_norm="frozen",
        distillation=1.0,
        qps=(-38, -35, -32, -28, -24, -20),
        limit=272,
        nncodec_bits=2,
    ),
}


class Bench:
    """One model: its network, its task, and what has been found about it."""

    def __init__(self, name: str, data: Path, *, quick: bool, low_rank: bool) -> None:
        self.name, self.plan, self.quick = name, PLANS[name], quick
        if not low_rank:
            self.plan = dataclasses.replace(self.plan, working_points=())
        limit = 100 if quick else self.plan.limit
        self.task: Task = evaluate.load(self.plan.task, data=data, **({} if limit is None else {"limit": limit}))
        self.network = self.task.model() if self.task.model is not None else None
        self.float_bytes = 4 * sum(v.numel() for v in self.network.state_dict().values() if v.is_floating_point())
        self.start = time.perf_counter()

    def say(self, text: str) -> None:
        """Print a line with the time."""
        print(f"[{self.name} {time.perf_counter() - self.start:6.0f} s] {text}", flush=True)

    def low_rank(self, kept: float) -> tuple[dict[str, Any], Candidate]:
        """Decompose and retrain at one working point."""
        plan, task = self.plan, self.task
        candidate = Candidate.start(self.network, task, {})
        LowRank(kept=kept).run(candidate, None)
        parameters = candidate.parameter_count
        before = task.scores(candidate.module).value
        epochs = 1 if self.quick else plan.epochs
        Retrain(
            epochs=epochs, learning_rate=plan.learning_rate, batch_norm=plan.batch_norm, distillation=plan.distillation
        ).run(candidate, None)
        after = task.scores(candidate.module).value
        self.say(f"low rank {kept}: {parameters} parameters, {before:.4g} -> {after:.4g}")
        row = {
            "kept": 4 * parameters / self.float_bytes,
            "wanted": kept,
            "before": before,
            "after": after,
            "epochs": epochs,
        }
        return row, candidate

    def clusters(self, source: Candidate, bits: int) -> dict[str, Any]:
        """Cluster all weights of a network, and count and code the result in every way."""
        candidate = dataclasses.replace(source, module=_copy(source.module), quantized={}, norms=dict(source.norms))
        facts = Cluster(bits=bits).run(candidate, None)
        data = candidate.encode()
        metric = self.task.scores(candidate.restored(data)).value
        others = 4 * (candidate.parameter_count - sum(q.levels.size for q in candidate.quantized.values()))
        static = sum(coded_bytes(_clusters(q.levels)) for q in candidate.quantized.values()) + others
        row = {
            "bits": bits,
            "metric": metric,
            "fixed_length_bytes": facts["fixed_length_bytes"],
            "static_bytes": static,
            "coded_bytes": len(data),
            # NNCodec codes a tensor once for each entry of its codebook to find the best order.
            "nncodec_bytes": _nncodec_codebooks(candidate) if bits <= self.plan.nncodec_bits else None,
        }
        self.say(f"{bits} bits: {metric:.4g}, " + ", ".join(f"{k} {v}" for k, v in row.items() if k.endswith("bytes")))
        return row

    def all_tools(self, source: Candidate, qps: Sequence[int], stages: list[Stage]) -> list[dict[str, Any]]:
        """Code a network with all tools at several qps; one calibration serves them all."""
        calibration = Quantize().calibrate(source)
        return [self.ours(source, qp, stages, calibration) for qp in qps]

    def ours(
        self, source: Candidate, qp: int, stages: list[Stage], calibration: netpress.Calibration
    ) -> dict[str, Any]:
        """Code a network with all tools at one qp."""
        candidate = dataclasses.replace(
            source,
            module=_copy(source.module),
            quantized={},
            options={"qp": qp, "nonweight_qp": min(qp - 16, -34), "effort": 8},
        )
        for stage in stages:
            stage.run(candidate, None)
        Quantize(qp=qp, lambda_scale=0.25).apply(candidate, calibration)
        data = candidate.encode()
        metric = self.task.scores(candidate.restored(data)).value
        self.say(f"qp {qp}: {metric:.4g}, {len(data)} bytes")
        return {"qp": qp, "metric": metric, "bytes": len(data)}

    def by_rate(self, source: Candidate, rate: float) -> dict[str, Any]:
        """Cluster with an eye on the coded bits, and code."""
        candidate = dataclasses.replace(
            source, module=_copy(source.module), quantized={}, options={"nonweight_qp": -34, "effort": 8}
        )
        Cluster(bits=6, rate=rate).run(candidate, None)
        data = candidate.encode()
        metric = self.task.scores(candidate.restored(data)).value
        self.say(f"rate {rate}: {metric:.4g}, {len(data)} bytes")
        return {"rate": rate, "metric": metric, "bytes": len(data)}

    def run(self) -> dict[str, Any]:
        """Return everything about the model."""
        baseline = self.task.scores(self.network).value
        self.say(f"float: {baseline:.4g} {self.task.unit}, {self.float_bytes} bytes")
        points = self.plan.working_points[-2:-1] if self.quick else self.plan.working_points
        rows, candidates = [], []
        for kept in points:
            row, candidate = self.low_rank(kept)
            rows.append(row)
            candidates.append(candidate)
        original = Candidate.start(self.network, self.task, {})
        folding: list[Stage] = [BatchNormFold()] if has_batch_norms(self.network) else []
        bits = (3, 5) if self.quick else BITS
        qps = self.plan.qps[1:3] if self.quick else self.plan.qps
        rates = (8.0,) if self.quick else RATES
        # The low-rank network of the first working point, as in the experiment.
        return {
            "task": self.plan.task,
            "metric": self.task.metric,
            "unit": self.task.unit,
            "direction": self.task.direction,
            "baseline": baseline,
            "float_bytes": self.float_bytes,
            "limit": self.plan.limit,
            "low_rank": rows,
            "clusters": {
                name: [self.clusters(candidate, b) for b in bits]
                for name, candidate in zip(("original", "low rank"), [original, *candidates], strict=False)
            },
            "netpress": {
                "original": self.all_tools(original, qps, folding),
                "original, clusters by rate": [self.by_rate(original, rate) for rate in rates],
                **{
                    f"low rank {row['wanted']:g}, clusters by rate": [self.by_rate(c, r) for r in rates]
                    for row, c in list(zip(rows, candidates, strict=True))[:1]
                },
                **{
                    f"low rank {row['wanted']:g}": self.all_tools(c, qps, folding)
                    for row, c in zip(rows, candidates, strict=True)
                },
            },
            "seconds": time.perf_counter() - self.start,
        }


def _copy(module: torch.nn.Module) -> torch.nn.Module:
    import copy

    return copy.deepcopy(module)


def _clusters(levels: np.ndarray) -> Clusters:
    """The clusters that the integers of a tensor stand for, for the static coder."""
    values, indexes = np.unique(levels, return_inverse=True)
    return Clusters(values.astype(np.float32), indexes.reshape(levels.shape).astype(np.int32), 0.0)


def savings(result: dict[str, Any]) -> list[dict[str, Any]]:
    """For each clustered original as the experiment counts it: netpress's smallest stream of at least its metric."""
    sign = 1 if result["direction"] == "max" else -1
    ours = [row for rows in result["netpress"].values() for row in rows]
    ours += [{"metric": r["metric"], "bytes": r["coded_bytes"]} for rows in result["clusters"].values() for r in rows]
    table = []
    for row in result["clusters"]["original"]:
        enough = [o["bytes"] for o in ours if sign * o["metric"] >= sign * row["metric"]]
        best = min(enough, default=None)
        counted = row["fixed_length_bytes"]
        table.append(
            {
                "bits": row["bits"],
                "metric": row["metric"],
                "counted_bytes": counted,
                "netpress_bytes": best,
                "saving": None if best is None else 1 - best / counted,
            }
        )
    return table


def plot(result: dict[str, Any], path: Path) -> None:
    """Draw metric against size, as in the documents of the core experiments."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "netpress"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 4.5), constrained_layout=True)
    whole = result["float_bytes"] / 100

    def line(rows: list[dict[str, Any]], key: str, label: str, style: str) -> None:
        points = sorted((row[key] / whole, row["metric"]) for row in rows if row[key])
        axes.plot(*zip(*points, strict=True), style, label=label, markersize=4, linewidth=1.2)

    for source, mark in zip(result["clusters"], "os", strict=False):
        line(result["clusters"][source], "fixed_length_bytes", f"clusters, {source}: equal lengths", f"C7{mark}:")
        line(result["clusters"][source], "static_bytes", f"clusters, {source}: static coder", f"C1{mark}--")
        line(result["clusters"][source], "coded_bytes", f"clusters, {source}: netpress", f"C0{mark}--")
    for i, (source, rows) in enumerate(result["netpress"].items()):
        line(rows, "bytes", f"all tools, {source}", f"C{i + 2}.-")
    axes.axhline(result["baseline"], color="k", linewidth=0.6)
    low = min(row["metric"] for row in result["clusters"]["original"])
    span = abs(result["baseline"] - low) or 1
    axes.set_ylim(result["baseline"] - 0.5 * span, result["baseline"] + 0.08 * span)
    axes.set_xscale("log")
    for axis_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis_formatter("{x:g}")
    axes.set_xlabel("size, % of float32")
    axes.set_ylabel(f"{result['metric']} ({result['unit']})" if result["unit"] else result["metric"])
    axes.set_title(result["task"])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Run the plans that are asked for; models already in the output are replaced."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=CORPUS, help="folder laid out like the corpus")
    parser.add_argument("--model", action="append", choices=list(PLANS), help="only this model; can be repeated")
    parser.add_argument("--quick", action="store_true", help="one working point, one epoch, few samples")
    parser.add_argument("--no-low-rank", action="store_true", help="leave the decomposition out, which needs training")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 for its own choice")
    parser.add_argument("--out", type=Path, default=Path("docs/results/chain.json"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    models = json.loads(arguments.out.read_text())["models"] if arguments.out.exists() else {}
    for name in arguments.model or PLANS:
        result = Bench(name, arguments.data, quick=arguments.quick, low_rank=not arguments.no_low_rank).run()
        result["savings"] = savings(result)
        models[name] = result
        about = {
            "netpress": netpress.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "quick": arguments.quick,
            "threads": torch.get_num_threads(),
        }
        arguments.out.write_text(json.dumps({"about": about, "models": models}, indent=1) + "\n")
        plot(result, arguments.out.with_name(f"{arguments.out.stem}-{name}.svg"))
        for row in result["savings"]:
            print(row)


def _nncodec_codebooks(candidate: Candidate) -> int | None:
    """Bytes of NNCodec's codebook mode on the same values, at the finest step that its field can carry."""
    if not nncodec.available():
        return None
    state = {name: value.detach().numpy() for name, value in coded_parameters(candidate.module).items()}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "m.safetensors", Path(folder) / "m.nnc"
        save_file(
            {name.replace("_G", ".g").replace("_H", ".h"): np.ascontiguousarray(v) for name, v in state.items()}, source
        )
        return int(nncodec.encode(source, target, codebook_mode=2, use_dq=False)["bytes"])


if __name__ == "__main__":
    main()
