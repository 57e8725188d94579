"""A look at what a stream does to the outputs of the network, where inputs are at hand, and finer steps if need be.

The network runs on some inputs before and after. If the outputs change by more than they may, every weight is put into
the float network alone to see what it does; those that do most get finer steps until the whole fits.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream.reader import NetpressWarning
from netpress.compare import OutputChange, OutputJudge, inference, network_with, output_change
from netpress.config import EncodeConfig
from netpress.errors import InvalidConfig
from netpress.files import atomic_writer
from netpress.quantize.step_size import qp_range
from netpress.task import Batch, Task

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Check", "CheckResult", "CheckedStream", "checked"]

_LOG = logging.getLogger(__name__)

State = Mapping[str, npt.NDArray[Any]]

# Weights that are looked at one by one; the smaller ones change little, and are taken together.
_MOST_WEIGHTS = 64
# Aimed at below the bound, since errors do not add up quite as assumed.
_AIM = 0.9


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """How :func:`netpress.encode` looks at the outputs of a network.

    Args:
        inputs: a batch (a tensor or array, a tuple that starts with one, a dictionary of arguments), or a list of
            batches. Labels are not used.
        max_error: what the relative error of the outputs may be, above 0: the norm of the difference over the norm of
            the float outputs.
        trials: streams that are made, at least 1; 1 only reports.
        forward: runs the network on a batch and returns its output tensor. None: calls it with the inputs.
        outputs: ``"logits"`` or ``"values"``: what the outputs are. None: outputs of shape (samples, classes) are
            logits, for which the share of equal decisions is reported too.

    Raises:
        InvalidConfig: an option is out of range.
    """

    inputs: Any
    max_error: float = 0.05
    trials: int = 6
    forward: Callable[[Any, Batch], Any] | None = None
    outputs: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.max_error < math.inf:
            raise InvalidConfig(f"max_error is above 0, not {self.max_error}")
        if self.trials < 1:
            raise InvalidConfig(f"trials are at least 1, not {self.trials}")

    @classmethod
    def of(cls, check: Any) -> Check:
        """Return the check that a caller asks for, who may give its inputs only."""
        return check if isinstance(check, cls) else cls(inputs=check)

    def batches(self) -> list[Batch]:
        """Return the batches, arrays as tensors.

        Raises:
            InvalidConfig: there are none.
        """
        batches = [_tensors(b) for b in (self.inputs if isinstance(self.inputs, list) else [self.inputs])]
        if not batches:
            raise InvalidConfig("there are no inputs to check with")
        return batches


@dataclasses.dataclass(frozen=True)
class CheckResult:
    """What a check found.

    Attributes:
        change: how far the outputs are from those of the float network.
        kept: whether that is within ``max_error``.
        max_error: the bound.
        trials: streams that were made.
        finer: the qps of the tensors whose steps were made finer, by name.
    """

    change: OutputChange
    kept: bool
    max_error: float
    trials: int
    finer: Mapping[str, int]

    def __str__(self) -> str:
        """Return the result as a line for people."""
        text = str(self.change)
        if self.finer:
            text += f"; finer steps for {len(self.finer)} tensors"
        return text if self.kept else f"{text}; more than the {100 * self.max_error:.3g} % that were allowed"


class CheckedStream(bytes):
    """A stream with what its check found, in ``check``."""

    check: CheckResult

    @classmethod
    def of(cls, data: bytes, check: CheckResult) -> CheckedStream:
        """Return the stream with the result of its check."""
        stream = cls(data)
        stream.check = check
        return stream

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write the stream to a file, which appears when it is complete; return the number of bytes."""
        with atomic_writer(path) as file:
            file.write(self)
        return len(self)


def checked(
    module: nn.Module,
    check: Check,
    encode: Callable[[Mapping[str, int]], bytes],
    decode: Callable[[bytes], State],
    steps: Callable[[bytes], Mapping[str, int]],
    config: EncodeConfig,
) -> CheckedStream:
    """Return the first stream that changes the outputs as little as asked for, or the best of all trials.

    Args:
        module: the float network; unchanged.
        check: inputs and bound.
        encode: makes the stream with the qps of some tensors.
        decode: returns the model of a stream.
        steps: returns the qps in a stream by name of the tensor.
        config: settings of the streams.

    Raises:
        InvalidConfig: there are no inputs, or the network does not run on them.
    """
    judge = _Judge(module, check)
    qp_density = config.qp_density
    finest, _ = qp_range(qp_density, config.base_qp)
    finer: dict[str, int] = {}
    best: CheckedStream | None = None
    aim = check.max_error
    for trial in range(1, check.trials + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NetpressWarning)  # of too coarse steps: the outputs tell
            data = encode(finer)
        state = decode(data)
        change = judge.change(state)
        kept = change.relative_error <= check.max_error
        result = CheckResult(change, kept, check.max_error, trial, dict(finer))
        if best is None or change.relative_error < best.check.change.relative_error:
            best = CheckedStream.of(data, result)
        _LOG.info("trial %d: %d bytes, %s", trial, len(data), change)
        if kept or trial == check.trials or not math.isfinite(change.relative_error):
            break
        aim *= _AIM if trial == 1 else min(1.0, check.max_error / change.relative_error)
        qps = steps(data)
        for name, reduction in judge.reductions(state, qps, aim).items():
            if reduction > 0:
                finer[name] = max(qps[name] - max(1, math.ceil(reduction * (1 << qp_density))), finest)
    assert best is not None
    if not best.check.kept:
        warnings.warn(f"{best.check}", NetpressWarning, stacklevel=4)
    return best


class _Judge:
    """Runs the network with the values of a stream."""

    def __init__(self, module: nn.Module, check: Check) -> None:
        self.module = module
        self.task = Task(
            name="check",
            forward=check.forward,
            calibration_batches=check.batches(),
            outputs=check.outputs or "values",
        )
        try:
            with inference(module):
                first = self.task.output(module, next(iter(self.task.batches("calibration"))))
        except Exception as error:  # the network's own code
            what = f"the network does not run on the inputs of the check: {type(error).__name__}: {error}"
            raise InvalidConfig(what) from error
        if not hasattr(first, "ndim"):
            raise InvalidConfig(
                f"the network returns {type(first).__name__} and not a tensor; give a Check with a forward that does"
            )
        if check.outputs is None and first.ndim == 2 and first.shape[1] > 1:
            self.task = dataclasses.replace(self.task, outputs="logits")

    def change(self, state: State) -> OutputChange:
        """Return what all values of a stream change."""
        return output_change(self.task, self.module, network_with(self.module, state), "calibration")

    def reductions(self, state: State, qps: Mapping[str, int], aim: float) -> dict[str, float]:
        """Return by how many octaves the step of each tensor is to become finer for a relative error of ``aim``.

        Squared errors of tensors are taken to add up, and to fall by 4 per octave. Bits are then spent where they save
        most: what is left of the squared errors is proportional to the sizes.
        """
        names = sorted((n for n in state if n in qps), key=lambda n: -state[n].size)
        names = [n for n in names if state[n].ndim > 1][:_MOST_WEIGHTS]
        rest = [n for n in state if n in qps and n not in names]
        groups = {name: [name] for name in names} | ({rest[0]: rest} if rest else {})
        values = dataclasses.replace(self.task, outputs="values")
        judge = OutputJudge(self.module, values, values.batches("calibration"))
        errors = {key: judge.divergence({name: state[name] for name in members}) for key, members in groups.items()}
        sizes = {key: sum(state[name].size for name in members) for key, members in groups.items()}
        level = _water_level(errors, sizes, aim**2)
        result = {}
        for key, members in groups.items():
            if errors[key] > level * sizes[key]:
                octaves = 0.5 * math.log2(errors[key] / (level * sizes[key]))
                result.update(dict.fromkeys(members, octaves))
        return result


def _water_level(errors: Mapping[str, float], sizes: Mapping[str, int], total: float) -> float:
    """Return the level at which the sum of min(error, level * size) is ``total``; infinite if it is less anyway."""
    if sum(errors.values()) <= total:
        # They do not add up as assumed: all are to become finer.
        total = 0.5 * sum(errors.values())
    if total <= 0:
        return math.inf
    order = sorted(errors, key=lambda key: errors[key] / sizes[key])
    left, size = total, float(sum(sizes.values()))
    for key in order:
        if errors[key] * size >= left * sizes[key]:
            break
        left -= errors[key]
        size -= sizes[key]
    return left / size


def _tensors(batch: Any) -> Any:
    import torch

    if isinstance(batch, np.ndarray):
        return torch.from_numpy(np.ascontiguousarray(batch))
    if isinstance(batch, Mapping):
        return {key: _tensors(value) for key, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(_tensors(value) for value in batch)
    if isinstance(batch, Iterable):
        return batch
    raise InvalidConfig(f"inputs to check with are tensors, not {type(batch).__name__}")
