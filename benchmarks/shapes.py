"""Tensor shapes of well-known networks, for benchmarks on synthetic weights."""

from __future__ import annotations

__all__ = ["RESNET50_SHAPES", "RESNET56_SHAPES"]

Shapes = dict[str, tuple[int, ...]]


def _batch_norm(name: str, channels: int) -> Shapes:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def _bottleneck(name: str, inputs: int, width: int, outputs: int, *, projects: bool) -> Shapes:
    shapes: Shapes = {}
    for i, (rows, columns, kernel) in enumerate(((width, inputs, 1), (width, width, 3), (outputs, width, 1)), 1):
        shapes[f"{name}.conv{i}.weight"] = (rows, columns, kernel, kernel)
        shapes.update(_batch_norm(f"{name}.bn{i}", rows))
    if projects:
        shapes[f"{name}.downsample.0.weight"] = (outputs, inputs, 1, 1)
        shapes.update(_batch_norm(f"{name}.downsample.1", outputs))
    return shapes


def _resnet(stem: tuple[int, int], widths: tuple[int, ...], depths: tuple[int, ...], classes: int) -> Shapes:
    channels, kernel = stem
    shapes: Shapes = {"conv1.weight": (channels, 3, kernel, kernel), **_batch_norm("bn1", channels)}
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True), 1):
        for block in range(depth):
            shapes.update(_bottleneck(f"layer{stage}.{block}", channels, width, 4 * width, projects=block == 0))
            channels = 4 * width
    return {**shapes, "fc.weight": (classes, channels), "fc.bias": (classes,)}


RESNET50_SHAPES = _resnet((64, 7), (64, 128, 256, 512), (3, 4, 6, 3), 1000)
"""ResNet-50 for 1000 classes: 267 tensors, 25.6 million values."""

RESNET56_SHAPES = _resnet((16, 3), (16, 32, 64), (6, 6, 6), 100)
"""A bottleneck ResNet-56 for 100 classes: 292 tensors, 0.62 million values."""
