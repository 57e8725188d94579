"""Batch norm: fold it into the layer before it, and undo that at the decoder.

Folding replaces the four vectors of a batch norm by two: a factor per row of the weight (``alpha``, coded as local
scaling) and a bias (``delta``), so that ``alpha * (W x) + delta`` is what layer and batch norm computed together. The
layer that a batch norm belongs to is found in :mod:`netpress.transforms.batch_norm_pairs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel
from netpress.parameters import Block
from netpress.transforms.batch_norm_pairs import find_blocks, unpaired_batch_norms

__all__ = [
    "BatchNormValues",
    "find_blocks",
    "fold",
    "fold_block",
    "unfold",
    "unfold_block",
    "unpaired_batch_norms",
]

Vector = npt.NDArray[np.float32]


class BatchNormValues(NamedTuple):
    """The four vectors of a batch norm, each float32 of shape ``(channels,)``."""

    gamma: Vector
    beta: Vector
    mean: Vector
    var: Vector


def fold(
    *,
    gamma: npt.NDArray[Any],
    beta: npt.NDArray[Any],
    mean: npt.NDArray[Any],
    var: npt.NDArray[Any],
    epsilon: float,
    bias: npt.NDArray[Any] | None = None,
    scaling: npt.NDArray[Any] | None = None,
    name: str | None = None,
) -> tuple[Vector, Vector]:
    """Fold a batch norm, in inference mode, into the layer before it.

    Args:
        gamma, beta, mean, var: float32 ``(channels,)``.
        epsilon: that of this batch norm, 0 or more.
        bias: float32 ``(channels,)``, the layer's own, or None for 0.
        scaling: float32 with ``channels`` elements, the layer's local scaling, or None for 1.
        name: name of the weight, for errors.

    Returns:
        ``(alpha, delta)``, float32 ``(channels,)``, new arrays. With ``g = gamma / sqrt(var + epsilon)``:
        ``alpha = scaling * g`` and ``delta = (bias - mean) * g + beta``, every operation in binary32.

    Raises:
        InvalidModel: the lengths differ, or ``var + epsilon`` is not positive everywhere.

    Source: batch-norm folding of the standard's encoder; each batch norm with its own epsilon, unlike the reference.
    """
    members = [gamma, beta, mean, var, *(m for m in (bias, scaling) if m is not None)]
    if any(m.size != gamma.size for m in members):
        raise InvalidModel(f"batch-norm members of sizes {[m.size for m in members]} do not fit", tensor=name)
    gamma32, beta32, mean32, var32 = (_vector(m) for m in (gamma, beta, mean, var))
    shifted = var32 + np.float32(epsilon)
    if not bool(np.all(shifted > 0)):
        raise InvalidModel("a batch-norm variance plus epsilon is not positive", tensor=name)
    g = gamma32 / np.sqrt(shifted)
    own_bias = np.float32(0.0) if bias is None else _vector(bias)
    alpha = g if scaling is None else _vector(scaling) * g
    delta = (own_bias - mean32) * g + beta32
    return alpha, delta


def unfold(
    delta: npt.NDArray[Any], *, epsilon: float, alpha: npt.NDArray[Any] | None = None, name: str | None = None
) -> BatchNormValues:
    """Return batch-norm vectors with which the original batch norm computes ``alpha * x + delta``.

    A batch norm computes ``gamma * (x - mean) / sqrt(var + epsilon) + beta``. With ``mean = 0``, ``beta = delta`` and
    ``var = 1 - epsilon`` the root is 1 (binary32 rounds ``var + epsilon`` to 1 or to a neighbour of it), so
    ``gamma = alpha`` makes it ``alpha * x + delta``. Setting ``var = 1`` instead, as is often done, leaves a factor of
    ``1 / sqrt(1 + epsilon)``. The decoded weight stays as it is, and folding the result again gives the same ``alpha``
    and ``delta``. For an epsilon of 1 or more, ``var = 0`` and ``gamma = alpha * sqrt(epsilon)``.

    The layer's own bias has to be 0: see :func:`unfold_block`.

    Args:
        delta: float32 ``(channels,)``, the folded bias.
        epsilon: that of the batch norm that is to be filled.
        alpha: float32 with ``channels`` elements, the folded scaling; None if it is multiplied into the weight already.
        name: name of the weight, for errors.

    Returns:
        New float32 arrays of shape ``(channels,)``.

    Raises:
        InvalidModel: the lengths differ or ``epsilon`` is negative.

    Source: unfolding in the standard's reconstruction, with other vectors than the reference to lose nothing.
    """
    if alpha is not None and alpha.size != delta.size:
        raise InvalidModel(f"a folded bias of {delta.size} does not fit a scaling of {alpha.size}", tensor=name)
    if not epsilon >= 0:
        raise InvalidModel(f"the epsilon of a batch norm cannot be {epsilon}", tensor=name)
    beta = _vector(delta).copy()
    gamma = np.ones_like(beta) if alpha is None else _vector(alpha).copy()
    if epsilon < 1:
        var = np.full_like(beta, _complement(epsilon))
    else:
        var = np.zeros_like(beta)
        gamma = gamma * np.sqrt(np.float32(epsilon))
    return BatchNormValues(gamma, beta, np.zeros_like(beta), var)


def _complement(epsilon: float) -> np.float32:
    """Return the binary32 number whose binary32 sum with ``epsilon`` is nearest to 1."""
    nearest = np.float32(1.0 - epsilon)
    candidates = (nearest, np.nextafter(nearest, np.float32(0)), np.nextafter(nearest, np.float32(1)))
    return min(candidates, key=lambda v: abs(float(v + np.float32(epsilon)) - 1.0))


def _vector(values: npt.NDArray[Any]) -> Vector:
    """Return the values as a float32 vector, without a copy where they are one."""
    return values.astype(np.float32, copy=False).reshape(-1)


def fold_block(block: Block, values: Mapping[str, npt.NDArray[Any]]) -> tuple[Block, dict[str, Vector]]:
    """Fold the batch norm of a block.

    Args:
        block: a block with batch norm.
        values: the model's arrays by name; not changed.

    Returns:
        The block after folding (scaling and bias, no batch norm) and its two new arrays by name. The scaling is called
        ``<weight>_scaling``; the bias keeps the name of the layer's own, else it is ``<weight>.bias``. The names of
        the batch norm are to be dropped from the model.

    Raises:
        InvalidModel: the block has no batch norm, lacks an array, or its members do not fit.

    Source: batch-norm folding of the standard's encoder.
    """
    members = {role: getattr(block, f"bn_{role}") for role in BatchNormValues._fields}
    missing = [n for n in (*members.values(), block.bias, block.scaling) if n is not None and n not in values]
    if not block.has_batch_norm or missing:
        reason = f"lacks {missing}" if missing else "has no batch norm"
        raise InvalidModel(f"its block {reason}, so it cannot be folded", tensor=block.weight)
    alpha, delta = fold(
        **{role: values[name] for role, name in members.items()},
        epsilon=block.epsilon,
        bias=None if block.bias is None else values[block.bias],
        scaling=None if block.scaling is None else values[block.scaling],
        name=block.weight,
    )
    scaling, bias = block.scaling or f"{block.weight}_scaling", block.bias or f"{block.weight}.bias"
    folded = Block(block.weight, scaling, bias, dimensions=block.dimensions, epsilon=block.epsilon)
    return folded, {scaling: alpha, bias: delta}


def unfold_block(
    block: Block, *, delta: npt.NDArray[Any], alpha: npt.NDArray[Any] | None = None
) -> dict[str, npt.NDArray[np.float32]]:
    """Return all arrays, weight apart, that the original layer and batch norm need after decoding a folded block.

    Args:
        block: the block as it was before folding, with the names of the batch norm of the original model and its
            epsilon.
        delta: float32 ``(channels,)``, the decoded folded bias.
        alpha: float32 ``(channels,)``, the decoded folded scaling, if it is not yet multiplied into the weight.

    Returns:
        Name -> float32 ``(channels,)``: the four of the batch norm; zeros for the layer's own bias and ones for its own
        local scaling where the block names them. They replace the decoded scaling and bias; with the decoded weight,
        unchanged, the original module loads them strictly.

    Raises:
        InvalidModel: the block has no batch norm, or the lengths differ.

    Source: unfolding in the standard's reconstruction.
    """
    if not block.has_batch_norm:
        raise InvalidModel("its block has no batch norm to unfold into", tensor=block.weight)
    bn = unfold(delta, epsilon=block.epsilon, alpha=alpha, name=block.weight)
    unfolded = {str(getattr(block, f"bn_{role}")): vector for role, vector in bn._asdict().items()}
    if block.bias is not None:
        unfolded[block.bias] = np.zeros_like(bn.beta)
    if block.scaling is not None:
        unfolded[block.scaling] = np.ones_like(bn.beta)
    return unfolded
