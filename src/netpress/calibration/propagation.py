"""Mean and variance of the inputs of every layer, from the parameters of the network alone.

The data flow is that of ``torch.fx``; where a network cannot be traced, that of a run on zeros; and where no input is
found that it takes, its children are looked at, each on its own. What the run computes is not used.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from netpress.calibration.distributions import Distribution, Rules
from netpress.compare import evaluation_mode

__all__ = ["input_distributions"]

# Sides of images, lengths of signals and of sentences that are tried as inputs of a network that cannot be traced.
_SIDES = (224, 32, 28, 64, 96, 128, 256, 299, 384, 16, 49)
_LENGTHS = (1024, 16000, 256, 64)
_WORDS = 16


def input_distributions(module: Any) -> dict[str, Distribution]:
    """Return the distribution of the inputs of layers, by the name of the weight.

    Args:
        module: a torch module; unchanged.

    Returns:
        For convolutions and linear layers (and input weights of recurrent and attention layers) whose inputs are known.
        A weight that is used several times has the first distribution that was found.
    """
    rules = Rules(dict(itertools.chain(module.named_parameters(), module.named_buffers())))
    # What grows beyond all bounds is unknown to those who use it.
    with evaluation_mode(module), np.errstate(over="ignore", invalid="ignore"):
        _trace(module, "", rules)
    return rules.found


def _trace(module: Any, prefix: str, rules: Rules) -> None:
    """Go through the data flow of a module, or of its children."""
    if not any(True for _ in module.children()):
        return
    graph = _graph(module)
    if graph is not None:
        _Propagation(module, prefix, rules).run(graph)
        inner = [str(node.target) for node in graph.nodes if node.op == "call_module"]
        inner = [path for path in inner if not rules.has_layer(module.get_submodule(path))]
    elif not prefix and _run_on_zeros(module, rules):
        return
    else:
        inner = [name for name, _ in module.named_children()]
    for path in inner:
        _trace(module.get_submodule(path), f"{prefix}{path}.", rules)


def _graph(module: Any) -> Any:
    """Return the data flow of a module, None if it cannot be traced.

    Where the way depends on a value, such as a size, one of the two is followed: such code pads, or checks.
    """
    from torch import fx

    class Tracer(fx.Tracer):
        answer = False

        def to_bool(self, obj: Any) -> bool:
            return self.answer

    usual = {
        name: parameter.default
        for name, parameter in inspect.signature(module.forward).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    for answer in (False, True):  # the second for assertions
        tracer = Tracer()
        tracer.answer = answer
        # Tracing runs the module's own code, which may raise anything.
        with contextlib.suppress(Exception):
            return tracer.trace(module, concrete_args=usual or None)
    return None


class _Propagation:
    """One pass over a graph."""

    def __init__(self, module: Any, prefix: str, rules: Rules) -> None:
        self.module, self.prefix, self.rules = module, prefix, rules
        self.values: dict[Any, Any] = {}

    def run(self, graph: Any) -> None:
        """Propagate through all nodes."""
        for node in graph.nodes:
            self.values[node] = self._of(node)

    def _value(self, argument: Any) -> Any:
        from torch import fx

        if isinstance(argument, fx.Node):
            return self.values.get(argument)
        if isinstance(argument, (tuple, list)):
            return type(argument)(self._value(part) for part in argument)
        return argument

    def _of(self, node: Any) -> Any:
        if node.op == "get_attr":
            return self.rules.parameter(f"{self.prefix}{node.target}")
        arguments = [self._value(argument) for argument in node.args]
        named = {key: self._value(argument) for key, argument in node.kwargs.items()}
        if node.op == "call_module":
            layer = self.module.get_submodule(node.target)
            return self.rules.layer(layer, f"{self.prefix}{node.target}", arguments)
        if node.op in ("call_function", "call_method"):
            name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
            return self.rules.function(name, arguments, named)
        return None


def _run_on_zeros(network: Any, rules: Rules) -> bool:
    """Propagate along a run on zeros; whether there is an input with which the network runs."""
    import torch

    names = {id(tensor): name for name, tensor in rules.state.items()}
    for inputs in _plausible_inputs(network):
        with contextlib.suppress(Exception):  # the network's own code, which may raise anything
            with torch.random.fork_rng(devices=[]), torch.no_grad(), _watcher(rules, names):
                network(inputs)
            return True
    return False


def _plausible_inputs(module: Any) -> Iterator[Any]:
    """Yield zeros that the first layer of a module may take."""
    import torch
    from torch import nn

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            yield from (torch.zeros(1, layer.in_channels, side, side) for side in _SIDES)
        elif isinstance(layer, nn.Conv1d):
            yield from (torch.zeros(1, layer.in_channels, length) for length in _LENGTHS)
        elif isinstance(layer, nn.Linear):
            yield torch.zeros(1, layer.in_features)
            yield torch.zeros(1, _WORDS, layer.in_features)
        elif isinstance(layer, nn.Embedding):
            yield torch.zeros(1, _WORDS, dtype=torch.int64)
        else:
            continue
        return


def _watcher(rules: Rules, names: Mapping[int, str]) -> Any:
    """Return a context in which every function of tensors passes distributions on."""
    from torch import Tensor
    from torch.overrides import TorchFunctionMode

    class Watcher(TorchFunctionMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: dict[int, tuple[Any, Any]] = {}  # the tensors too, so that no other gets their number

        def _value(self, argument: Any) -> Any:
            if isinstance(argument, Tensor):
                if id(argument) in names:
                    return rules.parameter(names[id(argument)])
                return self.seen.get(id(argument), (None, None))[1]
            if isinstance(argument, (tuple, list)):
                return tuple(self._value(part) for part in argument)
            return argument

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            result = func(*args, **kwargs)
            named = {key: self._value(argument) for key, argument in kwargs.items()}
            value = rules.function(getattr(func, "__name__", ""), [self._value(a) for a in args], named)
            if isinstance(result, Tensor):
                self.seen[id(result)] = result, value
            elif isinstance(result, (tuple, list)) and isinstance(value, tuple):
                self.seen.update({id(part): (part, of) for part, of in zip(result, value, strict=False)})
            return result

    return Watcher()
