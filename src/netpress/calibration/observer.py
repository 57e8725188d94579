"""Watches a network run: which operation uses which parameter, and with what inputs.

The operations are seen below autograd, where every layer, whatever its class, is a product, a convolution or a look-up.
So attention, recurrent cells and functional code need no rules of their own.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch.utils._python_dispatch import TorchDispatchMode

from netpress.calibration.inputs import convolution_inputs, linear_inputs, transposed_convolution_inputs
from netpress.calibration.statistics import COLUMNS, ROWS, TABLE, LayerStatistics
from netpress.errors import InvalidModel

__all__ = ["Observer"]

Tensor = Any

# Positions of a convolution that are looked at per call: enough for the moments to settle over a few batches.
_MIN_POSITIONS = 4096
_POSITIONS_PER_INPUT = 8


@dataclasses.dataclass(slots=True)
class _Sums:
    """Sums over the inputs of one weight. ``parts``: by run of rows of the weight, for layers that use it in parts."""

    layout: str
    groups: int
    parts: dict[tuple[int, int], list[Any]] = dataclasses.field(default_factory=dict)

    def add(self, rows: tuple[int, int], x: Tensor, block: int) -> None:
        """Add inputs of shape (groups, count, inputs)."""
        import torch

        groups, count, inputs = x.shape
        x = x.to(torch.float32)
        if rows not in self.parts:
            zeros = x.new_zeros((groups, inputs, min(block, inputs)))
            self.parts[rows] = [zeros, x.new_zeros((groups, inputs)), 0]
        moments, sums, _ = self.parts[rows]
        for start in range(0, inputs, moments.shape[2]):
            part = x[:, :, start : start + moments.shape[2]]
            moments[:, start : start + part.shape[2], : part.shape[2]] += part.transpose(1, 2) @ part
        sums += x.sum(1)
        self.parts[rows][2] += count


class Observer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Collects the moments of the inputs of parameters while it is active.

    Args:
        parameters: weights of two or more dimensions, by name, without doubles.
        blocks: width of the blocks of moments, by name.
        generator: chooses positions of convolutions.
    """

    def __init__(self, parameters: Mapping[str, Tensor], blocks: Mapping[str, int], generator: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._parameters = dict(parameters)
        self._storages: dict[int, list[str]] = {}
        for name, parameter in self._parameters.items():
            self._storages.setdefault(parameter.untyped_storage().data_ptr(), []).append(name)
        self._blocks = blocks
        self._generator = generator
        self._sums: dict[str, _Sums] = {}
        self._rules = _rules()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spare the import of torch's compiler, seconds long: nothing is compiled while this is active."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = self._rules.get(func)
        if rule is not None:
            rule(self, *args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _find(self, tensor: Tensor) -> tuple[str, int] | None:
        """Return the parameter that a tensor is or is a part of, and the first element."""
        for name in self._storages.get(tensor.untyped_storage().data_ptr(), ()):
            parameter = self._parameters[name]
            first = tensor.storage_offset() - parameter.storage_offset()
            if first >= 0 and first + tensor.numel() <= parameter.numel() and parameter.is_contiguous():
                return name, first
        return None

    def _add(self, name: str, layout: str, rows: tuple[int, int], x: Tensor) -> None:
        if name in self._sums and self._sums[name].layout == TABLE:
            del self._sums[name]  # an embedding that is also the last layer of the network, which says more about it
        sums = self._sums.setdefault(name, _Sums(layout, x.shape[0]))
        if sums.layout != layout or sums.groups != x.shape[0]:
            raise InvalidModel(
                "the network uses it in two different ways, which calibration cannot follow", tensor=name
            )
        sums.add(rows, x, self._blocks[name])
        if not bool(sums.parts[rows][1].isfinite().all()):
            raise InvalidModel("its inputs are not finite on the calibration data", tensor=name)

    def _limit(self, inputs: int) -> int:
        return max(_MIN_POSITIONS, _POSITIONS_PER_INPUT * inputs)

    def product(self, x: Tensor, weight: Tensor) -> None:
        """See ``x @ weight``, with a weight of shape (inputs, outputs)."""
        found = self._find(weight)
        if found is None or weight.ndim != 2:
            return
        name, first = found
        shape = self._parameters[name].shape
        inputs, outputs = weight.shape
        columns = self._parameters[name].numel() // shape[0]
        if weight.stride() == (1, columns) and inputs == columns and first % columns == 0:
            rows = (first // columns, first // columns + outputs)
            self._add(name, COLUMNS, rows, linear_inputs(x, self._limit(inputs), self._generator))
        elif weight.stride() == (outputs, 1) and tuple(weight.shape) == tuple(shape):
            self._add(name, ROWS, (0, inputs), linear_inputs(x, self._limit(inputs), self._generator))

    def batched_product(self, x: Tensor, weight: Tensor) -> None:
        """See products of several matrices with one weight: inputs in another order of memory are not made one matrix
        where the weight needs no gradient."""
        if weight.stride(0) == 0 or weight.shape[0] == 1:
            self.product(x, weight[0])

    def convolution(
        self,
        x: Tensor,
        weight: Tensor,
        stride: Any,
        padding: Any,
        dilation: Any,
        transposed: bool,
        output_padding: Any,
        groups: int,
    ) -> None:
        """See a convolution of any dimension."""
        place_of_weight = self._find(weight)
        if place_of_weight is None or weight.numel() != self._parameters[place_of_weight[0]].numel():
            return
        shape = tuple(self._parameters[place_of_weight[0]].shape)
        kernel = tuple(weight.shape[2:])
        if not transposed and groups == 1 and len(shape) == 2 and weight.stride(1) == 1 < shape[1] == weight.shape[1]:
            # A factor whose rows are outputs and kernel positions: each position sees the same channels, only shifted.
            rows = linear_inputs(x.movedim(1, -1), self._limit(shape[1]), self._generator)
            self._add(place_of_weight[0], COLUMNS, (0, shape[0]), rows)
            return
        if not weight.is_contiguous() or (transposed and tuple(weight.shape) != shape) or weight.shape[0] != shape[0]:
            return
        strides, pads, spaces, more = (
            list(v) * (len(kernel) if len(v) == 1 else 1) for v in (stride, padding, dilation, output_padding)
        )
        if transposed:
            limit = self._limit(weight.shape[0] // groups * math.prod(kernel))
            inputs = transposed_convolution_inputs(
                x, kernel, strides, pads, spaces, more, groups, limit, self._generator
            )
        else:
            limit = self._limit(weight[0].numel())
            inputs = convolution_inputs(x, kernel, strides, pads, spaces, groups, limit, self._generator)
        self._add(place_of_weight[0], ROWS if transposed else COLUMNS, (0, weight.shape[0]), inputs)

    def lookup(self, weight: Tensor, indexes: Tensor) -> None:
        """See an embedding."""
        import torch

        found = self._find(weight)
        if found is None or tuple(weight.shape) != tuple(self._parameters[found[0]].shape):
            return
        counts = torch.bincount(indexes.reshape(-1), minlength=weight.shape[0]).to(torch.float32)
        sums = self._sums.setdefault(found[0], _Sums(TABLE, 1))
        if sums.layout != TABLE:
            return  # also the last layer of the network
        part = sums.parts.setdefault((0, weight.shape[0]), [counts.new_zeros((1, len(counts), 1)), None, 0])
        part[0] += counts[None, :, None]
        part[2] += indexes.numel()

    def statistics(self) -> dict[str, LayerStatistics]:
        """Return what was seen, by name."""
        return {name: self._statistics_of(name, sums) for name, sums in self._sums.items()}

    def _statistics_of(self, name: str, sums: _Sums) -> LayerStatistics:
        rows = self._parameters[name].shape[0]
        parts = sorted(sums.parts.items())
        height = parts[0][0][1] - parts[0][0][0]
        tiled = sums.groups == 1 and [p for p, _ in parts] == [(r, r + height) for r in range(0, rows, height)]
        if not tiled and parts[0][0] != (0, rows):
            raise InvalidModel("the network uses parts of it that overlap or differ in size", tensor=name)
        moments = np.concatenate([(m / max(n, 1)).cpu().numpy() for _, (m, _, n) in parts])
        if sums.layout == TABLE:
            mean = np.zeros(moments.shape[:2], np.float32)
        else:
            mean = np.concatenate([(s / max(n, 1)).cpu().numpy() for _, (_, s, n) in parts])
        return LayerStatistics(sums.layout, moments, mean, int(parts[0][1][2]))


Rule = Callable[..., None]


def _rules() -> dict[Any, Rule]:
    """Return what to do for each operation."""
    import torch

    aten = torch.ops.aten

    def convolution(o: Observer, x: Any, weight: Any, bias: Any, *geometry: Any) -> None:
        o.convolution(x, weight, *geometry)

    return {
        aten.mm.default: lambda o, x, weight: o.product(x, weight),
        aten.addmm.default: lambda o, bias, x, weight, **_: o.product(x, weight),
        aten.bmm.default: lambda o, x, weight: o.batched_product(x, weight),
        aten.linear.default: lambda o, x, weight, bias=None: o.product(x, weight.t()),
        aten.convolution.default: convolution,
        aten.embedding.default: lambda o, weight, indexes, *_, **__: o.lookup(weight, indexes),
    }
