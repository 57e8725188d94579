"""Bytes against the divergence of the outputs: NNCodec, netpress without data, and calibrated quantisation.

    python benchmarks/quality.py [--task NAME ...] [--data CORPUS] [--quick] [--json docs/results/quality.json]

For each task, in one run: NNCodec's settings (dependent quantisation, with and without opt_qp; both with batch norms
folded to a factor and a bias, and multiplied into the weights) and netpress's rows, each at qps that span divergences
of about 0.006 to 0.12. Divergence is the mean Kullback-Leibler divergence, in nats, of the outputs from the float
network's, on evaluation samples; calibration sees others, without labels. Every stream is decoded for its measurement;
NNCodec decodes one of each codec to the same floats as netpress. Rows of other tasks in the output are kept.

Without an environment with NNCodec (see rivals/nncodec.py) there are no rows of NNCodec. Plots are written beside the
JSON.
"""

from __future__ import annotations

import argparse
import functools
import time
from pathlib import Path
from typing import Any

from torch import nn

import netpress
import runner
from netpress.compare import has_batch_norms
from netpress.evaluate.sampler import LOGITS_SPAN
from netpress.evaluate.tools import Tool, stream_tool
from netpress.evaluate.use_cases import tolerance
from netpress.quantize.steps import vector_qp
from pages.quality import EVERYTHING, TRELLIS, UNIFORM, summary_table, task_table
from places import RESULTS
from rivals import nncodec

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
QUICK_TASKS: dict[str, int | None] = {**dict.fromkeys(TASKS, 100), "charlm-lstm": 4}
# 0.5 % of the bits per character are lost at a divergence of about 0.006.
SPANS = {"charlm-lstm": (0.003, 0.12)}
CHECKED = ("dependent quantisation", TRELLIS, EVERYTHING)
EFFORT = 8


def bench_of(name: str, data: Path, *, quick: bool = False) -> runner.Bench:
    """Return the bench of a task, with the samples that all rows of its results have."""
    task = runner.load(name, data, (QUICK_TASKS if quick else TASKS)[name])
    return runner.Bench(task, SPANS.get(name, LOGITS_SPAN))


def netpress_tools(module: nn.Module, calibration: netpress.Calibration) -> list[Tool]:
    """Return netpress's rows, from no data to everything."""
    has_norms = has_batch_norms(module)

    def folding(qp: int) -> dict[str, Any]:
        return {"nonweight_qp": vector_qp(qp), "fold_batch_norm": has_norms}

    def data_free(label: str, allocation: str) -> Tool:
        return stream_tool(
            label, lambda qp: netpress.encode(module, qp=qp, effort=EFFORT, allocation=allocation, **folding(qp))
        )

    def calibrated(label: str, folded: bool, **options: Any) -> Tool:
        def encode(qp: int) -> bytes:
            quantized = netpress.quantize_model(module, calibration, qp=qp, **options)
            rest = folding(qp) if folded else {}
            use_dq = options.get("use_dq", True)
            return netpress.encode(module, quantized=quantized, qp=qp, use_dq=use_dq, effort=EFFORT, **rest)

        return stream_tool(label, encode)

    def everything(qp: int) -> bytes:
        return netpress.encode(module, calibration=calibration, qp=qp, effort=EFFORT, fold_batch_norm=has_norms)

    alone = {"row_damping": None}
    steps = {"sensitivity_exponent": 1.0, "lambda_scale": 0.35, **alone}
    same_steps = {"sensitivity_exponent": 0.0, "lambda_scale": 0.0, **alone}
    return [
        data_free("without data", "equal"),
        data_free("without data, steps by size", "size"),
        calibrated("uniform + feedback", False, use_dq=False, **same_steps),
        calibrated("trellis + feedback", False, **same_steps),
        calibrated("trellis + feedback, steps, rate", False, **steps),
        calibrated(UNIFORM, True, use_dq=False, **steps),
        calibrated(TRELLIS, True, **steps),
        stream_tool(EVERYTHING, everything),
    ]


def measure(name: str, before: runner.Found, arguments: argparse.Namespace) -> runner.Found:
    """Return everything about a task; rows whose labels are not asked for are those of an earlier run."""
    bench = bench_of(name, arguments.data, quick=arguments.quick)
    start = time.perf_counter()
    calibration = runner.calibrate(bench.task, bench.module)
    calibration_seconds = time.perf_counter() - start
    with nncodec.tools(bench.module) as rivals:
        tools = [("NNCodec", tool) for tool in rivals]
        tools += [("netpress", tool) for tool in netpress_tools(bench.module, calibration)]
        # NNCodec takes long, and where only its vectors are finer, fewer points are enough.
        counts = {tool.name: 3 if tool.name in nncodec.MINOR else 4 for tool in rivals}
        rows = [
            (
                tool.name,
                functools.partial(
                    bench.curve,
                    codec,
                    tool,
                    3 if arguments.quick else counts.get(tool.name, 5),
                    check=tool.name in CHECKED,
                ),
            )
            for codec, tool in tools
        ]
        found = {
            **bench.about(),
            "tolerance": tolerance(bench.task, bench.judge.float_metric),
            "evaluation_samples": bench.evaluation_samples,
            "calibration_samples": calibration.samples,
            "calibration_seconds": calibration_seconds,
            "rows": runner.merged(rows, arguments.row, before),
            "seconds": bench.seconds,
        }
    print("\n".join(task_table(found)), flush=True)
    if arguments.json is not None:
        plot(name, found, arguments.json.with_name(f"{arguments.json.stem}-{name}.svg"))
    return found


def plot(name: str, result: runner.Found, path: Path) -> None:
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
    parser = runner.parser(__doc__, TASKS, RESULTS / "quality.json")
    parser.add_argument("--row", default="*", help="only rows whose label matches this pattern; others are kept")
    parser.add_argument("--quick", action="store_true", help="few samples and qps")
    arguments = parser.parse_args()
    runner.run(arguments, list(TASKS), lambda name, before: measure(name, before, arguments), table=summary_table)


if __name__ == "__main__":
    main()
