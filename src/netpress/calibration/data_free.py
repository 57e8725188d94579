"""What is known about the inputs of layers without any data.

With a torch module, means and variances follow from its norms and activations as far as its data flow is known. Of all
other weights one thing is assumed: that their inputs have a mean that is not zero, as those after an activation have.
Errors of a row that add up to nothing then cost least.

Source: docs/notes/data-free-quantisation.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.calibration.statistics import COLUMNS, Calibration, LayerStatistics
from netpress.formats import Source, open_source
from netpress.parameters import ParameterKind

__all__ = ["DAMPING", "data_free_calibration", "data_free_statistics"]

# Moments that are not measured may be wrong: no input is taken to matter less than this share of the mean.
DAMPING = 0.1

# Correlation of the inputs at neighbouring places of a kernel; of all known and unknown signals in the middle.
NEIGHBOUR_CORRELATION = 0.7
# Squared mean of unknown inputs, relative to their variance.
SQUARED_MEAN = 0.5
# A matrix of a file with so many times more rows than columns is taken for a table, whose rows are outputs themselves.
_ROWS_OF_TABLE = 8
# Parts of names of weights that take what a cell returned before, which has no mean to speak of.
_RECURRENT = ("weight_hh", "recurrent_kernel")
# Largest kernel whose places are taken to be correlated, and largest side of one where a file does not say that the
# last dimensions are a kernel.
_LARGEST_KERNEL = 64
_LARGEST_SIDE = 11


def data_free_calibration(source: Any) -> Calibration:
    """Return what is known about the inputs of the weights of a model without data.

    Args:
        source: the model, in the forms that :func:`netpress.encode` takes.

    Returns:
        A calibration without samples and sensitivities. Its moments are blocks as wide as a kernel; between blocks, the
        inputs are taken to be independent, so that their moments are products of means.

    Example:
        >>> import torch, netpress
        >>> network = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        >>> netpress.data_free_calibration(network).layers["2.weight"].mean.round(2)
        array([[0.4, 0.4, 0.4, 0.4]], dtype=float32)
    """
    with open_source(source) as model:
        return Calibration(data_free_statistics(model), 0)


def data_free_statistics(model: Source) -> dict[str, LayerStatistics]:
    """Return the statistics of :func:`data_free_calibration` by name of the weight."""
    if model.torch_module is not None:
        return _of_module(model.torch_module, set(model.names))
    layers = {}
    for name in model.names:
        shape = model.shape(name)
        if model.kind(name) in (ParameterKind.WEIGHT, ParameterKind.UNSPECIFIED) and len(shape) > 1:
            kernel = _kernel_of(shape)
            if kernel is not None and not any(part in name for part in _RECURRENT):
                layers[name] = _statistics(1, shape, kernel, None)
    return layers


def _kernel_of(shape: Sequence[int]) -> tuple[int, ...] | None:
    """Return the kernel of a weight whose layer is unknown; None for a table, and for kernels in other dimensions."""
    kernel = tuple(shape[2:])
    if 0 in shape or max(kernel, default=1) > _LARGEST_SIDE:
        return None
    if not kernel and shape[0] >= _ROWS_OF_TABLE * shape[1]:
        return None
    return kernel


def _of_module(module: Any, names: set[str]) -> dict[str, LayerStatistics]:
    from torch import nn

    from netpress.calibration.propagation import input_distributions

    known = input_distributions(module)
    layers: dict[str, LayerStatistics] = {}
    for path, layer in module.named_modules(remove_duplicate=False):
        dot = path + "." if path else ""
        kernel: tuple[int, ...] = ()
        groups = 1
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            kernel, groups, weights = tuple(layer.kernel_size), layer.groups, ["weight"]
        elif isinstance(layer, nn.Linear):
            weights = ["weight"]
        elif isinstance(layer, nn.MultiheadAttention):
            weights = ["in_proj_weight"]
        elif isinstance(layer, nn.RNNBase):
            weights = [name for name, _ in layer.named_parameters() if name.startswith("weight_ih")]
        else:
            continue
        for weight in weights:
            name, parameter = dot + weight, getattr(layer, weight, None)
            if name in names and parameter is not None and parameter.numel():
                layers[name] = _statistics(groups, parameter.shape, kernel, known.get(name))
    return layers


def _statistics(groups: int, shape: Sequence[int], kernel: tuple[int, ...], inputs: Any) -> LayerStatistics:
    """Return the statistics of a weight of shape (rows, inputs of a group, kernel ...) for the inputs of all groups."""
    columns = math.prod(shape[1:])
    if inputs is None or not _is_single(inputs):
        groups = 1
        mean = np.full((1, columns), math.sqrt(SQUARED_MEAN))
        variance = np.ones((1, columns))
    else:
        run = groups * columns // len(inputs.mean)
        mean = inputs.mean.repeat(run).reshape(groups, columns)
        variance = inputs.variance.repeat(run).reshape(groups, columns)
    correlation = _correlation(kernel)
    block = len(correlation)
    index = np.arange(columns) // block * block
    # Row k of the moments: column k with the columns of its block.
    others = index[:, None] + np.arange(block)
    places = np.arange(columns) % block
    moments = np.sqrt(variance[:, :, None] * variance[:, others]) * correlation[places]
    moments += mean[:, :, None] * mean[:, others]
    return LayerStatistics(COLUMNS, moments.astype(np.float32), mean.astype(np.float32), 0)


def _is_single(inputs: Any) -> bool:
    """Whether second moments are finite in single precision; those of a network without norms may grow beyond it."""
    with np.errstate(over="ignore", invalid="ignore"):
        powers = inputs.variance + inputs.mean**2
    return bool((powers < np.finfo(np.float32).max).all())


def _correlation(kernel: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return the correlation of all pairs of places of a kernel, which falls with their distance in every direction."""
    matrix = np.ones((1, 1))
    if math.prod(kernel) > _LARGEST_KERNEL:
        return matrix
    for side in kernel:
        place = np.arange(side)
        matrix = np.kron(matrix, NEIGHBOUR_CORRELATION ** np.abs(place[:, None] - place))
    return matrix
