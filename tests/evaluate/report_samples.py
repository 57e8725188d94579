"""Results as a sweep gives them, made by formulas: for tests of what shows them."""

from __future__ import annotations

import math
import random

from netpress.evaluate.results import Measurement, TaskResults, TaskSummary, TensorDetail

HOSTILE = "<script>alert('x')</script> $x_1$ | 名前\n\x00\ud800 \"&amp;"
"""A name that a page must not take for anything else than text."""


def summary(name: str = "cifar10-resnet20", **changes: object) -> TaskSummary:
    """A classifier."""
    values: dict[str, object] = {
        "name": name,
        "description": {
            "environment": "Python 3.12, PyTorch 2.13, Linux on x86_64",
            "use case": "image classification",
            "network": "residual network of 20 layers",
            "layers": "22 Conv2d, 21 BatchNorm2d, 1 Linear; 272,474 parameters",
            "data": "CIFAR-10: 2000 test images",
            "source": "made by formulas",
            "licence": "free to use",
        },
        "metric": "top-1 accuracy",
        "unit": "%",
        "direction": "max",
        "samples": 2000,
        "float_metric": 81.4,
        "float_interval": (79.7, 83.1),
        "original_bytes": 1_089_896,
        "parameters": 272_474,
        "tolerance": 0.5,
        "reported_rate": "3-12 %",
        "reported_range": (0.03, 0.12),
        "use_case": "classification, convolutions",
        "reported_model": "VGG16, ResNet-50, MobileNet v2",
    }
    return TaskSummary(**{**values, **changes})  # type: ignore[arg-type]


def measurement(task: TaskSummary, tool: str, qp: int, bits: float, loss: float, group: str = "sweep") -> Measurement:
    """A tool at a setting that leaves so many bits for each parameter, and loses that much."""
    sign = 1 if task.direction == "max" else -1
    metric, size = task.float_metric - sign * loss, int(task.parameters * bits / 8)
    spread = 0.1 * task.tolerance + 0.35 * abs(loss)
    return Measurement(
        group=group,
        tool=tool,
        setting=f"qp {qp}",
        options={"qp": qp},
        size=size,
        metric=metric,
        metric_interval=(metric - 3 * spread, metric + 3 * spread),
        loss=loss,
        loss_interval=(loss - spread, loss + spread),
        divergence=0.05 * (loss / task.tolerance if task.tolerance else 1),
        encode_seconds=0.31,
        decode_seconds=0.02,
        memory=task.original_bytes,
    )


def sweep(task: TaskSummary) -> list[Measurement]:
    """Five tools at eight settings each, and the transparent point of each."""
    found = []
    factors = {
        "netpress": 1.0,
        "netpress, calibrated": 0.83,
        "NNCodec DQ + opt_qp": 1.21,
        "NNCodec DQ + opt_qp, batch norm folded": 1.14,
        "int8 per channel, zstd": 2.4,
    }
    for tool, factor in factors.items():
        for step in range(1 if tool.startswith("int8") else 8):
            qp, bits = -36 + 3 * step, 5.2 * factor * 0.77**step
            loss = task.tolerance * 0.12 * 1.9**step * (1 + 0.15 * math.sin(3 * step + factor))
            found.append(measurement(task, tool, qp, bits, loss))
        bits = 5.2 * factor * (0.77**3.1 if not tool.startswith("int8") else 1)
        found.append(measurement(task, tool, -27, bits, task.tolerance * 0.93, "transparent"))
    return found


def ablation(task: TaskSummary) -> list[Measurement]:
    """Netpress with one part off at a time."""
    bits = {"all tools": 1.9, "no trellis": 2.09, "no rate term": 1.98, "no batch-norm folding": 1.93}
    return [
        Measurement(group="ablation", tool=name, setting="qp -27", size=int(task.parameters * value / 8),
                    divergence=0.031 + 0.001 * place)
        for place, (name, value) in enumerate(bits.items())
    ]  # fmt: skip


def coders(task: TaskSummary) -> list[Measurement]:
    """General coders on the same integers."""
    sizes = {"netpress": 1.9, "entropy": 2.11, "huffman": 2.35, "bzip2": 2.42, "xz": 2.37, "zstd": 2.52}
    return [
        Measurement(group="coder", tool=name, setting="best", size=int(task.parameters * bits / 8))
        for name, bits in sizes.items()
    ]


def details(count: int, hostile: bool = False) -> list[TensorDetail]:
    """Tensors with histograms of a bell curve, and of what rounding makes of it."""
    draw = random.Random(0)
    found = []
    for place in range(count):
        width, bins = 0.02 + 0.01 * (place % 5), 61
        edges = tuple(width * 8 * (i / bins - 0.5) for i in range(bins + 1))
        before = tuple(int(4000 * math.exp(-0.5 * ((i - 30) / 7.5) ** 2) * draw.uniform(0.9, 1.1)) for i in range(bins))
        after = [0] * bins
        for i, height in enumerate(before):
            after[30 + 6 * round((i - 30) / 6)] += height
        name = HOSTILE if hostile and place == 0 else f"stages.{place // 8}.blocks.{place % 8}.conv.weight"
        shape = (16 * (1 + place // 8), 16, 3, 3)
        size = int(math.prod(shape) * (1.2 + 0.1 * (place % 4)) / 8) + 9
        found.append(TensorDetail(name=name, shape=shape, size=size, edges=edges, before=before, after=tuple(after)))
    return found


def complete(
    name: str = "cifar10-resnet20", hostile: bool = False, tensors: int = 24, **changes: object
) -> TaskResults:
    """A task with everything."""
    task = summary(name, **changes)
    failed = Measurement(group="sweep", tool="NNCodec DQ", setting="qp -20", error="the peer ended with signal 11")
    return TaskResults(
        summary=task,
        measurements=(*sweep(task), *ablation(task), *coders(task), failed),
        details=tuple(details(tensors, hostile=hostile)),
        environment={"netpress": "0.1.0", "machine": "2 cores, x86_64", "date": "2026-11-22"},
    )


def failed(name: str = "nerf-lego", reason: str = "no lego.safetensors in data/nerf-lowres") -> TaskResults:
    """A task that could not run."""
    nothing = float("nan")
    task = summary(
        name, description={}, metric="", unit="", samples=0, float_metric=nothing,
        float_interval=(nothing, nothing), original_bytes=0, parameters=0, tolerance=0.0, reported_rate="",
        reported_model="", reported_range=None, use_case="",
    )  # fmt: skip
    return TaskResults(summary=task, error=reason)


def sparse(name: str = "only-a-sweep") -> TaskResults:
    """A task with one tool and no details."""
    nothing = {"reported_rate": "", "reported_range": None, "reported_model": "", "use_case": ""}
    task = summary(name, **nothing, description={"use case": "a test"})
    return TaskResults(summary=task, measurements=tuple(m for m in sweep(task) if m.tool == "netpress"))


def book() -> list[TaskResults]:
    """Tasks of all kinds."""
    language = {
        "metric": "bits per character", "unit": "bit", "direction": "min", "float_metric": 1.9451,
        "float_interval": (1.93, 1.96), "tolerance": 0.01, "samples": 120, "reported_rate": "",
        "reported_range": None, "use_case": "language model",
        "original_bytes": 3_500_000, "parameters": 875_000,
    }  # fmt: skip
    pictures = {
        "metric": "PSNR", "unit": "dB", "float_metric": 28.784, "float_interval": (28.2, 29.3), "tolerance": 0.1,
        "samples": 68, "reported_rate": "18 %", "reported_range": (0.18, 0.18), "reported_model": "NAFNet",
        "use_case": "image restoration", "original_bytes": 2_230_000, "parameters": 557_000,
    }  # fmt: skip
    return [
        complete(),
        complete("charlm-lstm", tensors=1, **language),
        complete("denoise-dncnn", tensors=0, **pictures),
        failed(),
        sparse(),
        complete(HOSTILE, hostile=True, tensors=2),
    ]
