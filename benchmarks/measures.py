"""How far a network with changed weights is from the float one: agreement, divergence, error of the outputs, metric.

    network = default_quality.load("mobilenetv2")
    print(measure(network, state))

A network (:class:`Network`) says what it computes from a dictionary of weights; everything else is here.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from netpress import Scores, evaluate

Array = npt.NDArray[Any]
State = Mapping[str, Array]
"""Tensors of a network by name."""
Heads = Mapping[str, Array]
"""Outputs of a network for one input, by name."""

WILSON, BOOTSTRAP = "Wilson", "bootstrap"


@dataclasses.dataclass(frozen=True)
class Result:
    """What a network computes.

    Attributes:
        outputs: one dictionary for each independent input.
        scores: of the metric, where there are labels; how those of the float network are aggregated does not count.
    """

    outputs: Sequence[Heads]
    scores: Scores | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """A network with inputs.

    Attributes:
        name: of the network.
        source: what netpress encodes: a torch module, or arrays by name.
        tensors: the float tensors.
        run: what the network computes with other values of its tensors; those that are missing keep theirs.
        agree: of the outputs of two networks for one input, how many decisions agree and how many there are. None: the
            network decides nothing.
        decisions: what is decided, in a word.
        logits: name of an output that holds logits, and the axis of its classes; None if there is none.
        has_softmax: whether that output holds probabilities instead.
        output_axes: axis of the output channels of weights that have it elsewhere than in front.
        reference: returns what the float network computes; None: by running it.
        metric, unit, direction: of the scores.
    """

    name: str
    source: Any
    tensors: State
    run: Callable[[State], Result]
    agree: Callable[[Heads, Heads], tuple[int, int]] | None = None
    decisions: str = ""
    logits: tuple[str, int] | None = None
    has_softmax: bool = False
    output_axes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    reference: Callable[[], Result] | None = None
    metric: str = ""
    unit: str = ""
    direction: str = "max"

    @functools.cached_property
    def float_result(self) -> Result:
        """What the float network computes."""
        return self.run(self.tensors) if self.reference is None else self.reference()

    @property
    def float_bytes(self) -> int:
        """Bytes of the float tensors in 32 bits."""
        return 4 * sum(value.size for value in self.tensors.values())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measures:
    """How far a network is from the float one.

    Attributes:
        inputs: that are independent of each other.
        decisions: of the float network.
        agreement: share of the decisions that are the same, 0 to 1; None if there are none.
        interval: bounds of the agreement, at 95 %.
        interval_method: ``"Wilson"`` where each input has one decision, else ``"bootstrap"`` over the inputs.
        relative_error: square root of the squared error of the outputs over their squared deviation from their mean,
            of logits from that of their class; of several outputs the root of the mean square.
        kl: Kullback-Leibler divergence from the float network in nats, the mean over the positions; None if the outputs
            are no logits.
        float_metric, metric: of the float network and of this one; None without labels.
        metric_standard_error: of the difference of the two, from resampling the samples in pairs.
    """

    inputs: int
    decisions: int
    agreement: float | None
    interval: tuple[float, float] | None
    interval_method: str
    relative_error: float
    kl: float | None
    float_metric: float | None
    metric: float | None
    metric_standard_error: float | None


def measure(network: Network, state: State) -> Measures:
    """Compare a network with other values of its tensors with the float one.

    Args:
        network: the network.
        state: values of its tensors by name; those that are missing keep theirs.
    """
    return compare(network, network.float_result, network.run(state))


def compare(network: Network, reference: Result, found: Result) -> Measures:
    """Compare what two networks computed."""
    agreement = interval = None
    decisions, method = 0, ""
    if network.agree is not None:
        pairs = zip(reference.outputs, found.outputs, strict=True)
        counts = np.array([network.agree(wanted, given) for wanted, given in pairs], np.float64)
        decisions = int(counts[:, 1].sum())
        if decisions:
            agreement = float(counts[:, 0].sum() / decisions)
            method = WILSON if (counts[:, 1] == 1).all() else BOOTSTRAP
            interval = wilson(int(counts[:, 0].sum()), decisions) if method == WILSON else bootstrap(counts)
    metric = float_metric = standard_error = None
    if found.scores is not None and reference.scores is not None:
        before = Scores(reference.scores.samples, found.scores.aggregate)
        metric, float_metric = found.scores.value, before.value
        if len(before.samples) > 1:
            standard_error = evaluate.standard_error(found.scores, before, resamples=200)
    return Measures(
        inputs=len(reference.outputs),
        decisions=decisions,
        agreement=agreement,
        interval=interval,
        interval_method=method,
        relative_error=relative_error(reference.outputs, found.outputs, network.logits),
        kl=_kl_of(network, reference.outputs, found.outputs),
        float_metric=float_metric,
        metric=metric,
        metric_standard_error=standard_error,
    )


def _kl_of(network: Network, reference: Sequence[Heads], found: Sequence[Heads]) -> float | None:
    if network.logits is None:
        return None
    head, axis = network.logits

    def logits(heads: Heads) -> Array:
        values = heads[head].astype(np.float64)
        return np.log(np.maximum(values, 1e-12)) if network.has_softmax else values

    pairs = zip(reference, found, strict=True)
    return float(np.mean([kl_divergence(logits(wanted), logits(given), axis) for wanted, given in pairs]))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the bounds of a share at 95 %, from independent trials.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference (1927).
    """
    z = 1.959964
    share, square = hits / count, z * z / count
    middle = share + square / 2
    half = z * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, (middle - half) / (1 + square)), min(1.0, (middle + half) / (1 + square))


def bootstrap(counts: Array, resamples: int = 1000) -> tuple[float, float]:
    """Return the bounds of a share at 95 %, from random choices of the inputs with replacement.

    Args:
        counts: of each input, hits and trials, (n, 2); trials of one input need not be independent.
        resamples: number of choices.
    """
    return evaluate.confidence_interval(Scores(counts, _share), resamples=resamples)


def _share(counts: Array) -> float:
    hits, trials = counts.sum(0)
    return float(hits / trials) if trials else 1.0


def relative_error(reference: Sequence[Heads], found: Sequence[Heads], classes: tuple[str, int] | None = None) -> float:
    """Return ``|y' - y| / |y - mean y|``; of several outputs the root of the mean square.

    Args:
        reference: outputs of the float network.
        found: those of another one.
        classes: name of an output, and its axis each entry of which has a mean of its own.
    """
    squares = []
    for head in reference[0]:
        axis = classes[1] if classes is not None and classes[0] == head else None
        wanted, given = (_rows([heads[head] for heads in outputs], axis) for outputs in (reference, found))
        squares.append(np.sum((given - wanted) ** 2) / np.sum((wanted - wanted.mean(0)) ** 2))
    return float(np.sqrt(np.mean(squares)))


def _rows(arrays: Sequence[Array], axis: int | None) -> Array:
    """All values of some arrays, float64 (values, 1), or (positions, entries of an axis)."""
    parts = [
        np.reshape(a, (-1, 1)) if axis is None else np.moveaxis(a, axis, -1).reshape(-1, a.shape[axis]) for a in arrays
    ]
    return np.concatenate(parts).astype(np.float64)


def kl_divergence(reference: Array, found: Array, axis: int = -1) -> float:
    """Return the Kullback-Leibler divergence of the distributions that logits stand for in nats, the mean of all.

    Args:
        reference: logits of the float network.
        found: those of another one.
        axis: of the classes.
    """
    p, q = log_softmax(reference, axis), log_softmax(found, axis)
    return float(np.mean(np.sum(np.exp(p) * (p - q), axis)))


def same_decisions(decide: Callable[[Heads], Array]) -> Callable[[Heads, Heads], tuple[int, int]]:
    """Return a function that counts the equal decisions of two networks for one input.

    Args:
        decide: the decisions of a network, from its outputs for one input.
    """

    def agree(reference: Heads, found: Heads) -> tuple[int, int]:
        wanted, given = decide(reference), decide(found)
        return int(np.sum(wanted == given)), int(np.size(wanted))

    return agree


def same_boxes(detect: Callable[[Heads], Array], overlap: float = 0.5) -> Callable[[Heads, Heads], tuple[int, int]]:
    """Return a function that counts the boxes of two networks for one input that have a partner in the other.

    Args:
        detect: boxes (n, 6) of a network: class, score, x1, y1, x2, y2, the best first.
        overlap: intersection over union from which two boxes of a class are partners.
    """

    def agree(reference: Heads, found: Heads) -> tuple[int, int]:
        wanted, given = detect(reference), detect(found)
        left = list(range(len(given)))
        partners = 0
        for box in wanted:
            shares = {k: box_overlap(box[2:], given[k, 2:]) for k in left if given[k, 0] == box[0]}
            best = max(shares, key=lambda k: shares[k], default=None)
            if best is not None and shares[best] >= overlap:
                left.remove(best)
                partners += 1
        return 2 * partners, len(wanted) + len(given)

    return agree


def box_overlap(one: Array, other: Array) -> float:
    """Intersection over union of two boxes x1, y1, x2, y2."""
    shared = np.prod(np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0))
    union = np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared
    return float(shared / max(union, 1e-9))


def suppress(boxes: Array, overlap: float = 0.45) -> Array:
    """Leave out boxes (n, 6) that overlap with a better one of their class; returns the best first."""
    kept: list[Array] = []
    for box in boxes[np.argsort(-boxes[:, 1], kind="stable")]:
        if not any(box[0] == other[0] and box_overlap(box[2:], other[2:]) > overlap for other in kept):
            kept.append(box)
    return np.array(kept).reshape(-1, 6)
