"""Calibrated quantisation with each of its ingredients left out: bytes at equal divergence.

    python benchmarks/ablation.py [--task NAME ...] [--data CORPUS] [--row PATTERN] [--json docs/results/ablation.json]

Measures as quality.py does, on the same samples: each row at qps that span the divergences of interest, every stream
decoded. The first row has everything; each other one lacks what its label says. Rows and tasks that are not measured
are kept from an earlier run.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import runner
from netpress.config import DEFAULT_NONWEIGHT_QP
from netpress.evaluate.netpress_tools import NetpressTools
from pages.quality import EVERYTHING, ablation_table
from places import RESULTS
from quality import EFFORT, TASKS, bench_of

DEFAULT_TASKS = ("cifar10-resnet20", "kws-ds-cnn")
COMPUTED = "sensitivities computed, not measured"
ROWS: dict[str, dict[str, Any]] = {
    EVERYTHING: {},
    "no error feedback": {"feedback": False},
    "rows on their own": {"row_damping": None},
    "no corrections": {"corrections": False},
    "no steps of rows": {"row_steps": False},
    COMPUTED: {},
    "the same step for all layers": {"allocation": 0.0},
    "uniform quantisation": {"use_dq": False},
    "no rate": {"lambda_scale": 0.0},
    "no folding, fine vectors": {"fold_batch_norm": False, "nonweight_qp": DEFAULT_NONWEIGHT_QP},
    "no choice of smaller codes": {"row_skipping": False, "unary_length": 10},
}


def measure(name: str, before: runner.Found, arguments: argparse.Namespace) -> runner.Found:
    """Return the rows of a task."""
    bench = bench_of(name, arguments.data)
    measured, computed = (runner.calibrate(bench.task, bench.module, measure=measure) for measure in (True, False))
    full, closed_form = (
        NetpressTools(bench.module, EFFORT, lambda known=known: known) for known in (measured, computed)
    )
    rows = []
    for label, off in ROWS.items():
        tool = (closed_form if label == COMPUTED else full).variant(label, calibrated=True, **off)
        rows.append((label, functools.partial(bench.curve, "netpress", tool, 5)))
    return {
        "evaluation_samples": bench.evaluation_samples,
        "calibration_samples": measured.samples,
        "rows": runner.merged(rows, arguments.row, before),
    }


def main() -> None:
    """Measure the tasks that are asked for."""
    parser = runner.parser(__doc__, TASKS, RESULTS / "ablation.json")
    parser.add_argument("--row", default="*", help="only rows whose label matches this pattern; others are kept")
    arguments = parser.parse_args()
    runner.run(
        arguments,
        list(TASKS),
        lambda name, before: measure(name, before, arguments),
        asked=DEFAULT_TASKS,
        table=ablation_table,
    )


if __name__ == "__main__":
    main()
