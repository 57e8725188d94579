"""Where to measure a tool: at parameters whose divergences lie in equal ratios over a span of interest."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from netpress.evaluate.judge import State
from netpress.evaluate.tools import Tool

__all__ = ["COARSEST_QP", "FINEST_QP", "LOGITS_SPAN", "CurveSampler", "Sample", "is_weight", "shift_of_size"]

FINEST_QP, COARSEST_QP = -100, 30
LOGITS_SPAN = (0.006, 0.12)
"""Nats. Half a point of accuracy is lost somewhere between these divergences."""

# Ends of other spans, as shares of the divergence at which the loss is the tolerance; and where all spans end.
_SPAN_STARTS, _SPAN_ENDS = 1 / 4, 5.0
_LARGEST_DIVERGENCE = 0.5
# The error doubles every two parameters or so.
_QPS_PER_OCTAVE = 2
_LONGEST_JUMP = 12
# A target that is farther away than this many octaves deserves more than the usual approaches.
_FAR_OCTAVES = 1.5
_MOST_APPROACHES = 5
# From this share of the divergence without any weights on, a coarser parameter tells nothing about finer ones.
_NOTHING_LEFT = 0.8
# Root mean square of weights at which the tools' first parameters are good ones.
_USUAL_WEIGHT = 0.05
_SMALLEST_SHIFT, _LARGEST_SHIFT = -40, 20
# Below this shift the weights are so small that they are an update of a network.
_SHIFT_OF_UPDATES = -12


@dataclasses.dataclass(frozen=True)
class Sample:
    """A measurement as the sampler sees it.

    Attributes:
        divergence: from the outputs of the float network, above 0.
        excess: the error as its loss tells, where 1 is that at the tolerance.
    """

    divergence: float
    excess: float = 1.0


class CurveSampler:
    """Chooses the parameters at which tools are measured, and learns from each tool where to begin with the next.

    Args:
        measure: measures a tool at a parameter; None if that fails.
        points: of a curve, at divergences in equal ratios.
        approaches: most measurements for each of them, if they come near it.
        span: lowest and highest divergence of interest; None to find it around the point where the loss of the first
            tool is the tolerance.
        shift: where to begin, as a difference from the tools' first parameters; see :func:`shift_of_size`.
        divergence_without_weights: what no tool exceeds for long; asked for only if the shift is that of an update.
    """

    def __init__(
        self,
        measure: Callable[[Tool, int], Sample | None],
        *,
        points: int,
        approaches: int,
        span: tuple[float, float] | None = None,
        shift: int = 0,
        divergence_without_weights: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.points, self.approaches, self.shift = points, approaches, shift
        self.samples: dict[str, dict[int, Sample]] = {}
        self._measure = measure
        self._span = span
        self._is_update = shift < _SHIFT_OF_UPDATES
        self._without_weights = divergence_without_weights
        self._most: float | None = None

    @property
    def span(self) -> tuple[float, float]:
        """Lowest and highest divergence of interest."""
        return self._span or LOGITS_SPAN

    @property
    def middle(self) -> float:
        """The divergence in the middle of the span."""
        low, high = self.span
        return math.sqrt(low * high)

    def sample(self, tool: Tool) -> None:
        """Measure a tool over the span; ends early at a measurement that fails.

        Args:
            tool: one whose parameter is free.
        """
        if self._span is None:
            self._span = self._found_span(tool)
        self._keep_below_no_weights()
        low, high = self.span
        if not self.samples.get(tool.name) and self._taken(tool, _within(tool.start + self.shift)) is None:
            return
        for target in np.geomspace(high, low, self.points):
            if not self.approach(tool, float(target)):
                return
        # Where the middle lies for one tool tells where to start with the next.
        self.shift = self.nearest(tool, self.middle)[0] - tool.start

    def approach(self, tool: Tool, target: float) -> bool:
        """Measure a tool ever nearer to a divergence.

        Args:
            tool: one that has been measured at least once.
            target: a divergence.

        Returns:
            Whether all measurements went well.
        """
        for attempt in range(_MOST_APPROACHES):
            nearest, octaves = self.nearest(tool, target)
            # Where all weights are zero, the target is far away.
            qp = _moved(nearest, octaves if self._has_weights(tool, nearest) else -math.inf)
            is_enough = attempt >= self.approaches and abs(octaves) < _FAR_OCTAVES
            if qp in self.samples[tool.name] or is_enough:
                return True
            if self._taken(tool, qp) is None:
                return False
        return True

    def nearest(self, tool: Tool, target: float) -> tuple[int, float]:
        """Return the measured parameter whose divergence is nearest to a target, and the octaves from it to there."""
        octaves = {qp: math.log2(target / found.divergence) for qp, found in self.samples[tool.name].items()}
        nearest = min(octaves, key=lambda qp: (abs(octaves[qp]), qp))
        return nearest, octaves[nearest]

    def _taken(self, tool: Tool, qp: int) -> Sample | None:
        known = self.samples.setdefault(tool.name, {})
        if qp not in known:
            sample = self._measure(tool, qp)
            if sample is None:
                return None
            known[qp] = sample
        return known[qp]

    def _found_span(self, tool: Tool) -> tuple[float, float]:
        """Divergences about the one at which a tool's loss is the tolerance."""
        qp, good, bad = tool.start + self.shift, None, None
        for _ in range(_MOST_APPROACHES):
            found = self._taken(tool, qp)
            if found is None:
                return LOGITS_SPAN
            if found.excess <= 1:
                good = qp if good is None else max(good, qp)
            else:
                bad = qp if bad is None else min(bad, qp)
            if good is None or bad is None:
                # Beyond the tolerance, to see its other side.
                octaves = -math.log2(found.excess)
                following = _moved(qp, octaves + (1 if octaves >= 0 else -1))
            else:
                following = (good + bad) // 2
            if following in self.samples[tool.name]:
                break
            qp = following
        known = self.samples[tool.name]
        sides = [math.log(known[side].divergence) for side in (good, bad) if side is not None]
        middle = math.exp(sum(sides) / len(sides))
        return middle * _SPAN_STARTS, min(middle * _SPAN_ENDS, _LARGEST_DIVERGENCE)

    def _keep_below_no_weights(self) -> None:
        """Move the span, once, below what an update without any weights diverges."""
        if self._most is None:
            self._most = self._without_weights() if self._is_update else math.inf
            low, high = self.span
            if self._most < 2 * high:
                self._span = (self._most / 2 * low / high, self._most / 2)

    def _has_weights(self, tool: Tool, qp: int) -> bool:
        """Whether something is left of the weights at a measured parameter, as far as the divergence tells."""
        return self.samples[tool.name][qp].divergence < _NOTHING_LEFT * (self._most or math.inf)


def shift_of_size(state: State) -> int:
    """Return what the size of the weights tells about where to begin, as a difference of quantisation parameters.

    Args:
        state: tensors of the float network by name.
    """
    weights = [value.astype(np.float64) for value in state.values() if is_weight(value)]
    squares = sum(float(np.square(value).sum()) for value in weights)
    count = sum(value.size for value in weights)
    if not 0 < squares < math.inf:
        return 0
    shift = round(4 * math.log2(math.sqrt(squares / count) / _USUAL_WEIGHT))
    return min(max(shift, _SMALLEST_SHIFT), _LARGEST_SHIFT)


def is_weight(value: npt.NDArray[np.generic]) -> bool:
    """Return whether a tensor is a float matrix, or has more dimensions."""
    return value.dtype.kind == "f" and value.ndim > 1


def _within(qp: int) -> int:
    return min(max(qp, FINEST_QP), COARSEST_QP)


def _moved(qp: int, octaves: float) -> int:
    """A parameter at which the error has grown by some octaves."""
    return _within(qp + round(min(max(_QPS_PER_OCTAVE * octaves, -_LONGEST_JUMP), _LONGEST_JUMP)))
