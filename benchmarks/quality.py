"""Bytes against the divergence of the outputs: NNCodec, netpress without data, and calibrated quantisation.

    python benchmarks/quality.py [--task NAME ...] [--data CORPUS] [--quick] [--out docs/results/quality.json]

For each task, in one run: NNCodec's settings (dependent quantisation, with and without opt_qp; both with batch norms
folded to a factor and a bias, and multiplied into the weights) and netpress's rows, each at qps that span divergences
of about 0.006 to 0.12. Divergence is the mean Kullback-Leibler divergence, in nats, of the outputs from the float
network's, on evaluation samples; calibration sees others, without labels. Every stream is decoded for its measurement,
by netpress; NNCodec decodes one of each codec to the same floats. Rows of other tasks in the output are kept.

Without an environment with NNCodec (see peer.py) there are no rows of NNCodec. Plots are written beside the JSON.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import fnmatch
import itertools
import json
import math
import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peer
import torch
from quality_tables import EVERYTHING, TRELLIS, UNIFORM, summary_table, task_table
from safetensors.numpy import load_file, save_file
from torch import nn

import netpress
from netpress import Task, evaluate
from netpress.formats.pytorch import to_torch
from netpress.recipe.folded_state import folded_state

# Evaluation samples; None: all.
TASKS: dict[str, int | None] = {
    "cifar10-resnet20": 1000,
    "kws-ds-cnn": 1000,
    "charlm-lstm": None,
    "cifar10-resnet32": 1000,
    "vit-cifar10": 500,
    "imagenet-mobilenetv1": 200,
    "cifar10-resnet56": 1000,
}
SPAN = (0.006, 0.12)
# 0.5 % of the bits per character are lost at a divergence of about 0.006.
SPANS = {"charlm-lstm": (0.003, 0.12)}
SCOUT_SAMPLES = 100
FOLDED_NONWEIGHT_QP = -50
# Vectors are coded this much finer than weights, as netpress.compress does it.
NONWEIGHT_OFFSET = 14
CHECKED = ("dependent quantisation", TRELLIS, EVERYTHING)

State = Mapping[str, Any]


class Recorded(nn.Module):
    """Gives the outputs that a network had on batches, in their order, over and over."""

    def __init__(self, outputs: Sequence[torch.Tensor]) -> None:
        super().__init__()
        self.outputs = itertools.cycle(outputs)

    def forward(self, _: Any) -> torch.Tensor:
        """Return the outputs of the next batch."""
        return next(self.outputs)


class Recorder(nn.Module):
    """Runs a network and keeps its outputs."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.outputs: list[torch.Tensor] = []

    def forward(self, x: Any) -> torch.Tensor:
        """Return the output of the network."""
        self.outputs.append(self.module(x))
        return self.outputs[-1]


class Judge:
    """The evaluation samples of a task, and the float network's outputs on them."""

    def __init__(self, name: str, data: Path, limit: int | None) -> None:
        self.task: Task = evaluate.load(name, data=data, **({} if limit is None else {"limit": limit}))
        self.module: nn.Module = self.task.model()  # type: ignore[misc]
        with torch.inference_mode():
            self.outputs = [self.task.output(self.module, batch) for batch in self.task.batches("evaluation")]

    def network(self, state: State) -> nn.Module:
        """Return the network with the weights of a state; counters that it lacks are kept."""
        module = copy.deepcopy(self.module)
        found = module.load_state_dict(
            {
                name: to_torch(np.ascontiguousarray(value)).reshape(module.state_dict()[name].shape)
                for name, value in state.items()
            },
            strict=False,
        )
        assert all(name.endswith("num_batches_tracked") for name in found.missing_keys), found.missing_keys
        return module.eval()

    def divergence(self, state: State) -> netpress.Scores:
        """Return the divergence of each sample."""
        return evaluate.divergence(self.task, Recorded(self.outputs), self.network(state))

    def measure(self, state: State) -> tuple[netpress.Scores, float]:
        """Return the divergence of each sample and the task's metric, from one run over the samples."""
        recorder = Recorder(self.network(state))
        metric = self.task.scores(recorder).value
        # All tasks here evaluate the same batches as those whose outputs are compared.
        assert [len(output) for output in recorder.outputs] == [len(output) for output in self.outputs]
        return evaluate.divergence(self.task, Recorded(self.outputs), Recorded(recorder.outputs)), metric


@dataclasses.dataclass
class Row:
    """One encoder: makes a stream at a qp, decodes it to a state of the network, and a fast stand-in for both."""

    codec: str
    label: str
    encode: Callable[[int], bytes]
    decode: Callable[[bytes], State]
    scout: Callable[[int], State]
    is_minor: bool = False
    """Fewer points are enough: another row has nearly the same floats in fewer bytes."""


def decoded(data: bytes) -> State:
    """Return the state of a stream of netpress's."""
    return netpress.decode(data, reconstruct=True)


class NNCodecRows:
    """NNCodec's settings for one network."""

    def __init__(self, module: nn.Module) -> None:
        self.state = {name: value.numpy() for name, value in module.state_dict().items()}
        self.multiplied = folded_state(module, multiply=True)
        self.factors = folded_state(module, multiply=False)

    def rows(self) -> list[Row]:
        """Return the rows."""
        kinds: list[tuple[str, State, State, int | None]] = [("", self.state, {}, None)]
        if self.multiplied[1]:
            kinds.append((", batch norms as factor and bias", *self.factors, FOLDED_NONWEIGHT_QP))
            kinds.append((", batch norms multiplied in", *self.multiplied, FOLDED_NONWEIGHT_QP))
        else:
            kinds.append((f", vectors at {FOLDED_NONWEIGHT_QP}", self.state, {}, FOLDED_NONWEIGHT_QP))
        return [self._row(*kind, optimised) for kind in kinds for optimised in (False, True)]

    @staticmethod
    def _row(suffix: str, state: State, rest: State, nonweight: int | None, optimised: bool) -> Row:
        flags = [] if nonweight is None else ["--nonweight-qp", str(nonweight)]
        flags += ["--opt-qp"] if optimised else []

        def encode(qp: int) -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                source, target = Path(folder, "model.safetensors"), Path(folder, "model.nnc")
                save_file({name: np.ascontiguousarray(value) for name, value in state.items()}, source)
                peer.run("encode", source, target, "--qp", str(qp), *flags)
                return target.read_bytes()

        def complete(decoded_state: State) -> State:
            return {**decoded_state, **rest}

        def scout(qp: int) -> State:
            # The reference preset gives NNCodec's floats.
            config = netpress.EncodeConfig.reference(
                qp=qp, nonweight_qp=-75 if nonweight is None else nonweight, optimize_qp=optimised, param_opt=False
            )
            return complete(netpress.decode(netpress.encode(dict(state), config)))

        label = "dependent quantisation" + (", opt_qp" if optimised else "") + suffix
        return Row("NNCodec", label, encode, lambda data: complete(netpress.decode(data)), scout, not suffix)


def netpress_rows(module: nn.Module, calibration: netpress.Calibration) -> list[Row]:
    """Return netpress's rows, from no data to everything."""
    has_norms = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())

    def vectors(qp: int) -> dict[str, Any]:
        return {"nonweight_qp": max(qp - NONWEIGHT_OFFSET, -75), "fold_batch_norm": has_norms}

    def data_free(label: str, folded: bool, allocation: str = "equal") -> Row:
        def encode(qp: int, effort: int = 8) -> bytes:
            rest = vectors(qp) if folded else {}
            return netpress.encode(module, qp=qp, effort=effort, allocation=allocation, **rest)

        return Row("netpress", label, encode, decoded, lambda qp: decoded(encode(qp, 5)))

    def calibrated(label: str, folded: bool, **options: Any) -> Row:
        def encode(qp: int, effort: int = 8) -> bytes:
            quantized = netpress.quantize_model(module, calibration, qp=qp, **options)
            rest = vectors(qp) if folded else {}
            use_dq = options.get("use_dq", True)
            return netpress.encode(module, quantized=quantized, qp=qp, use_dq=use_dq, effort=effort, **rest)

        return Row("netpress", label, encode, decoded, lambda qp: decoded(encode(qp, 1)))

    def everything(qp: int, effort: int = 8) -> bytes:
        return netpress.encode(module, calibration=calibration, qp=qp, effort=effort, fold_batch_norm=has_norms)

    alone = {"row_damping": None}
    steps = {"allocation": 1.0, "lambda_scale": 0.35, **alone}
    same_steps = {"allocation": 0.0, "lambda_scale": 0.0, **alone}
    return [
        data_free("without data", True),
        data_free("without data, steps by size", True, "size"),
        calibrated("uniform + feedback", False, use_dq=False, **same_steps),
        calibrated("trellis + feedback", False, **same_steps),
        calibrated("trellis + feedback, steps, rate", False, **steps),
        calibrated(UNIFORM, True, use_dq=False, **steps),
        calibrated(TRELLIS, True, **steps),
        Row("netpress", EVERYTHING, everything, decoded, lambda qp: decoded(everything(qp, 5))),
    ]


def find_qp(divergence: Callable[[int], float], target: float, start: int) -> int:
    """Return a qp with about the divergence, which doubles every two qps of density 2 or so."""
    qp, seen = start, {start}
    while True:
        found = divergence(qp)
        distance = round(2 * math.log2(target / max(found, 1e-9)))
        qp = min(max(qp + min(max(distance, -12), 12), -60), 16)
        if qp in seen:
            return qp
        seen.add(qp)


def choose_qps(row: Row, judge: Judge, count: int) -> list[int]:
    """Return qps that span the divergences of interest."""
    known: dict[int, float] = {}

    def divergence(qp: int) -> float:
        if qp not in known:
            known[qp] = judge.divergence(row.scout(qp)).value
        return known[qp]

    low, high = SPANS.get(judge.task.name, SPAN)
    coarse = find_qp(divergence, high, -18 if row.codec == "netpress" else -24)
    fine = find_qp(divergence, low, coarse - 7)
    return sorted({round(qp) for qp in np.linspace(min(fine, coarse - 3), coarse, count)})


def same_floats(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether both decoders gave the same values; codebooks come from NNCodec in double precision."""
    return set(ours) == set(theirs) and all(
        theirs[name].astype(value.dtype).tobytes() == value.tobytes() for name, value in ours.items()
    )


def decoded_alike(data: bytes) -> bool:
    """Whether NNCodec and netpress decode a stream to the same coded tensors."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "stream.nnc"), Path(folder, "decoded.safetensors")
        source.write_bytes(data)
        peer.run("decode", source, target)
        return same_floats(netpress.Decoder().decode(data), load_file(target))


class Bench:
    """One task."""

    def __init__(self, name: str, data: Path, *, quick: bool) -> None:
        self.name, self.quick = name, quick
        self.start = time.perf_counter()
        limit = TASKS[name]
        scouted = 4 if name == "charlm-lstm" else SCOUT_SAMPLES
        self.judge = Judge(name, data, scouted if quick else limit)
        self.scout = Judge(name, data, scouted)
        self.task, self.module = self.judge.task, self.judge.module

    def say(self, text: str) -> None:
        """Print a line with the time."""
        print(f"[{self.name} {time.perf_counter() - self.start:6.0f} s] {text}", flush=True)

    def point(self, row: Row, qp: int) -> tuple[dict[str, Any], bytes]:
        """Encode, decode and measure at one qp."""
        start = time.perf_counter()
        data = row.encode(qp)
        seconds = time.perf_counter() - start
        state = row.decode(data)
        scores, metric = self.judge.measure(state)
        error = float(scores.samples.std(ddof=1) / math.sqrt(len(scores.samples)))
        found = {"qp": qp, "bytes": len(data), "divergence": scores.value, "standard_error": error}
        return {**found, "metric": metric, "seconds": seconds}, data

    def row(self, row: Row, count: int) -> dict[str, Any]:
        """Measure one encoder at its qps."""
        qps = choose_qps(row, self.scout, count)
        points, streams = zip(*(self.point(row, qp) for qp in qps), strict=True)
        measured: dict[str, Any] = {"codec": row.codec, "label": row.label, "points": list(points)}
        if peer.available() and row.label in CHECKED:
            measured["decoded_alike"] = decoded_alike(streams[len(streams) // 2])
        text = "  ".join(f"{p['qp']}: {p['bytes']} {p['divergence']:.4f} {p['metric']:.2f}" for p in points)
        self.say(f"{row.codec}, {row.label} | {text}")
        return measured

    def count(self, row: Row) -> int:
        """Return how many points a row gets; NNCodec takes seconds to start."""
        if self.quick or row.is_minor:
            return 3
        return 4 if row.codec == "NNCodec" else 5

    def measured(self, row: Row, pattern: str, before: dict[str, Any]) -> dict[str, Any] | None:
        """Return a row, measured now if its label matches, else before; None if it was not."""
        if fnmatch.fnmatch(row.label, pattern):
            return self.row(row, self.count(row))
        known = {(old["codec"], old["label"]): old for old in before.get("rows", ())}
        return known.get((row.codec, row.label))

    def run(self, pattern: str, before: dict[str, Any]) -> dict[str, Any]:
        """Return everything about the task; rows whose labels do not match are those of an earlier run."""
        baseline = self.task.scores(self.module).value
        self.say(f"float: {baseline:.4g} {self.task.unit}")
        start = time.perf_counter()
        calibration = netpress.calibrate(
            self.module, self.task.batches("calibration"), forward=self.task.output, outputs=self.task.outputs
        )
        seconds = time.perf_counter() - start
        rows = NNCodecRows(self.module).rows() if peer.available() else []
        rows += netpress_rows(self.module, calibration)
        state = self.module.state_dict().values()
        samples = sum(len(output) for output in self.judge.outputs)
        return {
            "metric": self.task.metric,
            "unit": self.task.unit,
            "direction": self.task.direction,
            "baseline": baseline,
            "tolerance": 0.5 if self.task.unit == "%" else 0.005 * abs(baseline),
            "float_bytes": 4 * sum(value.numel() for value in state if value.is_floating_point()),
            "evaluation_samples": samples,
            "calibration_samples": calibration.samples,
            "calibration_seconds": seconds,
            "rows": [found for row in rows if (found := self.measured(row, pattern, before)) is not None],
            "seconds": time.perf_counter() - self.start,
        }


def plot(name: str, result: dict[str, Any], path: Path) -> None:
    """Draw divergence against bytes on logarithmic axes."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "netpress"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), constrained_layout=True)
    for row in result["rows"]:
        points = sorted((p["bytes"] / 1000, p["divergence"]) for p in row["points"])
        style = "--" if row["codec"] == "NNCodec" else "-"
        axes.plot(*zip(*points, strict=True), f"o{style}", markersize=3, label=f"{row['codec']}: {row['label']}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("kilobytes")
    axes.set_ylabel("divergence of the outputs, nats")
    axes.set_title(name)
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=6)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Measure the tasks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=peer.SHARED / "corpus", help="folder laid out like the corpus")
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only this task; can be repeated")
    parser.add_argument("--row", default="*", help="only rows whose label matches this pattern; others are kept")
    parser.add_argument("--quick", action="store_true", help="few samples and qps")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 for its own choice")
    parser.add_argument("--out", type=Path, default=Path("docs/results/quality.json"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    tasks = json.loads(arguments.out.read_text())["tasks"] if arguments.out.exists() else {}
    for name in arguments.task or TASKS:
        tasks[name] = {
            **Bench(name, arguments.data, quick=arguments.quick).run(arguments.row, tasks.get(name, {})),
            "about": {
                "netpress": netpress.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
                "machine": platform.machine(),
                "quick": arguments.quick,
                "threads": torch.get_num_threads(),
            },
        }
        ordered = {task: tasks[task] for task in TASKS if task in tasks}
        arguments.out.write_text(json.dumps({"tasks": ordered}, indent=1) + "\n")
        plot(name, tasks[name], arguments.out.with_name(f"{arguments.out.stem}-{name}.svg"))
        print("\n".join(task_table(tasks[name])), flush=True)
    print("\n".join(summary_table({name: tasks[name] for name in arguments.task or TASKS})))


if __name__ == "__main__":
    main()
