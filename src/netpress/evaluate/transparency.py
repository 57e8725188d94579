"""The smallest stream that still does what the network did.

The transparent point is the coarsest setting that loses no more than the tolerance, while no finer one that was tried
loses more: :func:`transparent_count` says which settings that are. It is looked for by bisection
(:func:`coarsest_that_passes`), and between measured settings by interpolation (:func:`transparent_bytes`).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

import netpress
from netpress import InvalidConfig, Scores, Task
from netpress.compare import network_with
from netpress.evaluate.use_cases import counted_loss

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "TransparentPoint",
    "coarsest_that_passes",
    "decoded_network",
    "transparent_bytes",
    "transparent_count",
    "transparent_point",
]


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
    if task.model is None:
        raise InvalidConfig(f"task {task.name!r} has no model")
    return network_with(task.model(), netpress.decode(stream, reconstruct=True))


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
    float_metric = task.scores(original).value
    tried: dict[int, tuple[int, float]] = {}

    def attempt(qp: int) -> TransparentPoint:
        stream = encoder(original, qp)
        scores = task.scores(decoded_network(task, stream))
        loss = float_metric - scores.value if task.direction == "max" else scores.value - float_metric
        tried[qp] = (len(stream), loss)
        return TransparentPoint(qp, stream, scores, counted_loss(task, loss), tried)

    points = {finest: attempt(finest)}
    if points[finest].loss > tolerance:
        loss = points[finest].loss
        raise InvalidConfig(f"task {task.name!r}: at qp {finest} the loss is {loss:.4g} already, over {tolerance}")

    def passes(qp: int) -> bool:
        points[qp] = attempt(qp)
        return points[qp].loss <= tolerance

    known = {finest: True, coarsest + 1: False}
    best = coarsest_that_passes(passes, known, finest=finest, coarsest=coarsest)
    return points[finest if best is None else best]


def transparent_count(passes: Iterable[bool]) -> int:
    """Return how many settings are transparent: all before the first one that loses more than the tolerance.

    Args:
        passes: whether a setting loses no more than the tolerance; from the finest setting to the coarsest.
    """
    return sum(1 for _ in itertools.takewhile(bool, passes))


def transparent_bytes(points: Iterable[tuple[int, float]], tolerance: float) -> tuple[float, bool]:
    """Return the bytes at the transparent point, interpolated on logarithms of bytes, and whether that is only a bound.

    From the largest stream to the smallest, the loss counts as its largest value so far. Where the smallest stream
    still is within the tolerance, the bytes are its own, an upper bound; where the largest is not, they are NaN.

    Args:
        points: bytes and loss of streams, in any order; at least one.
        tolerance: the largest loss that is transparent.
    """
    ordered = sorted(points, key=lambda point: -point[0])
    sizes = np.log([size for size, _ in ordered])
    losses = np.maximum.accumulate([loss for _, loss in ordered])
    count = transparent_count(losses <= tolerance)
    if count == len(ordered):
        return float(np.exp(sizes[-1])), True
    if count == 0:
        return math.nan, True
    share = (tolerance - losses[count - 1]) / (losses[count] - losses[count - 1])
    return float(np.exp(sizes[count - 1] + share * (sizes[count] - sizes[count - 1]))), False


def coarsest_that_passes(
    passes: Callable[[int], bool],
    known: Mapping[int, bool],
    *,
    finest: int,
    coarsest: int,
    tries: int | None = None,
    stride: int = 4,
) -> int | None:
    """Return the largest parameter that passes while no finer one that was tried fails, by bisection.

    Args:
        passes: whether a parameter passes.
        known: what is known already, at least one parameter.
        finest, coarsest: bounds of what is tried.
        tries: most calls of ``passes``; None for as many as it takes.
        stride: how far to go, doubled each time, as long as all that is known passes, or nothing does.

    Returns:
        The parameter; None if nothing passes.
    """
    seen = dict(known)
    tries_left = math.inf if tries is None else tries
    while True:
        ordered = sorted(seen)
        count = transparent_count(seen[qp] for qp in ordered)
        good = ordered[count - 1] if count else None
        bad = ordered[count] if count < len(ordered) else None
        if bad is None:
            following = min(max(seen) + stride, coarsest)
        elif good is None:
            following = max(bad - stride, finest)
        else:
            following = (good + bad) // 2
        if following in seen or tries_left <= 0:
            return good
        seen[following] = passes(following)
        tries_left -= 1
        if good is None or bad is None:
            stride *= 2
