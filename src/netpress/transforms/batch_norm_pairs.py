"""Which layer a batch norm belongs to: by the data flow of a torch module, or by names, order and shapes."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from netpress.parameters import Block, Parameter, ParameterKind

__all__ = ["find_blocks", "row_factors", "unpaired_batch_norms"]


class _BatchNorm(NamedTuple):
    """Names of one batch norm found among the parameters."""

    path: str
    gamma: str
    beta: str
    mean: str
    var: str
    channels: int
    start: int


class _LayerBefore(NamedTuple):
    """Names of one layer found among the parameters; ``end`` is the position after its last member."""

    path: str
    weight: str
    bias: str | None
    scaling: str | None
    shape: tuple[int, ...]
    end: int


def find_blocks(
    shapes: Mapping[str, tuple[int, ...]],
    kinds: Mapping[str, ParameterKind],
    module: Any = None,
    *,
    epsilon: float = 1e-5,
    values: Mapping[str, npt.NDArray[Any]] | None = None,
    transposed: bool = False,
) -> list[Block]:
    """Pair each batch norm with the one layer whose output it normalises, where that is beyond doubt.

    With a torch module, the data flow decides as far as ``torch.fx`` can trace it (the module, else its children): a
    convolution or linear layer, called once, whose output nothing but the batch norm uses. What cannot be traced, and
    everything without a module, is decided by names and order: the batch norm directly follows the layer in the
    model, both in the same parent, and their names agree (``conv1`` and ``bn1``, ``0`` and ``1``, ``dw`` and
    ``dw_bn``, ``conv`` and ``norm``); a pattern of names (numbers left open) whose channels do not agree somewhere is
    trusted nowhere. If the names are merely sorted, as some files have them, the order tells nothing; then a pattern
    needs a layer that changes the number of channels, since a batch norm in front of its layer would not agree there.
    Without a module an activation between the two cannot be seen in names alone; ``values`` help to notice it.

    Args:
        shapes: name -> shape of all parameters, in the order of the model (``num_batches_tracked`` may be there).
        kinds: name -> kind; kinds of batch-norm members are used where given, and names otherwise.
        module: ``torch.nn.Module`` whose state dict has these names, or None.
        epsilon: for batch norms not found in ``module``, which tells its own.
        values: name -> array. A running mean without negative values (of at least 8 channels) is taken as that of an
            activation, so that batch norm is left unpaired unless the data flow proves the pair.
        transposed: the shapes of transposed convolutions of one group have their output channels first, as they will be
            coded; otherwise these layers are never paired.

    Returns:
        One block per pair, in the order of the layers; layers without batch norm are not listed. No name occurs in two
        blocks. See :func:`unpaired_batch_norms` for the rest.

    Source: block guessing of the reference encoder, which pairs by order and size alone; this one rather leaves a batch
    norm unpaired.
    """
    norms = {n.path: n for n in _batch_norms(shapes, kinds)}
    layers = {la.path: la for la in _layers(shapes, norms)}
    facts = _ModuleFacts() if module is None else _inspect(module, transposed=transposed)
    pairs: dict[str, str] = {}
    for layer_path, norm_path in facts.proven.items():
        if layer_path in layers and norm_path in norms and _fits(layers[layer_path], norms[norm_path]):
            pairs[layer_path] = norm_path
    guessed = _guess(
        [la for la in layers.values() if module is None or la.path in facts.layers],
        [n for n in norms.values() if module is None or n.path in facts.norms],
        has_order=not _is_sorted(shapes),
    )
    for layer_path, norm_path in guessed.items():
        if {layer_path, norm_path} & facts.decided or layer_path in pairs or norm_path in pairs.values():
            continue
        if values is None or not _looks_activated(values.get(norms[norm_path].mean)):
            pairs[layer_path] = norm_path
    return [
        _block(layer, norms[pairs[layer.path]], facts.norms.get(pairs[layer.path], epsilon))
        for layer in layers.values()
        if layer.path in pairs
    ]


def row_factors(parameters: Sequence[Parameter]) -> dict[str, npt.NDArray[np.float64]]:
    """Return what batch norms multiply the rows of the weights before them by: ``abs(gamma) / sqrt(var + 1e-5)``.

    Args:
        parameters: the model, in its order; values of batch norms are loaded, the new ones of an update.

    Returns:
        Weight name -> factors of shape ``(rows,)``, for the weights that names and shapes tell to be followed by a
        batch norm; see :func:`find_blocks`.
    """
    by_name = {p.name: p for p in parameters}
    blocks = find_blocks({p.name: p.shape for p in parameters}, {p.name: p.kind for p in parameters})

    def vector(name: str | None) -> npt.NDArray[np.float64]:
        p = by_name[str(name)]
        new = p.new
        return np.asarray(p.value if new is None else new, np.float64)

    return {
        block.weight: np.abs(vector(block.bn_gamma)) / np.sqrt(np.maximum(vector(block.bn_var), 0) + block.epsilon)
        for block in blocks
    }


def unpaired_batch_norms(
    shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, ParameterKind], blocks: Sequence[Block]
) -> list[str]:
    """Return the paths of the batch norms that no block names, in the order of the model.

    Args:
        shapes: as for :func:`find_blocks`.
        kinds: as for :func:`find_blocks`.
        blocks: what :func:`find_blocks` returned.

    Returns:
        Paths such as ``layer1.0.bn2``. A batch norm without gamma and beta is not a candidate and is not listed.
    """
    paired = {b.bn_mean for b in blocks}
    return [n.path for n in _batch_norms(shapes, kinds) if n.mean not in paired]


def _block(layer: _LayerBefore, norm: _BatchNorm, epsilon: float) -> Block:
    """Return the block of a pair."""
    return Block(
        weight=layer.weight,
        scaling=layer.scaling,
        bias=layer.bias,
        bn_beta=norm.beta,
        bn_gamma=norm.gamma,
        bn_mean=norm.mean,
        bn_var=norm.var,
        epsilon=epsilon,
    )


_ROLE_OF_LEAF = {
    "weight": "gamma",
    "gamma": "gamma",
    "bias": "beta",
    "beta": "beta",
    "running_mean": "mean",
    "moving_mean": "mean",
    "running_var": "var",
    "moving_variance": "var",
}
_ROLE_OF_KIND = {
    ParameterKind.BN_GAMMA: "gamma",
    ParameterKind.BN_BETA: "beta",
    ParameterKind.BN_MEAN: "mean",
    ParameterKind.BN_VAR: "var",
}


def _split(name: str) -> tuple[str, str]:
    """Return the path of the module that owns a parameter, and the parameter's own name."""
    path, _, leaf = name.rpartition(".")
    return path, leaf


def _batch_norms(shapes: Mapping[str, tuple[int, ...]], kinds: Mapping[str, ParameterKind]) -> Iterator[_BatchNorm]:
    """Yield the modules that own a gamma, beta, mean and variance of one length."""
    found: dict[str, dict[str, str]] = {}
    starts: dict[str, int] = {}
    for position, (name, shape) in enumerate(shapes.items()):
        path, leaf = _split(name)
        role = _ROLE_OF_KIND.get(kinds.get(name, ParameterKind.UNSPECIFIED)) or _ROLE_OF_LEAF.get(leaf)
        if role is not None and len(shape) == 1:
            found.setdefault(path, {}).setdefault(role, name)
            starts.setdefault(path, position)
    for path, roles in found.items():
        lengths = {shapes[name] for name in roles.values()}
        if len(roles) == 4 and len(lengths) == 1:
            yield _BatchNorm(path, **roles, channels=lengths.pop()[0], start=starts[path])


def _layers(shapes: Mapping[str, tuple[int, ...]], norms: Mapping[str, _BatchNorm]) -> Iterator[_LayerBefore]:
    """Yield the modules that own a weight of 2 or more dimensions and perhaps a bias and a scaling."""
    positions = {name: i for i, name in enumerate(n for n in shapes)}
    for name, shape in shapes.items():
        path, leaf = _split(name)
        if leaf not in ("weight", "kernel") or len(shape) < 2 or path in norms:
            continue
        bias = f"{path}.bias" if path else "bias"
        scaling = f"{name}_scaling"
        members = [n for n in (name, bias, scaling) if n in shapes]
        yield _LayerBefore(
            path,
            name,
            bias if bias in shapes and shapes[bias] == shape[:1] else None,
            scaling if scaling in shapes else None,
            tuple(shape),
            max(positions[n] for n in members) + 1,
        )


def _is_sorted(names: Iterable[str]) -> bool:
    """Whether parameters (counters apart) come in the order of their names, as from a file that sorts them."""
    relevant = [n for n in names if not n.endswith("num_batches_tracked")]
    return relevant == sorted(relevant)


def _fits(layer: _LayerBefore, norm: _BatchNorm) -> bool:
    """Whether the channels of a layer are those of a batch norm."""
    return layer.shape[0] == norm.channels


def _looks_activated(mean: npt.NDArray[Any] | None) -> bool:
    """Whether a running mean looks like that of the output of a rectifier: long, and nowhere negative."""
    return mean is not None and mean.size >= 8 and not bool(np.any(mean < 0)) and bool(np.any(mean > 0))


_NOT_A_PLAIN_LAYER = re.compile(r"deconv|transpose|convt|upconv|upsample|embed", re.IGNORECASE)
_LAYER_WORD = re.compile(r"convolution|conv|linear|dense|fc|lin", re.IGNORECASE)
_NORM_WORD = re.compile(r"batch_?norm|bnorm|bn|norm", re.IGNORECASE)


def _names_agree(layer: str, norm: str) -> bool:
    """Whether the names of a layer and a batch norm, both relative to their parent, say that they belong together."""
    if layer.isdecimal() or norm.isdecimal():
        return layer.isdecimal() and norm.isdecimal() and int(norm) == int(layer) + 1
    if not _NORM_WORD.search(norm) or _NORM_WORD.search(layer):
        return False
    rest = _NORM_WORD.sub("", norm, count=1).strip("_")
    return rest in (layer, _LAYER_WORD.sub("", layer, count=1).strip("_"))


def _guess(layers: Sequence[_LayerBefore], norms: Sequence[_BatchNorm], *, has_order: bool) -> dict[str, str]:
    """Pair by names, and by order if the model has one: layer path -> batch-norm path."""
    by_end = {la.end: la for la in layers}
    by_parent: dict[str, list[_LayerBefore]] = {}
    for layer in layers:
        by_parent.setdefault(_split(layer.path)[0], []).append(layer)
    pairs: dict[str, tuple[str, str]] = {}
    distrusted: set[str] = set()
    evident: set[str] = set()
    for norm in norms:
        parent, leaf = _split(norm.path)
        before = by_end.get(norm.start)
        candidates = by_parent.get(parent, []) if not has_order else [before] if before is not None else []
        candidates = [
            la for la in candidates if _split(la.path)[0] == parent and _names_agree(_split(la.path)[1], leaf)
        ]
        if len(candidates) != 1 or _NOT_A_PLAIN_LAYER.search(candidates[0].path):
            continue
        layer = candidates[0]
        own_name = _split(layer.path)[1]
        pattern = re.sub(r"\d+", "#", f"{parent}.{own_name}|{leaf}")
        if not _fits(layer, norm) or layer.path in pairs:
            distrusted.add(pattern)
            continue
        pairs[layer.path] = (norm.path, pattern)
        if has_order or own_name.isdecimal() or own_name in leaf or layer.shape[1] not in (1, layer.shape[0]):
            evident.add(pattern)
    return {layer: norm for layer, (norm, pattern) in pairs.items() if pattern in evident - distrusted}


# --------------------------------------------------------------------------------------------------------------------
# What a torch module tells


@dataclasses.dataclass
class _ModuleFacts:
    """Facts about a module by path.

    ``layers`` are those that may be folded into, ``norms`` the batch norms with their epsilon, ``decided`` all layers
    and batch norms whose data flow was traced and ``proven`` the pairs (layer -> batch norm) found there.
    """

    layers: set[str] = dataclasses.field(default_factory=set)
    norms: dict[str, float] = dataclasses.field(default_factory=dict)
    decided: set[str] = dataclasses.field(default_factory=set)
    proven: dict[str, str] = dataclasses.field(default_factory=dict)


def _inspect(module: Any, *, transposed: bool) -> _ModuleFacts:
    """Collect layers, batch norms and their data flow from a torch module, without running or changing it."""
    from torch import nn

    layer_types = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    upside_down = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    norm_types = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    facts = _ModuleFacts()
    for path, child in module.named_modules():
        hooked = bool(child._forward_hooks or child._forward_pre_hooks)
        if type(child) in upside_down and (child.groups > 1 or not transposed):
            continue
        if type(child) in (*layer_types, *upside_down) and not hooked:  # a subclass may compute anything
            facts.layers.add(path)
        elif type(child) in norm_types and not hooked:
            facts.norms[path] = float(child.eps)
    _trace(module, "", facts)
    return facts


def _trace(module: Any, prefix: str, facts: _ModuleFacts) -> None:
    """Record the pairs in the data flow of a module, or of its children where it cannot be traced."""
    from torch import fx

    if not any(True for _ in module.children()):
        return
    try:
        graph = fx.Tracer().trace(module)
    except Exception:  # tracing runs the module's own code, which may raise anything
        for name, child in module.named_children():
            _trace(child, f"{prefix}{name}.", facts)
        return
    calls: dict[str, list[Any]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            calls.setdefault(prefix + str(node.target), []).append(node)
    facts.decided.update(path for path in calls if path in facts.layers or path in facts.norms)
    for path, nodes in calls.items():
        if path not in facts.norms or len(nodes) != 1 or len(nodes[0].args) != 1:
            continue
        source = nodes[0].args[0]
        if getattr(source, "op", None) != "call_module" or len(source.users) != 1:
            continue
        layer = prefix + str(source.target)
        if layer in facts.layers and len(calls[layer]) == 1:
            facts.proven[layer] = path
