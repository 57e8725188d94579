"""Structured pruning: remove channels from a network, through all layers that share them."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib.util
import warnings
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig, InvalidModel, RecipeError
from netpress.recipe.objective import batches_of
from netpress.recipe.sensitivity import mean_gradients, squared_gradients
from netpress.task import Batch, Task
from netpress.transforms.rebuild import Scatter

__all__ = ["CRITERIA", "PrunedModule", "prune_channels"]

CRITERIA = ("norm", "batch_norm", "sensitivity")

History = list[tuple[str, bool, list[int]]]
"""Which channels go: name of a layer, whether of its outputs, positions. What depends on them is found again."""


@dataclasses.dataclass(frozen=True, slots=True)
class PrunedModule:
    """A network with fewer channels.

    Args:
        module: the smaller network, in inference mode.
        kept: name of a parameter or buffer -> for each dimension the positions that are left, int64.
        shapes: name -> the shape before.
        protected: names of the layers whose channels could not go, with all that share them.
    """

    module: Any
    kept: dict[str, tuple[npt.NDArray[np.int64], ...]]
    shapes: dict[str, tuple[int, ...]]
    protected: tuple[str, ...]

    def full_state(self) -> dict[str, npt.NDArray[Any]]:
        """Return parameters and buffers in the shapes before, with zeros in place of what is gone."""
        values = {name: t.detach().cpu().numpy() for name, t in self.module.state_dict().items()}
        return {name: self.scatter(name).build([value]) for name, value in values.items()}

    def scatter(self, name: str) -> Scatter:
        """Return the step that brings a parameter or buffer into its shape before."""
        return Scatter.keeping(name, self.shapes[name], dict(enumerate(self.kept[name])))


def prune_channels(
    module: Any,
    task: Task,
    *,
    share: float,
    criterion: str = "norm",
    scope: str = "global",
    keep: Collection[str] = (),
    most: float = 0.9,
    batches: int | None = None,
    seed: int = 0,
) -> PrunedModule:
    """Remove the output channels that matter least, and everything that depends on them.

    First, each group of layers that share channels is tried: only those stay in the game where the smaller network
    computes what the full one computes with zeros in place of the removed values. That protects the output, and
    whatever the graph gets wrong, such as a normalisation over channels. Where groups get in each other's way, the
    first comes first, and fewer channels go than asked for.

    Args:
        module: ``torch.nn.Module`` that autograd can trace; not changed.
        task: its first batch is run through the network to find the graph.
        share: 0..1, exclusive of 1; share of the channels to remove (of the open groups; rounded by torch-pruning).
        criterion: ``"norm"``: 2-norms of weights. ``"batch_norm"``: scales of batch norms; groups without are left
            alone. ``"sensitivity"``: first-order change of the loss (without a loss: root of value times squared
            gradient, see :func:`squared_gradients`).
        scope: ``"global"``: one ranking; ``"layer"``: the same share of each group.
        keep: names of layers to leave alone.
        most: largest share of any one group, above 0.
        batches: see :func:`squared_gradients`.
        seed: see :func:`squared_gradients`.

    Raises:
        InvalidConfig: an option is out of range, the task has no batches, or torch-pruning is not installed.
        InvalidModel: ``keep`` names no layer.
        RecipeError: no channel can be removed, or the graph cannot be found.

    Source: G. Fang et al., 2023, for the graph of dependent layers; Z. Liu et al., 2017, for batch-norm scales;
    P. Molchanov et al., 2019, for first-order changes.
    """
    if not (0 <= share < 1 and 0 < most <= 1) or criterion not in CRITERIA or scope not in ("global", "layer"):
        raise InvalidConfig(f"share is 0..1, most 0..1, criterion one of {CRITERIA}, scope 'global' or 'layer'")
    if importlib.util.find_spec("torch_pruning") is None:
        raise InvalidConfig("pruning needs the package torch-pruning: pip install 'netpress[prune]'")
    original = copy.deepcopy(module).eval()
    layers = dict(original.named_modules())
    for name in keep:
        if name not in layers:
            raise InvalidModel("is not a layer of the network", tensor=name)
    batch = next(iter(batches_of(task, 1)), None)
    if batch is None:
        raise InvalidConfig(f"task {task.name!r} has no batches")
    gradients = None
    if criterion == "sensitivity":
        gradients = _importance_gradients(original, task, batches, seed)
    protected = list(keep)
    if share > 0:
        protected += _unsafe_layers(original, task, batch, keep)
    network = copy.deepcopy(original)
    _set_gradients(network, gradients)
    history: History = []
    if share > 0:
        options = {"pruning_ratio": share, "global_pruning": scope == "global", "max_pruning_ratio": most}
        pruner = _pruner(network, task, batch, protected, criterion, **options)
        with _without_warnings():
            for group in pruner.step(interactive=True):
                group.prune()
        history = pruner.DG.pruning_history()
        if not history:
            raise RecipeError(f"task {task.name!r}: no channel of the network can be removed")
    result = _pruned(original, task, batch, history, protected)
    if result is None:  # groups that are safe one by one are not so together: shortcuts that pad channels, say
        history, dropped = _compatible(original, task, batch, history)
        result = _pruned(original, task, batch, history, [*protected, *dropped])
    if result is None or (share > 0 and not history):
        raise RecipeError(f"task {task.name!r}: no channel of the network can be removed")
    return result


def _pruned(
    original: Any, task: Task, batch: Batch, history: History, protected: Collection[str]
) -> PrunedModule | None:
    """Return the network without the channels of a history, or None if it does not compute what it should."""
    try:
        network = copy.deepcopy(original)
        _replay(network, task, batch, history)
        kept = _kept_positions(original, network, task, batch, history)
        result = PrunedModule(network, kept, _shapes(original), tuple(protected))
        is_safe = _computes_the_same(original, result, task, batch)
    except Exception:  # torch-pruning fails in many ways on what it cannot follow; all of them mean no
        return None
    for parameter, before in zip(network.parameters(), original.parameters(), strict=True):
        parameter.requires_grad_(before.requires_grad)
        parameter.grad = None
    return result if is_safe else None


def _compatible(original: Any, task: Task, batch: Batch, history: History) -> tuple[History, list[str]]:
    """Return the steps that work together, found one after the other, and the layers of the others."""
    accepted: History = []
    dropped = []
    for step in history:
        if _pruned(original, task, batch, [*accepted, step], ()) is None:
            dropped.append(step[0])
        else:
            accepted.append(step)
    return accepted, dropped


def _pruner(network: Any, task: Task, batch: Batch, protected: Collection[str], criterion: str, **options: Any) -> Any:
    """Return torch-pruning's pruner of a network."""
    import torch_pruning

    importances = {
        "norm": torch_pruning.importance.GroupMagnitudeImportance,
        "batch_norm": torch_pruning.importance.BNScaleImportance,
        "sensitivity": torch_pruning.importance.GroupTaylorImportance,
    }
    layers = dict(network.named_modules())
    network.requires_grad_(True)  # its graph is that of autograd
    with _without_warnings():
        return torch_pruning.pruner.BasePruner(
            network,
            batch,
            importance=importances[criterion](),
            forward_fn=task.output,
            ignored_layers=[layers[name] for name in protected],
            in_channel_groups={},  # the defaults are dictionaries that all pruners would share
            out_channel_groups={},
            **options,
        )


def _unsafe_layers(original: Any, task: Task, batch: Batch, keep: Collection[str]) -> list[str]:
    """Try half of the channels of one group after another, and return the layers of those that fail."""
    import torch_pruning

    trial = copy.deepcopy(original)
    names = {layer: name for name, layer in trial.named_modules()}
    graph = _graph(trial, task, batch)
    roots = (torch_pruning.ops.TORCH_CONV, torch_pruning.ops.TORCH_LINEAR)
    ignored = [layer for layer, name in names.items() if name in keep]
    with _without_warnings():
        groups = list(graph.get_all_groups(ignored_layers=ignored, root_module_types=roots))
    unsafe: list[str] = []
    for group in groups:
        # Only what loses outputs: a layer that merely reads them may still lose its own.
        losing = [dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
        layers = [names[layer] for layer in losing if isinstance(layer, roots) and layer in names]
        step = (layers[0], True, _half(group))
        if _pruned(original, task, batch, [step], ()) is None:
            unsafe += [name for name in layers if name not in unsafe]
    return unsafe


def _half(group: Any) -> list[int]:
    """Return half of the channels of a group, as many in each part where a grouped convolution takes part."""
    channels = len(group[0].idxs)
    parts = 1
    for dep, _ in group:
        groups = getattr(dep.target.module, "groups", 1)
        if isinstance(groups, int) and 1 < groups < channels and channels % groups == 0:
            parts = max(parts, groups)
    size = channels // parts
    return [part * size + i for part in range(parts) for i in range(max(size // 2, 1))]


def _shapes(network: Any) -> dict[str, tuple[int, ...]]:
    """Return the shapes of parameters and buffers."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _kept_positions(
    original: Any, network: Any, task: Task, batch: Batch, history: History
) -> dict[str, tuple[npt.NDArray[np.int64], ...]]:
    """Return what is left of each dimension, by pruning a copy whose values are their own positions.

    ``network`` is the pruned one, whose shapes have to come out.
    """
    pruned = network.state_dict()
    tagged = copy.deepcopy(original)
    # The graph is traced while values are still real; only then are they replaced.
    graph = _graph(tagged, task, batch)
    for tensor in _tensors(tagged):
        tensor.data = _flat_positions(tensor)
    with _without_warnings():
        graph.load_pruning_history(history)
    shapes = _shapes(original)
    positions = {}
    for name, tensor in tagged.state_dict().items():
        if tensor.shape != pruned[name].shape:
            raise RecipeError(f"pruning {name!r} again gave another shape")
        positions[name] = _positions(tensor.cpu().numpy().astype(np.int64), shapes[name], name)
    return positions


def _tensors(network: Any) -> Iterator[Any]:
    """Yield the parameters and buffers of a network."""
    yield from network.parameters()
    yield from network.buffers()


def _flat_positions(tensor: Any) -> Any:
    """Return the position of each element in the flattened tensor, in a type that holds all of them exactly."""
    import torch

    return torch.arange(tensor.numel(), dtype=torch.float64, device=tensor.device).reshape(tensor.shape)


def _positions(flat: npt.NDArray[np.int64], shape: tuple[int, ...], name: str) -> tuple[npt.NDArray[np.int64], ...]:
    """Return the positions along each dimension of the elements that are left, which must form a grid."""
    if flat.ndim == 0:
        return ()
    parts = np.unravel_index(flat, shape)
    kept = []
    for dimension, part in enumerate(parts):
        rows = np.moveaxis(part, dimension, 0).reshape(part.shape[dimension], -1)
        if rows.size and not np.all(rows == rows[:, :1]):
            raise RecipeError(f"pruning {name!r} leaves other channels in each of its groups")
        kept.append(np.asarray(rows[:, 0] if rows.size else np.zeros(len(rows)), np.int64))
    return tuple(kept)


def _graph(network: Any, task: Task, batch: Batch) -> Any:
    """Return torch-pruning's graph of a network."""
    import torch
    import torch_pruning

    network.requires_grad_(True)
    try:
        with _without_warnings(), torch.enable_grad():
            return torch_pruning.DependencyGraph().build_dependency(network, batch, forward_fn=task.output)
    except Exception as error:  # it names no errors of its own
        reason = f"torch-pruning cannot follow the network: {type(error).__name__}: {error}"
        raise RecipeError(f"task {task.name!r}: {reason}") from error


def _replay(network: Any, task: Task, batch: Batch, history: History) -> None:
    """Remove the channels of a history from a network, in place."""
    graph = _graph(network, task, batch)
    with _without_warnings():
        graph.load_pruning_history(history)


def _computes_the_same(original: Any, pruned: PrunedModule, task: Task, batch: Batch) -> bool:
    """Whether the full network, with zeros in place of what is gone, has the outputs of the smaller one."""
    import torch

    full = copy.deepcopy(original)
    with torch.no_grad():
        values = pruned.full_state()
        for name, tensor in full.state_dict().items():
            tensor.copy_(torch.from_numpy(np.asarray(values[name])))
        wanted, actual = task.output(full, batch), task.output(pruned.module, batch)
    if wanted.shape != actual.shape:
        return False
    size = float(wanted.abs().max())
    return bool(torch.isfinite(wanted).all()) and bool(torch.allclose(actual, wanted, rtol=1e-4, atol=1e-5 * size))


def _importance_gradients(original: Any, task: Task, batches: int | None, seed: int) -> dict[str, Any]:
    """Return gradients that show how much each parameter matters."""
    if task.loss is not None:
        return dict(mean_gradients(original, task, batches=batches, seed=seed))
    squares = squared_gradients(original, task, batches=batches, seed=seed)
    return {name: np.sqrt(square) for name, square in squares.items()}


def _set_gradients(network: Any, gradients: dict[str, Any] | None) -> None:
    """Attach gradients to the parameters."""
    import torch

    if gradients is not None:
        for name, parameter in network.named_parameters():
            if name in gradients:
                parameter.grad = torch.from_numpy(gradients[name]).to(parameter)


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Hold torch-pruning's warnings back: their causes are checked afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
