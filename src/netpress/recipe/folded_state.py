"""The tensors of a network with its batch norms folded, for codecs that do not fold them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import nn

from netpress.transforms.batch_norm import find_blocks, fold

__all__ = ["folded_state"]

State = Mapping[str, npt.NDArray[Any]]


def folded_state(module: nn.Module, *, multiply: bool) -> tuple[State, State]:
    """Return the tensors of a network with folded batch norms, and what completes them, which need not be coded.

    Of each batch norm a factor and a bias remain, under the names of its weight and bias; the bias takes in that of the
    layer. The variance that completes them is such that nothing else happens: both together, loaded into the network,
    compute what it did. Batch norms that follow no layer stay as they are.

    Args:
        module: the network; not changed.
        multiply: multiply the factors into the weights of the layers.

    Returns:
        The tensors to code by name, float32 and int64, and the constants by name; the latter are empty where there is
        no batch norm to fold.
    """
    state = {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}
    rest: dict[str, npt.NDArray[Any]] = {}
    for block in find_blocks({name: value.shape for name, value in state.items()}, {}, module):
        gamma, beta, mean, var = (state[str(n)] for n in (block.bn_gamma, block.bn_beta, block.bn_mean, block.bn_var))
        bias = None if block.bias is None else state[block.bias]
        factor, offset = fold(gamma=gamma, beta=beta, mean=mean, var=var, epsilon=block.epsilon, bias=bias)
        state[str(block.bn_gamma)], state[str(block.bn_beta)] = factor, offset
        if multiply:
            weight = state[block.weight]
            state[block.weight] = weight * factor.reshape(-1, *(1,) * (weight.ndim - 1))
            rest[str(block.bn_gamma)] = np.ones_like(gamma)
        rest[str(block.bn_mean)] = np.zeros_like(mean)
        rest[str(block.bn_var)] = np.full_like(var, 1 - block.epsilon)
        if block.bias is not None:
            rest[block.bias] = np.zeros_like(offset)
        counter = str(block.bn_var).replace("running_var", "num_batches_tracked")
        if counter in state:
            rest[counter] = state[counter]
    return {name: value for name, value in state.items() if name not in rest}, rest
