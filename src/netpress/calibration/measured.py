"""How much the error of each layer matters, measured: one layer quantised at a time, on samples kept apart.

Closed forms know the first order. They miss that feedback does better on the samples it was made from than on others
(where a layer has more inputs than there were samples, by an order of magnitude), and that errors do not stay small.

Source: docs/notes/calibrated-quantisation.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from netpress.bitstream.reader import NetpressWarning
from netpress.calibration import collect
from netpress.calibration.quantizer import layer_densities, quantize_model
from netpress.calibration.statistics import Calibration
from netpress.compare import OutputJudge
from netpress.parallel import Progress
from netpress.quantize.step_size import qp_for_step, step_size
from netpress.task import Batch, Task

__all__ = ["calibrate", "measure_densities", "with_densities"]

_QP_DENSITY = 2
_FIRST_QP = -20
_TARGET_DIVERGENCE = {"logits": 0.05, "values": 1e-3}
"""Divergence of the whole network at which layers are compared: large beside rounding, small enough to be of use. In
nats per sample, and as a share of the squared outputs."""
_MOST_TRIES = 5
_LARGEST_CORRECTION = 16.0
"""Largest correction of a sensitivity, as a factor: few samples cannot justify more."""
_MOST_PASSES = 8192
"""Layers times samples, about; more would take longer than they are worth."""
_FEWEST_SAMPLES = 16
_BATCHES_PER_ONE_APART = 4
"""One batch out of this many is kept apart."""


def calibrate(
    module: Any,
    batches: Iterable[Batch] | Callable[[], Iterable[Batch]],
    *,
    forward: Callable[[Any, Batch], Any] | None = None,
    outputs: str | None = None,
    sensitivities: bool = True,
    measure: bool = True,
    memory_bytes: int = collect.DEFAULT_MEMORY_BYTES,
    device: Any = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> Calibration:
    """Collect the statistics that calibrated quantisation needs, from unlabelled inputs.

    Every use of a weight in a product, a convolution (of any dimension, with groups, stride, dilation; transposed) or a
    look-up is seen, whatever layer it belongs to: linear and convolutional layers, attention, LSTM and GRU cells,
    embeddings. Weights that are used otherwise are named in a warning.

    Args:
        module: the network; put into inference mode for the time, its parameters are not changed.
        batches: inputs, as a task has them; preferably four batches or more. A few hundred samples are enough.
        forward: runs the network on a batch and returns its output tensor; None: calls it with the inputs of the batch.
        outputs: ``"logits"`` (classes in the last dimension, or in dimension 1 of an image) or ``"values"``. Tells what
            the divergence of two outputs is: that of Kullback and Leibler between the distributions, or half the
            squared difference. None means ``"logits"``, while a :class:`netpress.Task` that does not say it returns
            ``"values"``.
        sensitivities: also collect how much each layer and row matters, which needs a backward pass.
        measure: correct the sensitivities by what quantising one layer after the other does on every fourth batch,
            before those batches join the statistics. Takes about as many forward passes as there are layers; with
            less than four batches nothing is measured.
        memory_bytes: for all moments together. Wide layers get moments of blocks of their inputs if need be.
        device: where to run, such as ``"cuda"``; the module returns to where it was. None: where it is.
        progress: called with what is done, in samples and 0 for the unknown total or in layers and their number, and
            words for it.
        seed: of the random choices.

    Returns:
        The statistics, with numpy arrays only.

    Raises:
        InvalidModel: inputs of a layer are infinite or undefined; names the weight.
        InvalidConfig: there are no batches, or ``outputs`` is unknown.
    """
    apart: list[Batch] = []

    def others() -> Iterator[Batch]:
        for place, batch in enumerate(batches() if callable(batches) else batches):
            if place % _BATCHES_PER_ONE_APART == _BATCHES_PER_ONE_APART - 1:
                apart.append(batch)
            else:
                yield batch

    options: dict[str, Any] = {
        "forward": forward,
        "outputs": outputs,
        "sensitivities": sensitivities,
        "memory_bytes": memory_bytes,
        "device": device,
        "progress": progress,
        "seed": seed,
    }
    if not (measure and sensitivities):
        return collect.collect_statistics(module, batches, **options)
    statistics = collect.collect_statistics(module, others, **options)
    if not apart:
        return statistics
    with _at(module, device):
        densities = measure_densities(
            module, statistics, apart, forward=forward, outputs=outputs, memory_bytes=memory_bytes, progress=progress
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetpressWarning)  # it was said before
        statistics = statistics.merge(collect.collect_statistics(module, apart, **options))
    return with_densities(module, statistics, densities)


@contextlib.contextmanager
def _at(module: Any, device: Any) -> Iterator[None]:
    """Have the network on a device for a while."""
    home = next((parameter.device for parameter in module.parameters()), None)
    if device is not None:
        module.to(device)
    try:
        yield
    finally:
        if home is not None:
            module.to(home)


def measure_densities(
    module: Any,
    calibration: Calibration,
    batches: Sequence[Batch],
    *,
    forward: Callable[[Any, Batch], Any] | None = None,
    outputs: str | None = None,
    memory_bytes: int = collect.DEFAULT_MEMORY_BYTES,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Return what quantising each layer does to the outputs, per weight and squared step.

    The layers are quantised as :func:`netpress.quantize_model` does it, at steps that together make a divergence of
    about 0.05 nats, or an error of 0.1 % of the squared values (if not so coarse that weights vanish), and the network
    runs with one of them at a time.

    Args:
        module: the network, a torch module in inference mode; unchanged.
        calibration: with sensitivities, from other samples than these.
        batches: inputs that the calibration has not seen. Some are left out where there are many layers.
        forward, outputs: as for :func:`netpress.calibrate`.
        memory_bytes: for the outputs of the float network; fewer batches are used where they take more.
        progress: called with layers done, their number, and the name of the weight.

    Returns:
        By name of the weight; without layers on which nothing depends. The unit is the same for all, and arbitrary.
    """
    names = [name for name, value in layer_densities(module, calibration).items() if value > 0]
    task = Task(name="calibration", forward=forward, outputs=outputs or "logits")
    judge = _Judge(module, task, _few(batches, len(names)), memory_bytes)
    levels = judge.quantized(calibration)
    measured: dict[str, float] = {}
    for done, name in enumerate(names):
        if progress is not None:
            progress(done, len(names), name)
        tensor = levels[name]
        divergence = judge.divergence({name: tensor.values(_QP_DENSITY)})
        measured[name] = divergence / (tensor.levels.size * step_size(tensor.qp, _QP_DENSITY) ** 2)
    return measured


def with_densities(module: Any, calibration: Calibration, measured: Mapping[str, float]) -> Calibration:
    """Return a calibration whose sensitivities agree with what was measured.

    Args:
        module: the network.
        calibration: of all samples.
        found: from :func:`measure_densities`.

    Returns:
        The calibration with each layer's sensitivity times a factor of at most 16 from the median; the mean of the
        logarithms of the factors over all weights is 0.
    """
    densities = layer_densities(module, calibration)
    ratios = {n: math.log(max(measured[n], 1e-300) / densities[n]) for n in measured if densities.get(n, 0) > 0}
    if not ratios:
        return calibration
    sizes = {name: float(parameter.numel()) for name, parameter in named_weights(module).items() if name in ratios}
    names = sorted(ratios, key=ratios.__getitem__)
    shares = np.cumsum([sizes[name] for name in names]) / sum(sizes.values())
    middle = ratios[names[int(np.searchsorted(shares, 0.5))]]
    limit = math.log(_LARGEST_CORRECTION)
    ratios = {name: min(max(ratio - middle, -limit), limit) for name, ratio in ratios.items()}
    mean = sum(sizes[name] * ratio for name, ratio in ratios.items()) / sum(sizes.values())
    layers = dict(calibration.layers)
    for name, ratio in ratios.items():
        sensitivity = layers[name].sensitivity
        assert sensitivity is not None  # else it had no density
        layers[name] = dataclasses.replace(layers[name], sensitivity=sensitivity * math.exp(ratio - mean))
    return dataclasses.replace(calibration, layers=layers)


def named_weights(module: Any) -> dict[str, Any]:
    """Return the parameters of a network under all their names."""
    return dict(module.named_parameters(remove_duplicate=False))


def _few(batches: Sequence[Batch], layers: int) -> list[Batch]:
    """Return as many batches as the passes have time for, but at least one."""
    enough = max(_FEWEST_SAMPLES, _MOST_PASSES // layers)
    chosen: list[Batch] = []
    samples = 0
    for batch in batches:
        chosen.append(batch)
        samples += _length(batch)
        if samples >= enough:
            break
    return chosen


def _length(batch: Batch) -> int:
    first = next(iter(batch.values())) if isinstance(batch, Mapping) else batch
    first = first[0] if isinstance(first, (tuple, list)) else first
    return len(first)


class _Judge(OutputJudge):
    """Finds the steps at which layers are compared."""

    def quantized(self, calibration: Calibration) -> dict[str, Any]:
        """Return the integers of all layers at steps that make about the divergence at which layers are compared."""
        coarsest = self._coarsest(calibration)
        qp, tried = min(_FIRST_QP, coarsest), set()
        while True:
            levels = quantize_model(self.module, calibration, qp=qp, qp_density=_QP_DENSITY)
            reached = self.divergence({name: levels[name].values(_QP_DENSITY) for name in calibration.layers})
            tried.add(qp)
            distance = round(_QP_DENSITY * math.log2(_TARGET_DIVERGENCE[self.task.outputs] / max(reached, 1e-9)))
            following = min(qp + min(max(distance, -12), 12), coarsest)
            if abs(distance) <= _QP_DENSITY or following in tried or len(tried) == _MOST_TRIES:
                return levels
            qp = following

    def _coarsest(self, calibration: Calibration) -> int:
        """Return the qp at which the step is the root mean square of the weights, in the mean of their logarithms."""
        weights = [self.tensors[name].double() for name in calibration.layers]
        logs = [0.5 * math.log(float(weight.square().mean()) + 1e-300) for weight in weights]
        sizes = [weight.numel() for weight in weights]
        return math.floor(qp_for_step(math.exp(float(np.average(logs, weights=sizes))), _QP_DENSITY))
