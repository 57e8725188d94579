"""A promised quality: the smallest stream that keeps it, or the best quality within a number of bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy.typing as npt

from netpress.calibration.statistics import Calibration
from netpress.config import EncodeConfig
from netpress.errors import InvalidConfig
from netpress.parallel import Progress
from netpress.promise import Budget, Coder, CompressionResult, Search, Trial
from netpress.task import Scores, Task

__all__ = ["CompressionResult", "Trial", "compress"]


def compress(
    model: Any = None,
    *,
    evaluate: Callable[[Any], float | npt.NDArray[Any] | Scores] | None = None,
    max_drop: float | str | None = None,
    max_bytes: int | None = None,
    calibration: Calibration | Iterable[Any] | Callable[[], Iterable[Any]] | None = None,
    direction: str = "max",
    budget: int | str = 12,
    confidence: float = 0.8,
    verify: float = 0.0,
    task: Task | None = None,
    config: EncodeConfig | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> CompressionResult:
    """Find the smallest stream whose metric is hardly worse than that of the float network.

    Every trial is coded, decoded and evaluated; nothing is returned that was not. With calibration data (no labels) the
    weights of a torch module are quantised so that its outputs change least; otherwise with steps by the size of each.
    All trials together are judged by one curve, the drop as a function of the change of the outputs (or of the step,
    where there are no inputs), which makes the choice among many noisy trials a fair one. The search goes to where
    that curve passes the promise, and tries what lies around it with the evaluations that are left.

    Args:
        model: a torch module, or a dictionary of arrays (then ``evaluate`` gets one). None: that of ``task``.
        evaluate: returns the metric: a number, one score per sample, or :class:`Scores`. None: that of ``task``.
        max_drop: how much worse the metric may get: a number in its units, or a share of the float metric such as
            ``"0.5%"``.
        max_bytes: instead: the best metric within that many bytes.
        calibration: batches of inputs, or what :func:`netpress.calibrate` made of them. None: that of ``task``.
        direction: ``"max"`` if a higher metric is better, else ``"min"``. That of ``task`` if there is one.
        budget: most evaluations, the one of the float network included, at least 3; or a time such as ``"10min"``.
        confidence: 0.5..0.999. Where ``evaluate`` gives scores per sample, the mean drop of the stream over all
            samples like these must be within the limit with this probability, given what all trials scored, and within
            1.5 times of it with a higher one (0.97 for 0.8); 0.5 takes the middle of what is likely. Where it gives a
            number, the measured drop is the truth.
        verify: share of the samples, 0..0.9, kept apart from the search for a last look at what it chose. The smallest
            stream that is kept, and whose drop there is within the limit too, is taken.
        task: gives what the other arguments leave out.
        config: settings of the encoder; ``qp`` is what is searched. None: effort 8.
        progress: called with evaluations done, those allowed, and the last result.
        **options: fields of :class:`EncodeConfig`; they overrule ``config``.

    Returns:
        The stream, whether it keeps the promise (``met``), all trials and the curve through them.

    Raises:
        InvalidConfig: arguments contradict each other or are out of range.
        EvaluationFailed: ``evaluate`` raised an exception; its ``curve`` holds the trials until then.

    Example:
        >>> import numpy, netpress
        >>> weight = numpy.random.default_rng(0).normal(size=(64, 64)).astype("f4")
        >>> def error(model):
        ...     return float(numpy.square(model["w"] - weight).mean())
        >>> result = netpress.compress({"w": weight}, evaluate=error, max_drop=1e-3, direction="min")
        >>> result.met, result.metric <= 1e-3
        (True, True)
    """
    whole_task = task or Task(direction=direction)
    if evaluate is not None:
        whole_task = dataclasses.replace(whole_task, evaluate=evaluate)
    if model is None:
        if whole_task.model is None:
            raise InvalidConfig("there is no model: neither the call nor the task gives one")
        model = whole_task.model()
    if whole_task.evaluate is None:
        raise InvalidConfig("compress needs evaluate, a function that returns the metric of a model")
    if (max_drop is None) == (max_bytes is None):
        raise InvalidConfig("give either max_drop or max_bytes")
    if not 0.5 <= confidence <= 0.999:
        raise InvalidConfig(f"confidence is {confidence}, outside 0.5..0.999")
    if not 0 <= verify <= 0.9:
        raise InvalidConfig(f"verify is {verify}, outside 0..0.9")
    if verify and max_bytes is not None:
        raise InvalidConfig("verify is for max_drop: a number of bytes needs no samples")
    config = EncodeConfig.with_options(EncodeConfig(effort=8) if config is None else config, options)
    if config.is_reference or config.differences or config.qp is not None:
        raise InvalidConfig("compress searches the qp itself, of a whole model, without the reference preset")
    data = calibration if calibration is not None else whole_task.calibration_batches
    limits = Budget(budget)
    coder = Coder(model, whole_task, config, data)
    search = Search(
        coder,
        whole_task,
        limits,
        max_drop=max_drop,
        max_bytes=max_bytes,
        confidence=confidence,
        verify=verify,
        progress=progress,
    )
    return search.result()
