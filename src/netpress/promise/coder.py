"""Streams of one model at any qp, the models of streams, and what became of their outputs."""

from __future__ import annotations

import dataclasses
import math
import warnings
from typing import Any

from netpress.api import decode, encode
from netpress.bitstream.reader import NetpressWarning
from netpress.calibration.statistics import Calibration
from netpress.compare import OutputChange, has_batch_norms, network_with, output_change
from netpress.config import EncodeConfig
from netpress.errors import InvalidConfig
from netpress.task import Batch, Task, inputs_of

__all__ = ["Coder"]

# The same ones for all trials: so many show which is worse with hardly any noise.
_COMPARED_SAMPLES = 512


class Coder:
    """Makes streams of one model at any qp, and models of streams.

    Args:
        model: a torch module, or a dictionary of arrays.
        task: says how the network is run, and what its outputs are.
        config: settings of the encoder, without qp.
        data: batches of inputs, what :func:`netpress.calibrate` made of them, or None.

    Attributes:
        float_bytes: of the model.

    Raises:
        InvalidConfig: there are batches but no torch module, or they can be run through only once.
    """

    def __init__(self, model: Any, task: Task, config: EncodeConfig, data: Any) -> None:
        from netpress.formats import open_source

        self.model, self.config = model, config
        with open_source(model) as source:
            self.is_module = source.torch_module is not None
            self.shapes = {name: source.shape(name) for name in source.names}
            self.float_bytes = sum(math.prod(shape) * 4 for shape in self.shapes.values())
        # Inputs on which outputs are compared: those of the calibration, else those for comparisons.
        self._task: Task | None = None
        if data is not None and not isinstance(data, Calibration):
            if not self.is_module:
                raise InvalidConfig("calibration batches need a torch module; or give a Calibration")
            from netpress.calibration.measured import calibrate

            task = dataclasses.replace(task, calibration_batches=data)
            self._task = _comparing(task, "calibration")
            data = calibrate(model, task.batches("calibration"), forward=task.output, outputs=task.outputs)
        elif self.is_module and task.evaluation_batches is not None:
            self._task = _comparing(task, "evaluation")
        self.calibration: Calibration | None = data
        if self.is_module and has_batch_norms(model):
            self.config = config.replace(fold_batch_norm=True)

    def encode(self, qp: int) -> bytes:
        """Return the stream at a qp: that of a weight of average sensitivity, or size without data."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NetpressWarning)  # of too coarse steps: the metric tells
            if self.calibration is None:
                return encode(self.model, self.config, qp=qp, allocation="size")
            return encode(self.model, self.config, calibration=self.calibration, qp=qp)

    def decoded(self, data: bytes) -> Any:
        """Return the model of a stream, in the form of the one that was given."""
        state = decode(data, reconstruct=True)
        if not self.is_module:
            return state
        return network_with(self.model, state)

    def change(self, model: Any) -> OutputChange | None:
        """Return how the outputs of a decoded model differ from those of the float network; None without inputs."""
        return None if self._task is None else output_change(self._task, self.model, model)


def _comparing(task: Task, which: str) -> Task:
    """A task whose evaluation batches are the first batches of some kind, of about as many samples as are needed."""
    batches: list[Batch] = []
    count = 0
    for batch in task.batches(which):
        batches.append(batch)
        count += len(inputs_of(batch))
        if count >= _COMPARED_SAMPLES:
            break
    return dataclasses.replace(task, evaluation_batches=batches)
