"""Second moments of the inputs of layers, from unlabelled data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from netpress.errors import RecipeError
from netpress.task import Task

__all__ = ["input_moments", "unfolded_inputs"]

_DAMPING = 0.01


def unfolded_inputs(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """Return what each row of a layer's weight is multiplied with: ``(groups, positions, columns)``.

    Args:
        layer: a linear layer, or a convolution of any dimensions, stride, padding, dilation and groups.
        x: its input, with the samples first.
    """
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, x.shape[-1])
    taps = layer.kernel_size
    if x.ndim == len(taps) + 1:
        x = x.unsqueeze(0)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = functional.pad(x, layer._reversed_padding_repeated_twice, mode=mode)
    for axis, (size, dilation, stride) in enumerate(zip(taps, layer.dilation, layer.stride, strict=True), start=2):
        x = x.unfold(axis, dilation * (size - 1) + 1, stride)[..., ::dilation]
    batch, channels = x.shape[:2]
    positions = x.shape[2 : 2 + len(taps)]
    x = x.reshape(batch, layer.groups, channels // layer.groups, positions.numel(), -1)
    return x.permute(1, 0, 3, 2, 4).reshape(layer.groups, batch * positions.numel(), -1)


def input_moments(module: nn.Module, layers: Mapping[str, nn.Module], task: Task) -> dict[str, torch.Tensor]:
    """Return the mean of ``x x'`` over the inputs x of each layer on the calibration data of a task.

    Returns:
        By path, float64 ``(groups, columns, columns)``, with 1 % of the mean diagonal added to the diagonal so that it
        is positive definite. Layers that the data did not reach are missing.

    Raises:
        RecipeError: the inputs of a layer are not finite.
    """
    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}

    def hook(path: str) -> Any:
        def collect(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            columns = unfolded_inputs(layer, inputs[0].detach())
            product = (columns.transpose(1, 2) @ columns).double()
            if not bool(torch.isfinite(product).all()):
                raise RecipeError("its inputs are not finite on the calibration data", layer=path)
            sums[path] = product if path not in sums else sums[path] + product
            counts[path] = counts.get(path, 0) + columns.shape[1]

        return collect

    handles = [layer.register_forward_pre_hook(hook(path)) for path, layer in layers.items()]
    try:
        with torch.inference_mode():
            _run_all(module, task, task.batches("calibration"))
    finally:
        for handle in handles:
            handle.remove()
    moments = {}
    for path, total in sums.items():
        mean = total.clone() / counts[path]
        diagonal = mean.diagonal(dim1=1, dim2=2)
        diagonal += _DAMPING * diagonal.mean(1, keepdim=True) + torch.finfo(torch.float32).tiny
        moments[path] = mean
    return moments


def _run_all(module: nn.Module, task: Task, batches: Iterable[Any]) -> None:
    for batch in batches:
        task.output(module, batch)
