"""Steps without data: bytes at equal divergence of the outputs, against NNCodec's rows of docs/results/quality.json.

    python benchmarks/allocation.py [--task NAME ...] [--data CORPUS] [--json docs/results/allocation.json]

The same evaluation samples as those of quality.py. Each row has seven qps around a divergence of 0.03; a line is fitted
through the logarithms of bytes and divergences, because single points scatter by 3 % and more. NNCodec's are fitted
alike, and at each divergence from 0.01 to 0.1 its best row counts. Batch norms are folded; what is no weight has steps
3.5 octaves finer than the main one.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import peer
import quality
import torch
from torch import nn

import netpress

TASKS = ("cifar10-resnet20", "kws-ds-cnn", "charlm-lstm", "vit-cifar10")
DIVERGENCES = (0.01, 0.02, 0.03, 0.05, 0.1)
AROUND = (-4, -2, -1, 0, 1, 2, 3)
ROWS: dict[str, dict[str, Any]] = {
    "same step, lambda_scale 0.25": {"lambda_scale": 0.25},
    "same step": {},
    "steps by size": {"allocation": "size"},
}


def fitted(points: Sequence[tuple[int, float]]) -> Callable[[float], float]:
    """Return the line through bytes and divergences on logarithms: bytes at a divergence."""
    near = [(size, divergence) for size, divergence in points if 0.004 < divergence < 0.18]
    sizes, divergences = np.log(np.array(near)).T
    line = np.polyfit(divergences, sizes, 1)
    return lambda divergence: math.exp(np.polyval(line, math.log(divergence)))


def encode(module: nn.Module, qp: int, options: dict[str, Any]) -> bytes:
    """Return the stream of a network."""
    has_norms = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())
    vectors = max(qp - quality.NONWEIGHT_OFFSET, -75)
    return netpress.encode(
        module, qp=qp, effort=8, codebook_mode=0, nonweight_qp=vectors, fold_batch_norm=has_norms, **options
    )


def measure(name: str, data: Path, known: dict[str, Any]) -> dict[str, Any]:
    """Return the differences of all rows of one task."""
    judge = quality.Judge(name, data, quality.TASKS[name])
    scout = quality.Judge(name, data, 4 if name == "charlm-lstm" else quality.SCOUT_SAMPLES)
    others = [
        fitted([(p["bytes"], p["divergence"]) for p in row["points"]])
        for row in known["rows"]
        if row["codec"] == "NNCodec"
    ]
    rows = []
    for label, options in ROWS.items():

        def divergence(qp: int, options: dict[str, Any] = options) -> float:
            return scout.divergence(quality.decoded(encode(scout.module, qp, options))).value

        middle = quality.find_qp(divergence, 0.03, -24)
        points = []
        for qp in (middle + distance for distance in AROUND):
            stream = encode(judge.module, qp, options)
            points.append((len(stream), judge.divergence(quality.decoded(stream)).value))
        own = fitted(points)
        changes = [math.log(own(d) / min(other(d) for other in others)) for d in DIVERGENCES]
        rows.append({"label": label, "points": points, "difference": math.expm1(sum(changes) / len(changes))})
        print(f"{name}, {label}: {100 * rows[-1]['difference']:+.1f} %", flush=True)
    return {"rows": rows}


def main() -> None:
    """Measure the tasks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=peer.SHARED / "corpus", help="folder laid out like the corpus")
    parser.add_argument("--task", action="append", choices=TASKS, help="only this task; can be repeated")
    parser.add_argument("--quality", type=Path, default=Path("docs/results/quality.json"), help="of NNCodec's rows")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    known = json.loads(arguments.quality.read_text())["tasks"]
    tasks = {}
    for name in arguments.task or TASKS:
        tasks[name] = measure(name, arguments.data, known[name])
        if arguments.json:
            arguments.json.write_text(json.dumps({"tasks": tasks}, indent=1) + "\n")


if __name__ == "__main__":
    main()
