"""The inputs of layers as rows of matrices: for each output, the numbers that its weights are multiplied with.

torch tensors in and out. Only a random share of the positions of a convolution is looked at, because neighbours are
alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["convolution_inputs", "linear_inputs", "transposed_convolution_inputs"]

Tensor = Any


def linear_inputs(x: Tensor, limit: int, generator: Any) -> Tensor:
    """Return the inputs of a product with a weight, shape (1, rows, inputs).

    Args:
        x: shape (..., inputs).
        limit: at most so many rows, chosen at random.
        generator: the random generator.
    """
    rows = x.reshape(-1, x.shape[-1])
    if len(rows) > limit:
        rows = rows[_choice(len(rows), limit, generator, x.device)]
    return rows[None]


def convolution_inputs(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    limit: int,
    generator: Any,
) -> Tensor:
    """Return the inputs of a convolution of any dimension, shape (groups, rows, channels / groups x kernel positions).

    Args:
        x: shape (samples, channels, size ...), or without samples.
        kernel, stride, padding, dilation: one number per dimension of the signal.
        groups: of channels.
        limit: at most so many rows, chosen at random.
        generator: the random generator.
    """
    import torch

    dimensions = len(kernel)
    if x.ndim == dimensions + 1:
        x = x[None]
    pads = [p for size in reversed(padding) for p in (size, size)]
    patches = torch.nn.functional.pad(x, pads) if any(pads) else x
    for d in range(dimensions):
        patches = patches.unfold(2 + d, (kernel[d] - 1) * dilation[d] + 1, stride[d])[..., :: dilation[d]]
    # Samples and positions in front, then channels and kernel positions.
    patches = patches.permute(0, *range(2, 2 + dimensions), 1, *range(2 + dimensions, 2 + 2 * dimensions))
    front = patches.shape[: 1 + dimensions]
    total = 1
    for size in front:
        total *= size
    chosen = torch.arange(total) if total <= limit else _choice(total, limit, generator, "cpu")
    rows = patches[tuple(index.to(x.device) for index in torch.unravel_index(chosen, front))]
    return rows.reshape(len(chosen), groups, -1).transpose(0, 1)


def transposed_convolution_inputs(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    output_padding: Sequence[int],
    groups: int,
    limit: int,
    generator: Any,
) -> Tensor:
    """Return the inputs of a transposed convolution, in the order of its weight; see :func:`convolution_inputs`.

    It is the convolution of the signal with zeros between its values by the mirrored kernel.
    """
    dimensions = len(kernel)
    if x.ndim == dimensions + 1:
        x = x[None]
    sizes = [(x.shape[2 + d] - 1) * stride[d] + 1 for d in range(dimensions)]
    reach = [(kernel[d] - 1) * dilation[d] for d in range(dimensions)]
    wide = x.new_zeros((*x.shape[:2], *(sizes[d] + 2 * reach[d] + output_padding[d] for d in range(dimensions))))
    both = (slice(None), slice(None))
    inside = (*both, *(slice(reach[d], reach[d] + sizes[d], stride[d]) for d in range(dimensions)))
    wide[inside] = x
    # The padding of a transposed convolution takes outputs away.
    kept = (*both, *(slice(padding[d], wide.shape[2 + d] - padding[d]) for d in range(dimensions)))
    wide = wide[kept]
    ones = [1] * dimensions
    rows = convolution_inputs(wide, kernel, ones, [0] * dimensions, dilation, groups, limit, generator)
    channels = x.shape[1] // groups
    mirrored = rows.reshape(groups, -1, channels, *kernel).flip(tuple(range(3, 3 + dimensions)))
    return mirrored.reshape(rows.shape)


def _choice(total: int, wanted: int, generator: Any, device: Any) -> Tensor:
    """Return distinct positions; for long signals, one from each of `wanted` runs, which needs no long list."""
    import torch

    offsets = torch.rand(wanted, generator=generator, dtype=torch.float64)
    starts = torch.arange(wanted, dtype=torch.float64)
    positions = ((starts + offsets) * (total / wanted)).long().clamp_(max=total - 1)
    return positions.to(device)
