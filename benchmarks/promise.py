"""How well a promise holds on samples that the search has not seen, and what it costs in bytes.

    python benchmarks/promise.py [--task NAME ...] [--data CORPUS] [--tables DIR] [--json docs/results/promise.json]

For each network, once: the streams that `netpress.compress` makes at all qps (calibrated, effort 8), each with its
bytes, the change of its outputs on the calibration inputs, and the score of every sample; `--tables` keeps that. Then
the search of `netpress.compress` itself runs on that table: a quarter of the samples, at random, is what `evaluate`
gives it; the others judge what it chose. Splits times promises of 0.5, 1 and 2 % of the float metric, confidence 0.8,
budget 12. Beside it, on the same splits, runs what `compress` did before: each trial judged by itself, the smallest
that is kept.

*Smallest* is the least of all streams of the table that keep the promise on all samples: a lucky draw among many qps,
which nobody can know who has a quarter of the samples. To tell what part of the bytes is that luck, a third rule knows
the curve through all streams on all samples, and takes the smallest where it is within the promise.

The settings of the method were chosen on the networks of DEVELOPMENT, which do not judge (`--development` runs them).
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import warnings
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import torch

import netpress
import runner
from netpress.compare import OutputChange, standard_error
from netpress.promise import Budget, Coder, Search
from netpress.promise.curve import DropCurve, expected_drop, sampling_variance
from pages.promise import summary_table
from places import RESULTS

DEVELOPMENT = ("cifar10-resnet20", "recsys-gmf", "charlm-decoder", "fsdd-cnn")
TASKS = (
    "pointcloud-pointnet",
    "pointcloud-autoencoder",
    "recsys-mlp",
    "charlm-lstm",
    "pensieve",
    "inr-siren-kodim15",
    "inr-siren-kodim23",
    "vgg-cifar10",
    "kws-ds-cnn",
    "vit-cifar10",
    "swin-cifar10",
)
PROMISES = (0.005, 0.01, 0.02)
SPLITS = 20
SEARCHED = 0.25
CONFIDENCE = 0.8
_START, _COARSEST, _FINEST, _FINE = -20, 8, -44, -28
# A table ends, to the coarse and to the fine side, where more and less than these shares of the metric are lost in
# three streams in a row.
_MUCH, _LITTLE = 0.08, 0.002


@dataclasses.dataclass
class Table:
    """All streams of one network: bytes, change of the outputs and scores of all samples, by qp."""

    task: netpress.Task
    baseline: netpress.Scores
    rows: dict[str, np.ndarray]

    def scores(self, place: int, samples: np.ndarray) -> netpress.Scores:
        """Return the scores of a stream on some samples; place -1 is the float network."""
        all_samples = self.baseline.samples if place < 0 else self.rows["samples"][place]
        return netpress.Scores(np.asarray(all_samples)[samples], self.baseline.aggregate)

    def drop(self, place: int, samples: np.ndarray) -> float:
        """Return how much worse a stream is than the float network on some samples."""
        sign = 1 if self.task.direction == "max" else -1
        return sign * (self.scores(-1, samples).value - self.scores(place, samples).value)


def table_of(name: str, data: Path, folder: Path | None) -> Table:
    """Return the table of a task, from the folder if it has it."""
    task = runner.load(name, data, None)
    module = task.model().eval()
    baseline = task.scores(module)
    path = None if folder is None else folder / f"{name}.npz"
    if path is not None and path.exists():
        with np.load(path) as content:
            return Table(task, baseline, dict(content))
    coder = Coder(module, task, netpress.EncodeConfig(effort=8), task.calibration_batches)
    found: dict[str, list[Any]] = {key: [] for key in ("qp", "bytes", "samples", "divergence", "error", "agreement")}
    lost: dict[int, float] = {}

    def add(qp: int) -> None:
        stream = coder.encode(qp)
        model = coder.decoded(stream)
        scores, change = task.scores(model), coder.change(model)
        assert change is not None
        agreement = math.nan if change.agreement is None else change.agreement
        values = (qp, len(stream), scores.samples, change.divergence, change.relative_error, agreement)
        for key, value in zip(found, values, strict=True):
            found[key].append(value)
        lost[qp] = abs(baseline.value - scores.value) / abs(baseline.value)
        print(f"{name} qp {qp}: {len(stream)} bytes, {task.metric} {scores.value:.5g}", flush=True)

    for qp in range(_START, _COARSEST + 1):
        add(qp)
        if qp >= _START + 2 and all(lost[q] > _MUCH for q in (qp, qp - 1, qp - 2)):
            break
    for qp in range(_START - 1, _FINEST - 1, -1):
        add(qp)
        if qp <= _FINE and all(lost[q] < _LITTLE for q in (qp, qp + 1, qp + 2)):
            break
    order = np.argsort(found["qp"])
    rows = {key: np.array(value)[order] for key, value in found.items()}
    if path is not None:
        np.savez(path, **rows)
    return Table(task, baseline, rows)


class TableStreams:
    """Takes the place of :class:`netpress.promise.Coder`: streams of a table, which are as long as the real ones.

    The "model" of a stream is its place in the table; that of the float network is -1.
    """

    model = -1
    config = netpress.EncodeConfig(effort=8)
    calibration = True
    float_bytes = 1

    def __init__(self, table: Table) -> None:
        self.table = table
        self.places = {int(qp): place for place, qp in enumerate(table.rows["qp"])}

    def encode(self, qp: int) -> bytes:
        """Return so many bytes, which start with the place in the table."""
        place = self.places[qp]
        return place.to_bytes(2, "big").ljust(int(self.table.rows["bytes"][place]), b"\0")

    def decoded(self, data: bytes) -> int:
        """Return the place of a stream."""
        return int.from_bytes(data[:2], "big")

    def change(self, model: int) -> OutputChange:
        """Return what the table says."""
        rows = self.table.rows
        return OutputChange(*(float(rows[key][model]) for key in ("divergence", "error", "agreement")))


def searched(table: Table, samples: np.ndarray, promise: float, seed: int) -> tuple[int, bool]:
    """Return the place of the stream that the search of ``compress`` chooses, and whether it says that it is kept."""
    streams = TableStreams(table)
    task = dataclasses.replace(table.task, evaluate=lambda place: table.scores(place, samples))
    search = Search(streams, task, Budget(12), max_drop=f"{100 * promise}%", confidence=CONFIDENCE)
    search.finest, search.coarsest = min(streams.places), max(streams.places)
    result = search.result()
    return streams.decoded(result.data), result.met


def each_by_itself(table: Table, samples: np.ndarray, promise: float, seed: int) -> tuple[int, bool]:
    """As :func:`searched`, as ``compress`` did it before: bisection, then the smallest trial that is kept by itself."""
    places = TableStreams(table).places
    baseline = table.scores(-1, samples)
    limit = promise * abs(baseline.value)
    kept: dict[int, bool] = {}

    def keeps(qp: int) -> bool:
        if qp not in kept:
            error = standard_error(table.scores(places[qp], samples), baseline)
            kept[qp] = table.drop(places[qp], samples) + NormalDist().inv_cdf(CONFIDENCE) * error <= limit
        return kept[qp]

    good, bad, qp, stride = None, None, -20, 4
    while len(kept) < 11:
        if keeps(qp):
            good = qp
        else:
            bad = qp
        if good is not None and bad is not None:
            break
        following = min(max(qp + (stride if keeps(qp) else -stride), min(places)), max(places))
        if following in kept:
            break
        qp, stride = following, stride * 2 if len(kept) > 2 else stride
    while good is not None and bad is not None and abs(good - bad) > 1 and len(kept) < 11:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if keeps(middle) else (good, middle)
    for offset in (2, 3):
        if good is not None and len(kept) < 11 and good + offset in places:
            keeps(good + offset)
    passing = [places[qp] for qp in kept if kept[qp]]
    if passing:
        return min(passing, key=lambda place: table.rows["bytes"][place]), True
    return min((places[qp] for qp in kept), key=lambda place: table.drop(place, samples)), False


def known_curve(table: Table, samples: np.ndarray, promise: float, seed: int) -> tuple[int, bool]:
    """As :func:`searched`, for one who knows the curve through all streams on all samples, without any margin."""
    places = range(len(table.rows["qp"]))
    everything = np.arange(len(table.baseline.samples))
    baseline, scores = table.scores(-1, everything), [table.scores(place, everything) for place in places]
    limit = promise * abs(baseline.value)
    change = np.maximum(table.rows["divergence"], 1e-300)
    drop = np.array([table.drop(place, everything) for place in places])
    variance = sampling_variance(change, baseline, scores)
    curve = DropCurve(change, drop, variance, limit, expected_drop(change, baseline, scores, table.task.direction))
    kept = np.maximum.accumulate(curve.predicted(change).quantile(0.0)) <= limit
    if not kept.any():
        return int(np.argmin(drop)), False
    return int(min(np.flatnonzero(kept), key=lambda place: table.rows["bytes"][place])), True


RULES = {"before": each_by_itself, "now": searched, "known": known_curve}


def runs_of(table: Table, rule: str, splits: int) -> list[runner.Found]:
    """Return what a rule chose on each split at each promise, and how that does on the other samples."""
    count = len(table.baseline.samples)
    everything = np.arange(count)
    drops = np.array([table.drop(place, everything) for place in range(len(table.rows["qp"]))])
    sizes = table.rows["bytes"]
    found = []
    for promise in PROMISES:
        limit = promise * abs(table.baseline.value)
        if not (drops <= limit).any():  # finer than any stream of the table
            continue
        smallest = int(sizes[drops <= limit].min())
        known = RULES[rule](table, everything, promise, 0) if rule == "known" else None
        for split in range(splits):
            order = np.random.default_rng(split).permutation(count)
            border = round(SEARCHED * count)
            place, met = known or RULES[rule](table, np.sort(order[:border]), promise, split)
            judging = np.sort(order[border:])
            found.append(
                {
                    "promise": promise,
                    "split": split,
                    "met": met,
                    "qp": int(table.rows["qp"][place]),
                    "bytes": int(sizes[place]),
                    "smallest": smallest,
                    # In units of the promise, of the float metric on the samples that judge.
                    "drop": table.drop(place, judging) / (promise * abs(table.scores(-1, judging).value)),
                    "drop_on_all": float(drops[place]) / limit,
                }
            )
    return found


def measure(name: str, arguments: argparse.Namespace) -> runner.Found:
    """Return everything about a task."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", netpress.NetpressWarning)
        table = table_of(name, arguments.data, arguments.tables)
    return {
        "metric": table.task.metric,
        "unit": table.task.unit,
        "baseline": table.baseline.value,
        "samples": len(table.baseline.samples),
        "runs": {rule: runs_of(table, rule, arguments.splits) for rule in RULES},
    }


def main() -> None:
    """Measure the tasks that are asked for."""
    parser = runner.parser(__doc__, (*TASKS, *DEVELOPMENT), RESULTS / "promise.json")
    parser.add_argument("--tables", type=Path, help="folder for the tables, which take most of the time")
    parser.add_argument("--splits", type=int, default=SPLITS, help="random splits of the samples")
    parser.add_argument("--development", action="store_true", help="the networks of development; nothing is written")
    arguments = parser.parse_args()
    if arguments.tables is not None:
        arguments.tables.mkdir(parents=True, exist_ok=True)
    tasks: tuple[str, ...] = TASKS
    if arguments.development:
        tasks, arguments.json = DEVELOPMENT, None
    torch.manual_seed(0)
    runner.run(arguments, tasks, lambda name, _: measure(name, arguments), table=summary_table)


if __name__ == "__main__":
    main()
