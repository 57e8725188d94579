"""Layers that recipes put in the place of others, and how their parameters are called in a stream.

A decomposed layer holds ``weight_G`` and ``weight_H`` (and runs as two layers), a Tucker layer ``weight_left``,
``weight_core`` and ``weight_right`` (three layers); local scaling is a parametrisation of ``weight`` with the parameter
``weight_scaling``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

__all__ = [
    "CONVOLUTIONS",
    "TRANSPOSED_CONVOLUTIONS",
    "FactorizedConv",
    "FactorizedConvTranspose",
    "FactorizedLinear",
    "RowScaling",
    "TuckerConv",
    "coded_parameters",
    "has_scaling",
    "replace_layer",
    "scaled_layers",
    "scaling_of",
]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED_CONVOLUTIONS = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FUNCTIONS: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}

_TRANSPOSED_FUNCTIONS: dict[int, Any] = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


class FactorizedLinear(nn.Module):
    """A linear layer whose weight is ``G H``: two layers, of ``rank`` units between them.

    ``weight_G`` is ``(out, rank)``, ``weight_H`` ``(rank, in)``, ``bias`` ``(out,)`` or None.
    """

    def __init__(self, g: torch.Tensor, h: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.weight_G = nn.Parameter(g)
        self.weight_H = nn.Parameter(h)
        self.bias = None if bias is None else nn.Parameter(bias)

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Shape of the weight that the factors stand for, as it is coded."""
        return len(self.weight_G), self.weight_H.shape[1]

    axes: tuple[int, ...] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply both layers."""
        return functional.linear(functional.linear(x, self.weight_H), self.weight_G, self.bias)


class FactorizedConv(nn.Module):
    """A convolution whose unfolded weight is ``G H``.

    ``weight_G`` is ``(out, rank)`` and ``weight_H`` ``(rank, in / groups * taps)`` for the unfolding ``"rows"``: a
    convolution with ``rank`` channels and one of size 1 (a grouped one is recomposed instead). For ``"columns"``, 2-d
    and without groups, they are ``(out * height, rank)`` and ``(rank, in * width)``: a convolution along the rows and
    one along the columns.
    """

    def __init__(self, layer: Any, g: torch.Tensor, h: torch.Tensor, unfolding: str) -> None:
        super().__init__()
        self.weight_G = nn.Parameter(g)
        self.weight_H = nn.Parameter(h)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        self.shape = tuple(layer.weight.shape)
        self.unfolding = unfolding
        self.stride, self.dilation, self.groups = layer.stride, layer.dilation, layer.groups
        self.padding, self.padding_mode = layer.padding, layer.padding_mode
        # Other modes than zeros, and "same", are applied to the input first, which is the same for both layers.
        self.outer = layer._reversed_padding_repeated_twice if layer.padding_mode != "zeros" else None
        if isinstance(self.padding, str):
            self.outer = layer._reversed_padding_repeated_twice

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Shape of the weight that the factors stand for, as it is coded."""
        out, channels, *taps = self.shape
        return self.shape if self.unfolding == "rows" else (out, taps[0], channels, taps[1])

    @property
    def axes(self) -> tuple[int, ...] | None:
        """How the coded weight has to be transposed to get the layer's; None if it is the layer's."""
        return None if self.unfolding == "rows" else (0, 2, 1, 3)

    def weight(self) -> torch.Tensor:
        """Return the recomposed weight of the layer."""
        whole = (self.weight_G @ self.weight_H).reshape(self.dimensions)
        return whole if self.axes is None else whole.permute(self.axes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply both layers."""
        padding: Any = self.padding
        if self.outer is not None:
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            x = functional.pad(x, self.outer, mode=mode)
            padding = (0,) * (len(self.shape) - 2)
        convolve = _FUNCTIONS[len(self.shape) - 2]
        if self.groups > 1:
            return convolve(x, self.weight(), self.bias, self.stride, padding, self.dilation, self.groups)
        rank = len(self.weight_H)
        if self.unfolding == "rows":
            h = self.weight_H.reshape(rank, *self.shape[1:])
            g = self.weight_G.reshape(self.shape[0], rank, *(1,) * (len(self.shape) - 2))
            return convolve(convolve(x, h, None, self.stride, padding, self.dilation), g, self.bias)
        out, channels, height, width = self.shape
        h = self.weight_H.reshape(rank, channels, 1, width)
        g = self.weight_G.reshape(out, height, rank).permute(0, 2, 1).unsqueeze(-1)
        (sy, sx), (py, px), (dy, dx) = self.stride, padding, self.dilation
        middle = functional.conv2d(x, h, None, (1, sx), (0, px), (1, dx))
        return functional.conv2d(middle, g, self.bias, (sy, 1), (py, 0), (dy, 1))


class FactorizedConvTranspose(nn.Module):
    """A transposed convolution without groups whose weight, ``(in, out * taps)``, is ``G H``.

    It runs as a convolution of size 1 to ``rank`` channels and a transposed one. ``weight_G`` is ``(in, rank)``,
    ``weight_H`` ``(rank, out * taps)``.
    """

    axes: tuple[int, ...] | None = None
    unfolding = "inputs"

    def __init__(self, layer: Any, g: torch.Tensor, h: torch.Tensor) -> None:
        super().__init__()
        self.weight_G = nn.Parameter(g)
        self.weight_H = nn.Parameter(h)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        self.dimensions = tuple(layer.weight.shape)
        self.options = (layer.stride, layer.padding, layer.output_padding, 1, layer.dilation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply both layers."""
        taps = len(self.dimensions) - 2
        g = self.weight_G.T.reshape(-1, len(self.weight_G), *(1,) * taps)
        h = self.weight_H.reshape(-1, *self.dimensions[1:])
        return _TRANSPOSED_FUNCTIONS[taps](_FUNCTIONS[taps](x, g), h, self.bias, *self.options)


class TuckerConv(nn.Module):
    """A convolution in three: of size 1, with the original's size, of size 1.

    ``weight_right`` is ``(rank_in, in)``, ``weight_core`` ``(rank_out, rank_in, *taps)``, ``weight_left``
    ``(out, rank_out)``.
    """

    def __init__(self, layer: Any, left: torch.Tensor, core: torch.Tensor, right: torch.Tensor) -> None:
        super().__init__()
        self.weight_left, self.weight_core, self.weight_right = (nn.Parameter(t) for t in (left, core, right))
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        self.options = (layer.stride, layer.padding, layer.dilation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the three layers."""
        taps = self.weight_core.ndim - 2
        convolve = _FUNCTIONS[taps]
        ones = (1,) * taps
        x = convolve(x, self.weight_right.reshape(*self.weight_right.shape, *ones))
        x = convolve(x, self.weight_core, None, *self.options)
        return convolve(x, self.weight_left.reshape(*self.weight_left.shape, *ones), self.bias)


class RowScaling(nn.Module):
    """Local scaling: one trainable factor per output row of a weight, 1 at first.

    Source: local scaling adaptation of the standard.
    """

    def __init__(self, weight: torch.Tensor, dimension: int) -> None:
        super().__init__()
        shape = [1] * weight.ndim
        shape[dimension] = weight.shape[dimension]
        self.scaling = nn.Parameter(torch.ones(shape, dtype=weight.dtype, device=weight.device))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the scaled weight."""
        return weight * self.scaling


def scaled_layers(module: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """Yield path, layer and name of the weight, for all that local scaling applies to.

    Transposed convolutions have their output channels second, where the standard's scaling cannot reach them.
    """
    for path, layer in module.named_modules():
        if isinstance(layer, (nn.Linear, *CONVOLUTIONS)):
            yield path, layer, "weight"
        elif isinstance(layer, FactorizedLinear) or (isinstance(layer, FactorizedConv) and layer.unfolding == "rows"):
            yield path, layer, "weight_G"
        elif isinstance(layer, nn.MultiheadAttention) and layer.in_proj_weight is not None:
            yield path, layer, "in_proj_weight"


def has_scaling(layer: nn.Module, name: str = "weight") -> bool:
    """Whether a weight of a layer is parametrised with :class:`RowScaling`."""
    return scaling_of(layer, name) is not None


def scaling_of(layer: nn.Module, name: str = "weight") -> RowScaling | None:
    """Return the local scaling of a weight of a layer, if it has one."""
    if not parametrize.is_parametrized(layer, name):
        return None
    steps = layer.parametrizations[name]  # type: ignore[index]
    return next((step for step in steps if isinstance(step, RowScaling)), None)


def replace_layer(module: nn.Module, path: str, new: nn.Module) -> None:
    """Put a layer in the place of another."""
    parent, _, leaf = path.rpartition(".")
    setattr(module.get_submodule(parent), leaf, new.train(module.training))


def coded_parameters(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return the state of a network under the names of a stream: scalings as ``<weight>_scaling``, weights unscaled."""
    tensors: dict[str, torch.Tensor] = {}
    for name, value in module.state_dict().items():
        path, found, leaf = name.partition("parametrizations.")
        if not found:
            tensors[name] = value
            continue
        weight, _, member = leaf.partition(".")
        tensors[path + (weight if member == "original" else weight.removesuffix("_G") + "_scaling")] = value
    return tensors
