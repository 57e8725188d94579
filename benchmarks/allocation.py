"""Steps without data: bytes at equal divergence of the outputs, against NNCodec's rows of docs/results/quality.json.

    python benchmarks/allocation.py [--task NAME ...] [--data CORPUS] [--json docs/results/allocation.json]

The same evaluation samples as those of quality.py. Each row has seven qps around a divergence of 0.03; a line is fitted
through the logarithms of bytes and divergences, because single points scatter by 3 % and more. NNCodec's are fitted
alike, and at each divergence from 0.01 to 0.1 its best row counts. Batch norms are folded; all that is not a weight has
steps 3.5 octaves finer than the main one.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import netpress
import runner
from netpress.compare import has_batch_norms
from netpress.evaluate.tools import stream_tool
from netpress.quantize.steps import vector_qp
from pages.rate_distortion import allocation_table
from places import RESULTS
from quality import EFFORT, bench_of

TASKS = ("cifar10-resnet20", "kws-ds-cnn", "charlm-lstm", "vit-cifar10")
DIVERGENCES = (0.01, 0.02, 0.03, 0.05, 0.1)
MIDDLE = 0.03
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


def measure(name: str, known: runner.Found, data: Path) -> runner.Found:
    """Return the differences of all rows of one task from NNCodec's rows in ``known``."""
    bench = bench_of(name, data)
    has_norms = has_batch_norms(bench.module)
    rivals = [row for row in known["rows"] if row["codec"] == "NNCodec"]
    others = [fitted([(p["bytes"], p["divergence"]) for p in row["points"]]) for row in rivals]
    rows = []
    for label, options in ROWS.items():

        def encode(qp: int, options: dict[str, Any] = options) -> bytes:
            rest = {"nonweight_qp": vector_qp(qp), "fold_batch_norm": has_norms, "codebook_mode": 0}
            return netpress.encode(bench.module, qp=qp, effort=EFFORT, **rest, **options)

        tool = stream_tool(label, encode)
        middle = bench.at_divergence(tool, MIDDLE)
        found = [bench.point(tool, middle + distance) for distance in AROUND]
        points = [(p["bytes"], p["divergence"]) for p in found]
        own = fitted(points)
        changes = [math.log(own(d) / min(other(d) for other in others)) for d in DIVERGENCES]
        rows.append({"label": label, "points": points, "difference": math.expm1(sum(changes) / len(changes))})
        bench.say(f"{label}: {100 * rows[-1]['difference']:+.1f} %")
    return {"rows": rows}


def main() -> None:
    """Measure the tasks that are asked for."""
    parser = runner.parser(__doc__, TASKS, None)
    parser.add_argument("--quality", type=Path, default=RESULTS / "quality.json", help="of NNCodec's rows")
    parser.set_defaults(threads=1)
    arguments: argparse.Namespace = parser.parse_args()
    known = json.loads(arguments.quality.read_text(encoding="utf-8"))["tasks"]
    runner.run(arguments, TASKS, lambda name, _: measure(name, known[name], arguments.data), table=allocation_table)


if __name__ == "__main__":
    main()
