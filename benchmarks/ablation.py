"""Calibrated quantisation with each of its ingredients left out: bytes at equal divergence.

    python benchmarks/ablation.py [--task NAME ...] [--data CORPUS] [--row PATTERN] [--out docs/results/ablation.json]

Measures as quality.py does, on the same samples: each row at qps that span the divergences of interest, every stream
decoded. The first row has everything; each other one lacks what its label says. Rows and tasks that are not measured
are kept from an earlier run.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import platform
from pathlib import Path
from typing import Any

import peer
import torch
from quality import TASKS, Bench, Row, decoded
from quality_tables import EVERYTHING, ablation_table
from torch import nn

import netpress

DEFAULT_TASKS = ("cifar10-resnet20", "kws-ds-cnn")
FINE_VECTORS = -75


def rows(module: nn.Module, calibration: netpress.Calibration, closed_form: netpress.Calibration) -> list[Row]:
    """Return the row with everything and those that lack something; ``closed_form``: without measured layers."""
    has_norms = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in module.modules())
    # Steps of what is no weight go by allocation="size", as compress has them.
    shared: dict[str, Any] = {"fold_batch_norm": has_norms, "allocation": "size"}

    def corrected(
        label: str, coder: dict[str, Any] | None = None, known: netpress.Calibration = calibration, **options: Any
    ) -> Row:
        def encode(qp: int, effort: int = 8) -> bytes:
            model = netpress.quantize_corrected(module, known, qp=qp, **options)
            rest = {"effort": effort, **shared, **(coder or {})}
            use_dq = options.get("use_dq", True)
            return netpress.encode(model.source, quantized=model.quantized, qp=qp, use_dq=use_dq, **rest)

        return Row("netpress", label, encode, decoded, lambda qp: decoded(encode(qp, 1)))

    def uncorrected(qp: int, effort: int = 8) -> bytes:
        quantized = netpress.quantize_model(module, calibration, qp=qp)
        return netpress.encode(module, quantized=quantized, qp=qp, effort=effort, **shared)

    def without_feedback(qp: int, effort: int = 8) -> bytes:
        qps = {name: tensor.qp for name, tensor in netpress.quantize_model(module, calibration, qp=qp).items()}
        return netpress.encode(module, qp=qp, qp_per_tensor=qps, effort=effort, **shared)

    return [
        corrected(EVERYTHING),
        Row("netpress", "no error feedback", without_feedback, decoded, lambda qp: decoded(without_feedback(qp, 5))),
        corrected("rows on their own", row_damping=None),
        Row("netpress", "no corrections", uncorrected, decoded, lambda qp: decoded(uncorrected(qp, 1))),
        corrected("no steps of rows", row_steps=False),
        corrected("sensitivities computed, not measured", known=closed_form),
        corrected("the same step for all layers", allocation=0.0),
        corrected("uniform quantisation", use_dq=False),
        corrected("no rate", lambda_scale=0.0),
        corrected("no folding, fine vectors", {"fold_batch_norm": False, "nonweight_qp": FINE_VECTORS}),
        corrected("no choice of smaller codes", {"row_skipping": False, "cabac_unary_length_minus1": 9}),
    ]


def main() -> None:
    """Measure the tasks that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=peer.SHARED / "corpus", help="folder laid out like the corpus")
    parser.add_argument("--task", action="append", choices=list(TASKS), help="only this task; can be repeated")
    parser.add_argument("--row", default="*", help="only rows whose label matches this pattern; others are kept")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 for its own choice")
    parser.add_argument("--out", type=Path, default=Path("docs/results/ablation.json"))
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    tasks = json.loads(arguments.out.read_text())["tasks"] if arguments.out.exists() else {}
    for name in arguments.task or DEFAULT_TASKS:
        bench = Bench(name, arguments.data, quick=False)
        task = bench.task
        calibration, closed_form = (
            netpress.calibrate(
                bench.module, task.batches("calibration"), forward=task.output, outputs=task.outputs, measure=measure
            )
            for measure in (True, False)
        )
        known = {row["label"]: row for row in tasks.get(name, {}).get("rows", ())}
        for row in rows(bench.module, calibration, closed_form):
            if fnmatch.fnmatch(row.label, arguments.row):
                known[row.label] = bench.row(row, bench.count(row))
        order = [row.label for row in rows(bench.module, calibration, closed_form)]
        tasks[name] = {
            "evaluation_samples": sum(len(output) for output in bench.judge.outputs),
            "calibration_samples": calibration.samples,
            "rows": [known[label] for label in order if label in known],
            "about": {
                "netpress": netpress.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }
        ordered = {task: tasks[task] for task in TASKS if task in tasks}
        arguments.out.write_text(json.dumps({"tasks": ordered}, indent=1) + "\n")
    print("\n".join(ablation_table(tasks)))


if __name__ == "__main__":
    main()
