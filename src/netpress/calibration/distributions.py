"""What functions and layers of torch make of the mean and the variance of their inputs.

A batch norm says what its outputs are like, a layer norm too; activations, sums, products and poolings after it change
that in known ways.

Source: Nagel et al., Data-free quantization through weight equalization and bias correction (2019), section 4.2, whose
formulas are for batch norm and ReLU.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Distribution", "Parameter", "Rules"]

Vector = npt.NDArray[np.float64]

# Points at which a function of a normal variable is taken, in standard deviations, and their weights.
_POINTS = np.linspace(-8, 8, 257)
_WEIGHTS = np.exp(-(_POINTS**2) / 2) / np.exp(-(_POINTS**2) / 2).sum()


@dataclasses.dataclass(frozen=True, slots=True)
class Distribution:
    """Mean and variance of the channels of a tensor, each of shape (channels,).

    ``axis`` is 1 where channels are the second dimension, -1 where they are the last. A flattened tensor keeps the axis
    1; each channel then stands for a run of equal length.
    """

    mean: Vector
    variance: Vector
    axis: int

    def through(self, function: Callable[[Any], Any]) -> Distribution:
        """Return the distribution of a function of each element, for elements that are normal."""
        import torch

        deviation = np.sqrt(self.variance)
        points = self.mean[:, None] + deviation[:, None] * _POINTS
        with torch.no_grad():
            values = function(torch.from_numpy(points)).numpy().astype(np.float64)
        mean = (values * _WEIGHTS).sum(axis=1)
        variance = ((values - mean[:, None]) ** 2 * _WEIGHTS).sum(axis=1)
        return Distribution(mean, variance, self.axis)


@dataclasses.dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter or buffer where a function takes it."""

    name: str
    tensor: Any

    @property
    def array(self) -> Vector:
        """Its values."""
        array: Vector = self.tensor.detach().double().cpu().numpy()
        return array


Value = Distribution | None


class Rules:
    """What functions and layers of torch make of distributions.

    In place of tensors they get a :class:`Distribution`, None where it is unknown, or a :class:`Parameter`.
    """

    def __init__(self, state: Mapping[str, Any]) -> None:
        self.state = state
        self.found: dict[str, Distribution] = {}
        self.layers = self._layer_rules()
        self.functions = self._function_rules()
        self.elementwise, self.activations = _elementwise()

    def parameter(self, name: str) -> Parameter | None:
        """Return a parameter or a buffer of the network; None if it has no such."""
        return Parameter(name, self.state[name]) if name in self.state else None

    def has_layer(self, layer: Any) -> bool:
        """Whether a layer is one that is known."""
        return type(layer) in self.layers or type(layer) in self.activations

    def layer(self, layer: Any, path: str, arguments: list[Any]) -> Any:
        """Return what a layer makes of its arguments; None if that is unknown."""
        if type(layer) in self.layers:
            own = {name: self.parameter(f"{path}.{name}") for name in ("weight", "bias", "in_proj_weight")}
            return _unless_misused(self.layers[type(layer)], layer, own, *arguments)
        if type(layer) in self.activations:
            return _unless_misused(_activated, arguments[0], layer)
        return None

    def function(self, name: str, arguments: list[Any], named: Mapping[str, Any]) -> Any:
        """Return what a function or a method makes of its arguments; None if that is unknown."""
        name = name.rstrip("_")
        if name in self.functions:
            return _unless_misused(self.functions[name], *arguments, **named)
        if name in self.elementwise and arguments:
            rest = {key: value for key, value in named.items() if key not in ("inplace", "out")}
            function = self.elementwise[name]
            return _unless_misused(_activated, arguments[0], lambda x: function(x, *arguments[1:], **rest))
        return None

    def _record(self, weight: Any, inputs: Value) -> None:
        if isinstance(weight, Parameter) and inputs is not None:
            self.found.setdefault(weight.name, inputs)

    def _convolution(
        self,
        inputs: Value,
        weight: Parameter,
        bias: Parameter | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Value:
        if inputs is None or inputs.axis != 1:
            return None
        array = weight.array.reshape(groups, weight.tensor.shape[0] // groups, -1)
        run = array.shape[2] * groups // len(inputs.mean)
        outputs = _product(array, inputs, run, bias, 1)
        self._record(weight, inputs)
        return outputs

    def _linear(self, inputs: Value, weight: Parameter, bias: Parameter | None = None) -> Value:
        if inputs is None or weight.tensor.shape[1] % len(inputs.mean):
            return None
        outputs = _product(weight.array[None], inputs, weight.tensor.shape[1] // len(inputs.mean), bias, inputs.axis)
        self._record(weight, inputs)
        return outputs

    def _embedding(self, _: Any, weight: Parameter, *__: Any, **___: Any) -> Value:
        return Distribution(weight.array.mean(0), weight.array.var(0), -1)

    def _attention(self, query: Value, value: Value, weight: Parameter | None) -> Any:
        if query is not None and query is value:
            self._record(weight, query)
        return (None, None)

    def _recurrent(self, inputs: Value, weights: Any) -> Any:
        for weight in weights:
            if isinstance(weight, Parameter) and weight.name.rpartition(".")[2].startswith("weight_ih_l0"):
                if inputs is None or inputs.axis != -1 or len(inputs.mean) != weight.tensor.shape[1]:
                    break
                self._record(weight, inputs)
        return None

    def _layer_rules(self) -> dict[type, Callable[..., Any]]:
        """Rules of layers; they get the layer, its parameters by name, and the arguments."""
        from torch import nn

        def convolution(layer: Any, own: Any, inputs: Value) -> Value:
            return self._convolution(inputs, own["weight"], own["bias"], groups=layer.groups)

        def linear(_: Any, own: Any, inputs: Value) -> Value:
            return self._linear(inputs, own["weight"], own["bias"])

        def embedding(_: Any, own: Any, inputs: Value) -> Value:
            return self._embedding(inputs, own["weight"])

        def recurrent(layer: Any, own: Any, inputs: Value, *_: Any) -> Any:
            path = next(name for name, tensor in self.state.items() if tensor is layer.weight_ih_l0)
            names = (path, path + "_reverse")
            return self._recurrent(inputs, [self.parameter(name) for name in names])

        def attention(_: Any, own: Any, query: Value, __: Value, value: Value, *___: Any) -> Any:
            return self._attention(query, value, own["in_proj_weight"])

        def channel_norm(_: Any, own: Any, *__: Any) -> Value:
            return _normed(own["weight"], own["bias"], 1)

        def last_norm(_: Any, own: Any, *__: Any) -> Value:
            return _normed(own["weight"], own["bias"], -1)

        def prelu(_: Any, own: Any, inputs: Value) -> Value:
            return _prelu(inputs, own["weight"])

        def flatten(layer: Any, _: Any, inputs: Value) -> Value:
            return _flattened(inputs) if layer.start_dim == 1 else None

        def kept(_: Any, __: Any, inputs: Value) -> Value:
            return inputs

        convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
        channel_norms = (
            *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm),
            *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
        )
        keeping = (
            *(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout),
            *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
            *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
            *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
            *(nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d),
            *(nn.ZeroPad2d, nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.ConstantPad2d),
        )
        last_norms = tuple(t for t in (nn.LayerNorm, getattr(nn, "RMSNorm", None)) if t is not None)
        return {
            **dict.fromkeys(convolutions, convolution),
            **dict.fromkeys(channel_norms, channel_norm),
            **dict.fromkeys(last_norms, last_norm),
            **dict.fromkeys(keeping, kept),
            **dict.fromkeys((nn.LSTM, nn.GRU, nn.RNN), recurrent),
            nn.Linear: linear,
            nn.Flatten: flatten,
            nn.PReLU: prelu,
            nn.Embedding: embedding,
            nn.MultiheadAttention: attention,
        }

    def _function_rules(self) -> dict[str, Callable[..., Any]]:
        """Rules of functions and methods."""

        def batch_norm(
            _: Any, __: Any, ___: Any, weight: Any = None, bias: Any = None, *____: Any, **_____: Any
        ) -> Value:
            return _normed(weight, bias, 1)

        def group_norm(_: Any, __: Any, weight: Any = None, bias: Any = None, *___: Any, **____: Any) -> Value:
            return _normed(weight, bias, 1)

        def last_norm(_: Any, __: Any, weight: Any = None, bias: Any = None, *___: Any, **____: Any) -> Value:
            return _normed(weight, bias, -1)

        def attention(query: Value, _: Any, value: Value, *rest: Any, **named: Any) -> Any:
            return self._attention(query, value, named.get("in_proj_weight", rest[2] if len(rest) > 2 else None))

        def recurrent(inputs: Value, _: Any, weights: Any, *__: Any) -> Any:
            return self._recurrent(inputs, weights)

        convolutions = ("conv1d", "conv2d", "conv3d")
        same = (
            *("contiguous", "clone", "detach", "float", "dropout", "interpolate", "upsample", "type_as", "to"),
            *("max_pool1d", "max_pool2d", "max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d"),
            *("adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool2d"),
            "boolean_dispatch",  # what fx calls the poolings that may return indices
        )
        return {
            **dict.fromkeys(convolutions, self._convolution),
            **dict.fromkeys(same, _kept),
            **dict.fromkeys(("add", "iadd"), _add),
            **dict.fromkeys(("mul", "imul"), _mul),
            **dict.fromkeys(("div", "truediv"), _divide),
            **dict.fromkeys(("view", "reshape"), _view),
            **dict.fromkeys(("cat", "concat", "concatenate"), _cat),
            **dict.fromkeys(("lstm", "gru"), recurrent),
            **dict.fromkeys(("getitem", "__getitem__"), _getitem),
            "linear": self._linear,
            "embedding": lambda weight, *rest, **named: (
                self._embedding(rest[0] if rest else None, weight)
                if isinstance(weight, Parameter)
                else self._embedding(weight, *rest, **named)
            ),
            "batch_norm": batch_norm,
            "instance_norm": batch_norm,
            "group_norm": group_norm,
            "layer_norm": last_norm,
            "rms_norm": last_norm,
            "multi_head_attention_forward": attention,
            "sub": _subtract,
            "flatten": _flatten,
            "mean": _average,
            "chunk": _chunk,
            "permute": _permute,
            "transpose": _transpose,
            "pad": _pad,
            "prelu": _prelu,
        }


def _unless_misused(rule: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Return what a rule says; None for arguments that it does not know."""
    try:
        return rule(*arguments, **named)
    except (ArithmeticError, AttributeError, IndexError, LookupError, TypeError, ValueError, RuntimeError):
        return None


def _elementwise() -> tuple[dict[str, Callable[..., Any]], frozenset[type]]:
    """Functions of single elements by name, and layers that are such."""
    import torch
    from torch import nn
    from torch.nn import functional

    layers = (
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.SiLU, nn.GELU, nn.Mish, nn.Softplus),
        *(nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.Tanh, nn.LogSigmoid, nn.Tanhshrink, nn.Softsign),
    )
    names = ("relu", "relu6", "leaky_relu", "elu", "celu", "selu", "silu", "gelu", "mish", "softplus")
    more = ("hardswish", "hardsigmoid", "hardtanh", "softsign", "logsigmoid")
    plain = {name: getattr(torch, name) for name in ("sigmoid", "tanh", "exp", "abs", "square", "sin", "cos", "clamp")}
    return {**plain, **{name: getattr(functional, name) for name in (*names, *more)}}, frozenset(layers)


def _activated(inputs: Value, function: Callable[[Any], Any]) -> Value:
    return None if inputs is None else inputs.through(function)


def _normed(weight: Parameter | None, bias: Parameter | None, axis: int) -> Value:
    if weight is None or weight.tensor.ndim != 1:
        return None
    gain = weight.array
    return Distribution(np.zeros_like(gain) if bias is None else bias.array, gain**2, axis)


def _product(weight: Vector, inputs: Distribution, run: int, bias: Parameter | None, axis: int) -> Distribution:
    """Return the outputs of a weight of shape (groups, outputs, inputs); each channel is ``run`` inputs in a row."""
    groups = len(weight)
    mean = inputs.mean.repeat(run).reshape(groups, -1)
    variance = inputs.variance.repeat(run).reshape(groups, -1)
    outputs = np.einsum("goi,gi->go", weight, mean).reshape(-1)
    if bias is not None:
        outputs = outputs + bias.array
    return Distribution(outputs, np.einsum("goi,gi->go", weight**2, variance).reshape(-1), axis)


def _prelu(inputs: Value, weight: Parameter) -> Value:
    import torch

    slopes = torch.from_numpy(weight.array.reshape(-1, 1))
    return _activated(inputs, lambda x: torch.where(x > 0, x, x * slopes))


def _kept(a: Any, *_: Any, **__: Any) -> Any:
    return a if isinstance(a, Distribution) else None


def _add(a: Any, b: Any, alpha: float = 1, **_: Any) -> Value:
    if isinstance(a, Distribution) and isinstance(b, (int, float)):
        return dataclasses.replace(a, mean=a.mean + alpha * b)
    if isinstance(b, Distribution) and isinstance(a, (int, float)):
        return dataclasses.replace(b, mean=a + alpha * b.mean, variance=alpha**2 * b.variance)
    if not _alike(a, b):
        return None
    return Distribution(a.mean + alpha * b.mean, a.variance + alpha**2 * b.variance, a.axis)


def _subtract(a: Any, b: Any, **_: Any) -> Value:
    return _add(a, b, alpha=-1)


def _mul(a: Any, b: Any, **_: Any) -> Value:
    if isinstance(b, Distribution) and isinstance(a, (int, float)):
        a, b = b, a
    if isinstance(a, Distribution) and isinstance(b, (int, float)):
        return Distribution(a.mean * b, a.variance * b * b, a.axis)
    if not _alike(a, b):
        return None
    mean = a.mean * b.mean
    variance = (a.variance + a.mean**2) * (b.variance + b.mean**2) - mean**2
    return Distribution(mean, np.maximum(variance, 0), a.axis)


def _divide(a: Any, b: Any, **_: Any) -> Value:
    return _mul(a, 1 / b) if isinstance(b, (int, float)) else None


def _alike(a: Any, b: Any) -> bool:
    both = isinstance(a, Distribution) and isinstance(b, Distribution)
    return both and a.axis == b.axis and a.mean.shape == b.mean.shape


def _cat(tensors: Any, dim: int = 0, **_: Any) -> Value:
    parts = list(tensors)
    if any(part is None or part.axis != dim for part in parts):
        return None
    means, variances = [part.mean for part in parts], [part.variance for part in parts]
    return Distribution(np.concatenate(means), np.concatenate(variances), dim)


def _chunk(a: Any, chunks: int, dim: int = 0) -> Any:
    if a is None or a.axis != dim:
        return None
    pieces = zip(np.array_split(a.mean, chunks), np.array_split(a.variance, chunks), strict=True)
    return tuple(Distribution(mean, variance, a.axis) for mean, variance in pieces)


def _getitem(a: Any, index: Any) -> Any:
    if isinstance(a, (tuple, list)):
        return a[index]
    if not isinstance(a, Distribution) or not isinstance(index, tuple):
        return None
    if a.axis == -1:  # channels stay the last dimension, whatever is picked from the others
        return a if len(index) < 3 or index[-1] == slice(None) else None
    return a if len(index) > 1 and index[0] == slice(None) and index[1] == slice(None) else None


def _pad(a: Any, widths: Any, *_: Any, **__: Any) -> Value:
    if not isinstance(a, Distribution) or a.axis != 1:
        return None
    if isinstance(widths, (tuple, list)) and len(widths) == 6 and all(isinstance(w, int) for w in widths[4:]):
        # The channels of images; those of volumes would be padded in depth.
        return Distribution(np.pad(a.mean, widths[4:]), np.pad(a.variance, widths[4:]), 1)
    return a


def _average(a: Any, dim: Any = None, *_: Any, **__: Any) -> Value:
    """The mean over places; over channels it is none of theirs."""
    axes = dim if isinstance(dim, (tuple, list)) else (dim,)
    if not isinstance(a, Distribution) or None in axes:
        return None
    others = {1} if a.axis == -1 else {2, 3, 4, -1, -2, -3}
    return a if set(axes) <= others and (a.axis == -1 or len(axes) > 1 or axes[0] != -3) else None


def _flattened(inputs: Value) -> Value:
    return inputs if inputs is not None and inputs.axis == 1 else None


def _flatten(a: Any, start_dim: int = 0, end_dim: int = -1) -> Value:
    return _flattened(a) if start_dim in (1, 2) and end_dim == -1 else None


def _view(a: Any, *shape: Any) -> Value:
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    return _flattened(a) if len(sizes) == 2 and sizes[1] == -1 else None


def _permute(a: Any, *order: Any) -> Value:
    axes = order[0] if len(order) == 1 and isinstance(order[0], (tuple, list)) else order
    if not isinstance(a, Distribution):
        return None
    place = list(axes).index(1 if a.axis == 1 else len(axes) - 1)
    return dataclasses.replace(a, axis=-1 if place == len(axes) - 1 else place) if place else None


def _transpose(a: Any, first: int, second: int) -> Value:
    if not isinstance(a, Distribution) or {first, second} not in ({1, 2}, {-1, 1}, {-1, -2}):
        return None
    return dataclasses.replace(a, axis=-1 if a.axis == 1 else 1)
