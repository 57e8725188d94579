"""What a sweep finds about a task, in plain data: the store keeps it, reports show it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

__all__ = ["GROUPS", "Interval", "Measurement", "TaskResults", "TaskSummary", "TensorDetail"]

GROUPS = ("sweep", "transparent", "ablation", "coder")
"""``sweep``: a tool at one of its settings. ``transparent``: the smallest of a tool within the tolerance of the task.
``ablation``: netpress with one of its tools off. ``coder``: the same integers in the hands of a general coder."""

Interval = tuple[float, float]
"""Bounds of a value at 95 % confidence, as far as the choice of samples goes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """One tool at one setting on one task.

    Attributes:
        group: one of :data:`GROUPS`.
        tool: who made the bytes, e.g. ``"netpress"``, ``"netpress, calibrated"``, ``"NNCodec DQ + opt_qp"``.
        setting: the setting in words, e.g. ``"qp -30"``.
        options: the setting for programs; it repeats the measurement.
        size: bytes of the file, with everything that it takes to have the network back; None if the tool failed.
        metric: the metric of the decoded network, in the unit of the task; None where it was not measured.
        metric_interval: bounds of the metric.
        loss: how much worse the metric is than that of the float network, in its unit; negative if better.
        loss_interval: bounds of the loss, from the same samples in pairs.
        divergence: of the outputs from those of the float network (:func:`netpress.evaluate.divergence`).
        encode_seconds, decode_seconds: wall-clock time.
        memory: bytes of the decoded network's tensors.
        keeps_topology: whether the original network loads the result.
        error: why there is no result.
    """

    group: str
    tool: str
    setting: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    size: int | None = None
    metric: float | None = None
    metric_interval: Interval | None = None
    loss: float | None = None
    loss_interval: Interval | None = None
    divergence: float | None = None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    memory: int | None = None
    keeps_topology: bool = True
    error: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorDetail:
    """One tensor of a stream.

    Attributes:
        name: as the network names it.
        shape: its dimensions.
        size: bytes of its data unit.
        edges: bounds of the bins of the histograms, one more than bins; empty if there is none.
        before, after: values in each bin, of the float network and of the decoded one.
    """

    name: str
    shape: tuple[int, ...]
    size: int
    edges: tuple[float, ...] = ()
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """A task and its float network.

    Attributes:
        name: of the task.
        description: text by heading: use case, network, layers, data, source, licence, environment.
        metric, unit, direction: as in :class:`netpress.Task`.
        samples: number of samples that were evaluated.
        float_metric: of the network as it is.
        float_interval: its bounds.
        original_bytes: of the float tensors.
        parameters: number of values in them.
        tolerance: loss that counts as transparent, in the unit of the metric.
        reported_rate: the verification report's size at transparent quality, as a share of the original in words,
            e.g. ``"9-15 %"``; empty if it has none.
        reported_model: the network that the report had.
        reported_range: lowest and highest of the reported rates, as shares of the original, e.g. ``(0.09, 0.15)``.
        use_case: the row of the report that the task stands for; see :mod:`netpress.evaluate.use_cases`.
    """

    name: str
    description: Mapping[str, str]
    metric: str
    unit: str
    direction: str
    samples: int
    float_metric: float
    float_interval: Interval
    original_bytes: int
    parameters: int
    tolerance: float
    reported_rate: str = ""
    reported_model: str = ""
    reported_range: Interval | None = None
    use_case: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TaskResults:
    """All that was found about one task.

    Attributes:
        summary: the task.
        measurements: in the order in which they were made.
        details: the tensors of the stream at netpress's transparent point, or of its finest one if there is none.
        environment: versions, machine and date, by heading.
        error: why the task could not run; then the rest may be empty.
    """

    summary: TaskSummary
    measurements: tuple[Measurement, ...] = ()
    details: tuple[TensorDetail, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    error: str | None = None
