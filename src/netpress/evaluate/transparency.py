"""The smallest stream that still does what the network did."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

import netpress
from netpress import InvalidConfig, Scores, Task

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TransparentPoint", "decoded_network", "transparent_point"]


@dataclasses.dataclass(frozen=True, slots=True)
class TransparentPoint:
    """The coarsest setting whose loss is tolerated.

    Attributes:
        qp: the quantisation parameter.
        stream: the stream, as encoded.
        scores: the scores of the decoded network.
        loss: how much worse its metric is than that of the float network, in the unit of the metric; may be negative.
        tried: qp -> (bytes, loss) of all settings that were tried.
    """

    qp: int
    stream: bytes
    scores: Scores
    loss: float
    tried: dict[int, tuple[int, float]]


def decoded_network(task: Task, stream: bytes) -> nn.Module:
    """Return the network of a task with the weights of a stream."""
    import torch

    if task.model is None:
        raise InvalidConfig(f"task {task.name!r} has no model")
    module: nn.Module = task.model()
    state = {name: torch.from_numpy(np.asarray(value).copy()) for name, value in netpress.decode(stream).items()}
    module.load_state_dict(state, strict=True)
    return module


def transparent_point(
    task: Task,
    tolerance: float,
    *,
    finest: int = -60,
    coarsest: int = -8,
    encode: Callable[[Any, int], bytes] | None = None,
) -> TransparentPoint:
    """Find the largest quantisation parameter at which the metric is worse by no more than ``tolerance``.

    It is found by bisection: the loss counts as growing with the parameter. Where it goes up and down about the
    tolerance, what is found is a parameter that passes while the next one does not.

    Args:
        task: a task with ``model`` and ``evaluate``.
        tolerance: largest loss, in the unit of the metric, 0 or more.
        finest: smallest parameter to consider.
        coarsest: largest parameter to consider.
        encode: makes a stream of the network at a parameter; None for :func:`netpress.encode` and its defaults.

    Raises:
        InvalidConfig: the task lacks something, or the loss is too large at the finest parameter already.
    """
    if task.model is None:
        raise InvalidConfig(f"task {task.name!r} has no model")
    encoder = encode or (lambda module, qp: netpress.encode(module, qp=qp))
    original = task.model()
    wanted = task.scores(original).value
    tried: dict[int, tuple[int, float]] = {}

    def attempt(qp: int) -> TransparentPoint:
        stream = encoder(original, qp)
        scores = task.scores(decoded_network(task, stream))
        loss = wanted - scores.value if task.direction == "max" else scores.value - wanted
        tried[qp] = (len(stream), loss)
        return TransparentPoint(qp, stream, scores, loss, tried)

    best, too_coarse = attempt(finest), coarsest + 1
    if best.loss > tolerance:
        raise InvalidConfig(f"task {task.name!r}: at qp {finest} the loss is {best.loss:.4g} already, over {tolerance}")
    while too_coarse - best.qp > 1:
        point = attempt((best.qp + too_coarse) // 2)
        if point.loss <= tolerance:
            best = point
        else:
            too_coarse = point.qp
    return best
