"""Runs a network over unlabelled inputs and collects what its layers see.

Source: docs/notes/calibrated-quantisation.md.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream.reader import NetpressWarning
from netpress.calibration.rows import RowMoments, split_batch
from netpress.calibration.statistics import COLUMNS, TABLE, Calibration, LayerStatistics
from netpress.compare import evaluation_mode
from netpress.errors import InvalidConfig, InvalidModel
from netpress.parallel import Progress
from netpress.task import Batch, Task

if TYPE_CHECKING:
    import torch

__all__ = ["DEFAULT_MEMORY_BYTES", "block_widths", "collect_statistics", "inference", "projected", "row_sensitivity"]

DEFAULT_MEMORY_BYTES = 2 << 30
_SMALLEST_BLOCK = 64
# Rows of which joint moments are kept.
_ROW_BLOCK = 1024
_SAMPLES_PER_GRADIENT = 8


def collect_statistics(
    module: torch.nn.Module,
    batches: Iterable[Batch] | Callable[[], Iterable[Batch]],
    *,
    forward: Callable[[Any, Batch], Any] | None = None,
    outputs: str | None = None,
    sensitivities: bool = True,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    device: Any = None,
    progress: Progress | None = None,
    seed: int = 0,
) -> Calibration:
    """Collect the statistics of :func:`netpress.calibrate` in one pass, with sensitivities in closed form.

    Args:
        progress: called with samples done, 0 for the unknown total, and the word "calibration".
        module, batches, forward, outputs, sensitivities, memory_bytes, device, seed: as there.

    Raises:
        InvalidModel: inputs of a layer are infinite or undefined; names the weight.
        InvalidConfig: there are no batches, or ``outputs`` is unknown.
    """
    import torch

    from netpress.calibration.observer import Observer

    outputs = "logits" if outputs is None else outputs
    if outputs not in ("logits", "values"):
        raise InvalidConfig(f"outputs are 'logits' or 'values', not {outputs!r}")
    task = Task(name="calibration", forward=forward, calibration_batches=batches)
    home = next((p.device for p in module.parameters()), torch.device("cpu"))
    target = home if device is None else torch.device(device)
    module.to(target)
    generator = torch.Generator().manual_seed(seed)
    parameters = {n: p for n, p in module.named_parameters() if p.is_floating_point()}
    weights = {n: p for n, p in parameters.items() if p.ndim > 1}
    # Sensitivities need the factors of the moments, too.
    blocks = block_widths(weights, memory_bytes // 2 if sensitivities else memory_bytes)
    observer = Observer(weights, blocks, generator)
    gradients = _Gradients(task, parameters, weights, outputs, generator) if sensitivities else None
    samples = 0
    try:
        with inference(module, parameters if sensitivities else {}):
            for batch in task.batches("calibration") if callable(batches) else batches:
                with torch.no_grad(), observer:
                    output = task.output(module, batch)
                samples += len(output)
                if gradients is not None:
                    gradients.see_inputs(observer, target)
                    gradients.add(module, batch, output)
                if progress is not None:
                    progress(samples, 0, "calibration")
    finally:
        module.to(home)
    if samples == 0:
        raise InvalidConfig("there are no calibration batches")
    return _calibration(module, observer.statistics(), gradients, samples)


@contextlib.contextmanager
def inference(module: Any, differentiated: Mapping[str, Any]) -> Iterator[None]:
    """Inference mode, with layers that show all their products; gradients of some parameters."""
    import torch

    required = {p: p.requires_grad for p in differentiated.values()}
    fast = torch.backends.mha.get_fastpath_enabled()
    for parameter in required:
        parameter.requires_grad_(True)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with evaluation_mode(module), _unfused(any(isinstance(m, torch.nn.RNNBase) for m in module.modules())):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for parameter, value in required.items():
            parameter.requires_grad_(value)


@contextlib.contextmanager
def _unfused(recurrent: bool) -> Iterator[None]:
    """Recurrent layers step by step; fused ones hide their states. Convolutions are faster with the libraries on."""
    import torch

    if not recurrent:
        yield
        return
    with warnings.catch_warnings(), torch.backends.cudnn.flags(enabled=False):
        # The flags of oneDNN include one that warns where it has no meaning.
        warnings.filterwarnings("ignore", message="TF32 acceleration")
        with torch.backends.mkldnn.flags(enabled=False):
            yield


def projected(output: Any, kind: str, generator: Any) -> Any:
    """Return the product of the outputs of a batch and a random projection, whose gradients tell sensitivities.

    The projections have the Fisher information of the outputs as their covariance, and are independent from sample to
    sample, so that the square of the gradient of some samples has the sum of their squares as its mean.

    Args:
        output: float tensor of any shape.
        kind: ``"logits"`` or ``"values"``.
        generator: the random generator.
    """
    import torch

    output = output.to(torch.float32)
    signs = torch.randint(0, 2, output.shape, generator=generator).to(output) * 2 - 1
    projection = signs
    if kind == "logits":
        axis = 1 if output.ndim == 4 else -1
        probabilities = output.detach().softmax(axis)
        roots = probabilities.sqrt()
        projection = roots * signs - probabilities * (roots * signs).sum(axis, keepdim=True)
    return (output * projection).sum()


class _Gradients:
    """Squared gradients of random projections of the outputs, and their moments over the rows of weights.

    The projections have the Fisher information of the outputs as their covariance, and are independent from sample to
    sample, so that the square of the gradient of some samples has the sum of their squares as its mean. Few samples at
    a time give many such gradients.
    """

    def __init__(
        self, task: Task, parameters: Mapping[str, Any], weights: Mapping[str, Any], outputs: str, generator: Any
    ) -> None:
        self._task, self._outputs, self._generator = task, outputs, generator
        self._parameters = dict(parameters)
        self._rows = RowMoments({n: min(w.shape[0], _ROW_BLOCK) for n, w in weights.items()})
        self._squares: dict[str, Any] = {}
        self._samples = 0
        self._batches = 0
        self._splits: bool | None = None

    def see_inputs(self, observer: Any, device: Any) -> None:
        """Take the moments of the inputs so far, now and then."""
        self._batches += 1
        if self._batches & (self._batches - 1) == 0:
            self._rows.see_inputs(observer.statistics(), device)

    def add(self, module: Any, batch: Batch, output: Any) -> None:
        """Add the gradients of a batch, whose output is known."""
        import torch

        samples = len(output)
        self._samples += samples
        if self._splits is None:
            self._splits = self._can_split(module, batch, output)
        parts = split_batch(batch, samples, _SAMPLES_PER_GRADIENT) if self._splits else iter([batch])
        for part in parts:
            with torch.enable_grad():
                self._add_gradients(self._task.output(module, part))

    def _can_split(self, module: Any, batch: Batch, output: Any) -> bool:
        """Whether the network's outputs for a part of a batch are part of those for the batch."""
        import torch

        parts = split_batch(batch, len(output), _SAMPLES_PER_GRADIENT)
        try:
            with torch.no_grad():
                again = torch.cat([self._task.output(module, part) for part in parts])
        except (RuntimeError, ValueError, IndexError):
            return False
        if again.shape != output.shape:
            return False
        limit = 1e-2 * float(output.abs().max())
        return bool((again - output).abs().max() <= limit)

    def _add_gradients(self, output: Any) -> None:
        import torch

        projection = projected(output, self._outputs, self._generator)
        used = list(self._parameters.items())
        gradients = torch.autograd.grad(projection, [p for _, p in used], allow_unused=True)
        for (name, parameter), gradient in zip(used, gradients, strict=True):
            if gradient is None:
                continue
            square = gradient.detach().to(torch.float64).square()
            square = square if parameter.ndim < 2 else square.flatten(1).sum(1)
            if not bool(square.isfinite().all()):
                raise InvalidModel("the gradients of the outputs are not finite on the calibration data", tensor=name)
            self._squares[name] = self._squares[name] + square if name in self._squares else square
            self._rows.add(name, gradient)

    def squares(self, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
        """Return the mean over samples, of each row of a weight; zero where the outputs do not depend on it."""
        found = self._squares.get(name)
        return np.zeros(shape[:1]) if found is None else found.cpu().numpy() / self._samples

    def row_moments(self, name: str) -> npt.NDArray[np.float32] | None:
        """Return the moments of the rows of a weight."""
        return self._rows.moments(name)


def block_widths(weights: Mapping[str, Any], memory_bytes: int) -> dict[str, int]:
    """Return the width of the blocks of moments of each weight, so that all together fit the memory."""
    inputs = {n: max(w.shape) if w.ndim == 2 else max(w[0].numel(), w[:, 0].numel()) for n, w in weights.items()}
    blocks = dict(inputs)
    while True:
        needs = {n: 4 * inputs[n] * blocks[n] for n in blocks}
        largest = max(needs, key=lambda n: needs[n], default="")
        if not largest or sum(needs.values()) <= memory_bytes or blocks[largest] <= _SMALLEST_BLOCK:
            return blocks
        blocks[largest] = math.ceil(blocks[largest] / 2)


def _calibration(
    module: Any,
    statistics: Mapping[str, LayerStatistics],
    gradients: _Gradients | None,
    samples: int,
) -> Calibration:
    layers = {}
    vectors = {}
    unreached = []
    names = _names(module)
    biases = _biases(module)
    for name, parameter in module.named_parameters():
        squares = None if gradients is None else gradients.squares(name, tuple(parameter.shape))
        if parameter.ndim < 2:
            if squares is not None and parameter.ndim == 1:
                vectors.update(dict.fromkeys(names[name], squares))
        elif name in statistics:
            layer = statistics[name]
            sensitivity = None if squares is None else row_sensitivity(layer, squares, tuple(parameter.shape))
            row_moments = None if gradients is None else gradients.row_moments(name)
            complete = dataclasses.replace(
                layer, sensitivity=sensitivity, row_moments=row_moments, bias=biases.get(name)
            )
            layers.update(dict.fromkeys(names[name], complete))
        else:
            unreached += names[name]
    if unreached:
        message = f"calibration did not see how these weights are used: {', '.join(unreached)}"
        warnings.warn(message, NetpressWarning, stacklevel=3)
    return Calibration(layers, samples, vectors, tuple(unreached))


def _names(module: Any) -> dict[str, list[str]]:
    """Return all names of each parameter, by its first one."""
    first: dict[int, str] = {}
    names: dict[str, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(first.setdefault(id(parameter), name), []).append(name)
    return names


def _biases(module: Any) -> dict[str, str]:
    """Return the name of the bias of each weight of which the layer is known not to use either otherwise."""
    from torch import nn

    plain = (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    packed = (nn.MultiheadAttention, nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell)
    uses = collections.Counter(id(p) for _, p in module.named_parameters(remove_duplicate=False))
    found = {}
    for path, layer in module.named_modules():
        if type(layer) not in (*plain, *packed):
            continue
        own = dict(layer.named_parameters(path, recurse=False))
        prefix = f"{path}." if path else ""
        for weight in own:
            # weight, in_proj_weight, weight_ih_l0 ...
            bias = prefix + weight.removeprefix(prefix).replace("weight", "bias")
            if own[weight].ndim < 2 or bias not in own or own[bias].shape != own[weight].shape[:1]:
                continue
            if uses[id(own[weight])] == uses[id(own[bias])] == 1:
                found[weight] = bias
    return found


def row_sensitivity(
    layer: LayerStatistics, squares: npt.NDArray[np.float64], shape: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """Return the divergence per unit of the quadratic form, from the squared gradients of each row of the weight.

    A white error of variance s changes the divergence by s / 2 times the squared gradients, and the form of one output
    by s times the trace of the moments.
    """
    rows = shape[0]
    if layer.layout == TABLE:
        return squares * rows / max(math.prod(shape), 1)
    groups, inputs, block = layer.moments.shape
    index = np.arange(inputs)
    traces = layer.moments[:, index, index % block].astype(np.float64).sum(axis=1)
    traces = np.where(traces > 0, traces, np.inf)
    if layer.layout == COLUMNS:
        per_row: npt.NDArray[np.float64] = squares / np.repeat(traces, rows // groups)
        return per_row
    # Rows are inputs: one number for all outputs.
    return np.array([squares.sum() / (traces.mean() * groups * shape[1])])
