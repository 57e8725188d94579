"""Calibrated quantisation of long networks, with one of their blocks in memory at a time.

Source: docs/language-models.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream.reader import NetpressWarning
from netpress.calibration.block_chain import BlockChain, Call, find_chain
from netpress.calibration.collect import (
    DEFAULT_MEMORY_BYTES,
    block_widths,
    inference,
    projected,
    row_sensitivity,
)
from netpress.calibration.quantizer import QuantizerOptions, quantize_model, renamed_allocation
from netpress.calibration.residence import Residence
from netpress.calibration.statistics import TABLE, Calibration, LayerStatistics
from netpress.errors import InvalidConfig, InvalidModel
from netpress.formats import open_source
from netpress.parallel import Progress
from netpress.quantize.allocation import qps_by_sensitivity
from netpress.quantize.feedback import factor
from netpress.quantize.tensor import QuantizedTensor
from netpress.task import Batch

if TYPE_CHECKING:
    import torch

__all__ = ["quantize_blocks"]

Tensor = Any
Squares = dict[str, Any]


def quantize_blocks(
    module: torch.nn.Module,
    batches: Iterable[Batch],
    *,
    qp: int,
    source: Any = None,
    blocks: str | None = None,
    forward: Callable[[Any, Batch], Any] | None = None,
    outputs: str | None = None,
    sensitivity_batches: int | None = 4,
    sequential: bool = True,
    qp_density: int = 2,
    use_dq: bool = True,
    lambda_scale: float | None = None,
    sensitivity_exponent: float | None = None,
    damping: float = 0.01,
    folder: str | os.PathLike[str] | None = None,
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    device: Any = None,
    progress: Progress | None = None,
    seed: int = 0,
    allocation: float | None = None,
) -> dict[str, QuantizedTensor]:
    """Quantise the weights of a network block by block.

    What :func:`netpress.calibrate` and :func:`netpress.quantize_model` do for a network that fits into memory, for one
    that does not. The floats in memory are those of one block, or of all that is outside of the blocks, and the tensors
    between blocks: one per batch, and one per block for each of the ``sensitivity_batches``.

    Args:
        module: the network: a chain of blocks of one class, each of which gets the tensor that the one before returns,
            as in the decoders and encoders of Hugging Face. Its parameters may be on torch's ``meta`` device (see
            :func:`netpress.empty_parameters`) if ``source`` has their values; they are not changed.
        batches: inputs without labels, as a task has them; gone through once and kept.
        qp: quantisation parameter of a weight of average sensitivity, as for :func:`netpress.quantize_model`.
        source: the weights by the names that the network has for them, in the forms that :func:`netpress.encode` takes;
            a path of a .safetensors file or of the index of several is read tensor by tensor. None: the module's own.
        blocks: name of the list of blocks; None: the longest one.
        forward: runs the network on a batch and returns its output tensor; None: calls it with the inputs of the batch
            and takes the logits, or the last hidden state.
        outputs: ``"logits"`` or ``"values"``: what the outputs are, as for :func:`netpress.calibrate`; None means
            ``"logits"``, while a :class:`netpress.Task` that does not say it returns ``"values"``.
        sensitivity_batches: how many batches measure how much the errors of each weight change the outputs, which sets
            the steps; None: all; 0: all weights get the same step.
        sequential: quantise each block on what the quantised blocks before it pass on, which is what it will see; else
            on what the float blocks do.
        qp_density, use_dq, lambda_scale, sensitivity_exponent, damping, allocation: as for
            :func:`netpress.quantize_model`, with its defaults.
        folder: an existing directory; the integers are kept in files there, ``.npy``, instead of in memory.
        memory_bytes: for the moments of a block. Wide layers get moments of blocks of their inputs if need be.
        device: where blocks are put and run, such as ``"cuda"``. None: where the module is, the processor if its
            parameters have no memory.
        progress: called with blocks done, blocks in all over all passes, and the name of the pass.
        seed: of the random choices.

    Returns:
        Integers of all weights of two or more dimensions, by the names of ``source``, for the argument ``quantized`` of
        :func:`netpress.encode` and :func:`netpress.save`. Weights that the network did not use, or not in a way that is
        understood, are quantised without data; a warning names them.

    Raises:
        InvalidConfig: there are no batches or no blocks, or an option is out of range.
        InvalidModel: the network is not a chain of its blocks; the source lacks a weight; inputs of a layer are
            infinite or undefined; names it.
        OSError: a file cannot be read or written.

    Complexity: every block is loaded three times and run three times on each batch, and once backwards on each of the
    sensitivity batches.
    """
    import torch

    options = QuantizerOptions(
        qp=qp,
        qp_density=qp_density,
        use_dq=use_dq,
        lambda_scale=lambda_scale,
        sensitivity_exponent=renamed_allocation(sensitivity_exponent, allocation),
        damping=damping,
    )
    outputs = "logits" if outputs is None else outputs
    if outputs not in ("logits", "values"):
        raise InvalidConfig(f"outputs are 'logits' or 'values', not {outputs!r}")
    collected = list(batches)
    if not collected:
        raise InvalidConfig("there are no calibration batches")
    name, members = find_chain(module, blocks)
    if device is None:
        devices = {p.device for p in module.parameters()} - {torch.device("meta")}
        device = min(devices, key=str, default=torch.device("cpu"))
    opened = contextlib.nullcontext() if source is None else open_source(source)
    with opened as weights, _prepared(module, device):
        sweep = _BlockPass(
            BlockChain(module, members, forward, device),
            Residence(module, weights, device),
            collected,
            outputs,
            damping,
            memory_bytes,
            torch.Generator().manual_seed(seed),
            _Steps(len(members), name, progress, 1 if sensitivity_batches == 0 else 3),
        )
        try:
            count = len(collected) if sensitivity_batches is None else min(sensitivity_batches, len(collected))
            sensitivities, densities = sweep.sensitivities(count)
            qps = qps_by_sensitivity(densities, sweep.sizes(), qp=qp, qp_density=qp_density, exponent=options.exponent)
            maker = _Maker(sweep.residence, qps, sensitivities, options, None if folder is None else Path(folder))
            quantized = sweep.quantize(maker, sequential)
        finally:
            sweep.residence.empty(sweep.residence.names)
    if maker.unreached:
        message = f"calibration did not see how these weights are used: {', '.join(maker.unreached)}"
        warnings.warn(message, NetpressWarning, stacklevel=2)
    return quantized


@contextlib.contextmanager
def _prepared(module: Any, device: Any) -> Iterator[None]:
    """Inference mode, without a cache of keys and values; buffers on the device."""
    config: Any = getattr(module, "config", None)
    cached = getattr(config, "use_cache", None)
    homes = {buffer: buffer.device for buffer in module.buffers() if not buffer.is_meta}
    if cached is not None:
        config.use_cache = False
    for buffer in homes:
        buffer.data = buffer.data.to(device)
    try:
        with inference(module, {}):
            yield
    finally:
        for buffer, home in homes.items():
            buffer.data = buffer.data.to(home)
        if cached is not None:
            config.use_cache = cached


@dataclasses.dataclass(slots=True)
class _Steps:
    """Reports progress."""

    blocks: int
    name: str
    progress: Progress | None
    passes: int
    done: int = 0

    def step(self, word: str) -> None:
        """Count one block."""
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.blocks * self.passes, f"{word} {self.name}")


@dataclasses.dataclass(slots=True)
class _BlockPass:
    """Runs over the blocks of one network."""

    chain: BlockChain
    residence: Residence
    batches: list[Batch]
    outputs: str
    damping: float
    memory_bytes: int
    generator: Any
    steps: _Steps

    def outside(self) -> list[str]:
        """Return the names of the parameters that belong to no block."""
        inside = {name for block in self.chain.blocks for name in self.residence.inside(block)}
        return [name for name in self.residence.names if name not in inside]

    def weights(self, names: Iterable[str]) -> list[str]:
        """Return those of the names that are weights."""
        return [name for name in names if self.residence.is_weight(name)]

    def sizes(self) -> dict[str, int]:
        """Return the number of values of each weight."""
        return {name: math.prod(self.residence.shape(name)) for name in self.weights(self.residence.names)}

    @contextlib.contextmanager
    def present(self, names: list[str], *, differentiated: bool = False) -> Iterator[dict[str, Any]]:
        """Some parameters in memory."""
        try:
            yield self.residence.fill(names, differentiated=differentiated)
        finally:
            self.residence.empty(names)

    def observer(self, parameters: Mapping[str, Any]) -> Any:
        """Return what collects the moments of the inputs of the weights among some parameters."""
        from netpress.calibration.observer import Observer

        weights = {name: p for name, p in parameters.items() if p.ndim > 1}
        return Observer(weights, block_widths(weights, self.memory_bytes), self.generator)

    def entries(self, count: int, observer: Any = None) -> tuple[list[Tensor], list[list[Call]]]:
        """Return what enters the first block and how blocks are called, for some batches; the outside is present."""
        import torch

        with torch.no_grad(), contextlib.nullcontext() if observer is None else observer:
            entered = [self.chain.calls(batch) for batch in self.batches[:count]]
        return [hidden for hidden, _ in entered], [calls for _, calls in entered]

    def learn_outputs(self) -> None:
        """See what blocks return; the outside is present."""
        import torch

        with self.present(self.residence.inside(self.chain.blocks[0])), torch.no_grad():
            self.chain.learn_outputs(self.batches[0])

    def sensitivities(self, count: int) -> tuple[dict[str, npt.NDArray[np.float64]], dict[str, float]]:
        """Return the sensitivities of weights, as in :class:`LayerStatistics`, and their densities.

        A density is the divergence that an error of variance 1 of one weight makes on average, after feedback.

        All is as in a backward pass of the whole network, whose tensors between blocks are kept.
        """
        import torch

        if count == 0:
            return {}, {}
        gains: dict[str, tuple[LayerStatistics, float]] = {}
        with self.present(self.outside()) as parameters:
            self.learn_outputs()
            observer = self.observer(parameters)
            hidden, calls = self.entries(count, observer)
            gains.update(self._gains(observer))
        entered = [hidden]
        for index, block in enumerate(self.chain.blocks):
            with self.present(self.residence.inside(block)) as parameters, torch.no_grad():
                observer = self.observer(parameters)
                with observer:
                    entered.append([c[index].run(block, h) for h, c in zip(entered[-1], calls, strict=True)])
                gains.update(self._gains(observer))
            self.steps.step("forward through")
        squares: Squares = {}
        samples = self._backwards(entered, calls, squares, gains)
        sensitivities = {}
        for name, (layer, _) in gains.items():
            square = squares.get(name)
            per_row = np.zeros(self.residence.shape(name)[0]) if square is None else square.cpu().numpy() / samples
            sensitivities[name] = row_sensitivity(layer, per_row, self.residence.shape(name))
        return sensitivities, {name: float(rows.mean()) * gains[name][1] for name, rows in sensitivities.items()}

    def _backwards(
        self, entered: list[list[Tensor]], calls: list[list[Call]], squares: Squares, gains: dict[str, Any]
    ) -> int:
        """Add up the squared gradients of all weights; return the number of samples."""
        import torch

        count = len(calls)
        samples = 0
        gradients: list[Tensor] = []
        with self.present(self.outside(), differentiated=True) as parameters:
            observer = self.observer(parameters)
            for batch, hidden in zip(self.batches[:count], entered[-1], strict=True):
                leaf = hidden.detach().requires_grad_(True)
                with torch.enable_grad(), observer:
                    output = self.chain.finish(batch, leaf)
                samples += len(output)
                with torch.enable_grad():
                    target = projected(output, self.outputs, self.generator)
                gradients.append(self._vector_product(target, None, leaf, parameters, squares))
            gains.update(self._gains(observer))
        for index in reversed(range(len(self.chain.blocks))):
            block = self.chain.blocks[index]
            with self.present(self.residence.inside(block), differentiated=True) as parameters:
                for place, call in enumerate(calls):
                    leaf = entered[index][place].detach().requires_grad_(True)
                    with torch.enable_grad():
                        output = call[index].run(block, leaf)
                    gradients[place] = self._vector_product(output, gradients[place], leaf, parameters, squares)
            entered.pop()
            self.steps.step("backward through")
        with self.present(self.outside(), differentiated=True) as parameters:
            for batch, gradient in zip(self.batches[:count], gradients, strict=True):
                with torch.enable_grad():
                    hidden, _ = self.chain.calls(batch)
                if hidden.requires_grad:
                    self._vector_product(hidden, gradient, None, parameters, squares)
        return samples

    def _vector_product(
        self,
        output: Tensor,
        gradient: Tensor | None,
        leaf: Tensor | None,
        parameters: Mapping[str, Any],
        squares: Squares,
    ) -> Tensor:
        """Add the squared gradients of weights; return that of the leaf."""
        import torch

        names = [name for name, p in parameters.items() if p.ndim > 1]
        inputs = ([] if leaf is None else [leaf]) + [parameters[name] for name in names]
        gradients = list(torch.autograd.grad(output, inputs, grad_outputs=gradient, allow_unused=True))
        leaf_gradient = None
        if leaf is not None:
            leaf_gradient = gradients.pop(0)
            leaf_gradient = torch.zeros_like(leaf) if leaf_gradient is None else leaf_gradient
        for name, part in zip(names, gradients, strict=True):
            if part is None:
                continue
            if not bool(part.isfinite().all()):
                raise InvalidModel("the gradients of the outputs are not finite on the calibration data", tensor=name)
            square = part.to(torch.float64).square().flatten(1).sum(1)
            squares[name] = squares[name] + square if name in squares else square
        return leaf_gradient

    def _gains(self, observer: Any) -> dict[str, tuple[LayerStatistics, float]]:
        """Return of each weight that was used its statistics, with the diagonal of its moments alone, and their gain.

        The gain is what error feedback leaves of a white error, on average.
        """
        gains = {}
        for name, layer in observer.statistics().items():
            gain = 1.0
            if layer.layout != TABLE:
                gain = float(factor(layer.moments, damping=self.damping, name=name).importance.mean(dtype=np.float64))
                index = np.arange(layer.moments.shape[1])
                diagonal = layer.moments[:, index, index % layer.moments.shape[2], None]
                layer = LayerStatistics(layer.layout, diagonal, layer.mean, layer.count)
            gains[name] = (layer, gain)
        return gains

    def quantize(self, maker: _Maker, sequential: bool) -> dict[str, QuantizedTensor]:
        """Return the integers of all weights, block by block."""
        import torch

        outside = self.outside()
        with self.present(outside) as parameters:
            if not maker.sensitivities:
                self.learn_outputs()
            before = self.observer(parameters)
            hidden, calls = self.entries(len(self.batches), before)
            # What is used after the blocks is quantised when its inputs are known.
            used_after = self._used_after(parameters)
            early = {n: layer for n, layer in before.statistics().items() if n not in used_after}
            maker.quantize(list(early), early)
            if sequential:
                hidden, calls = self.entries(len(self.batches))
        for index, block in enumerate(self.chain.blocks):
            names = self.residence.inside(block)
            with self.present(names) as parameters, torch.no_grad():
                observer = self.observer(parameters)
                for place, call in enumerate(calls):
                    with observer:
                        after = call[index].run(block, hidden[place])
                    if not sequential:
                        hidden[place] = after
                maker.quantize(self.weights(names), observer.statistics())
                if sequential:
                    for place, call in enumerate(calls):
                        hidden[place] = call[index].run(block, hidden[place])
            self.steps.step("quantising")
        with self.present(outside) as parameters, torch.no_grad():
            observer = self.observer(parameters)
            for batch, last in zip(self.batches, hidden, strict=True):
                with observer:
                    self.chain.finish(batch, last)
            late = {n: layer for n, layer in observer.statistics().items() if n not in maker.done}
            maker.quantize([n for n in self.weights(outside) if n not in maker.done], late)
        return maker.result()

    def _used_after(self, parameters: Mapping[str, Any]) -> set[str]:
        """Return the names of the weights outside that are used after the blocks, in products."""
        import torch

        observer = self.observer(parameters)
        hidden, _ = self.chain.calls(self.batches[0])
        with torch.no_grad(), observer:
            self.chain.finish(self.batches[0], hidden)
        return {name for name, layer in observer.statistics().items() if layer.layout != TABLE}


@dataclasses.dataclass(slots=True)
class _Maker:
    """Quantises weights that are present, and puts the quantised values in their place."""

    residence: Residence
    qps: Mapping[str, int]
    sensitivities: Mapping[str, npt.NDArray[np.float64]]
    options: QuantizerOptions
    folder: Path | None
    done: dict[str, QuantizedTensor] = dataclasses.field(default_factory=dict)
    unreached: list[str] = dataclasses.field(default_factory=list)

    def quantize(self, names: list[str], statistics: Mapping[str, LayerStatistics]) -> None:
        """Quantise weights; those without statistics without data."""
        if not names:
            return
        arrays = {name: self.residence.read(name) for name in names}
        layers = {
            name: dataclasses.replace(statistics[name], sensitivity=self.sensitivities.get(name))
            for name in names
            if name in statistics
        }
        unreached = tuple(name for name in names if name not in layers)
        self.unreached += unreached
        calibration = Calibration(layers, 1, {}, unreached)
        options = self.options
        quantized = quantize_model(
            arrays,
            calibration,
            qp=options.qp,
            qps={name: self.qps.get(name, options.qp) for name in names},
            qp_density=options.qp_density,
            use_dq=options.use_dq,
            lambda_scale=options.lambda_scale,
            damping=options.damping,
        )
        for name, tensor in quantized.items():
            self.residence.put(name, tensor.values(options.qp_density))
            self.done[name] = self._kept(name, tensor)

    def _kept(self, name: str, tensor: QuantizedTensor) -> QuantizedTensor:
        if self.folder is None:
            return tensor
        path = self.folder / f"{len(self.done)}.npy"
        np.save(path, tensor.levels)
        levels: npt.NDArray[np.int32] = np.load(path, mmap_mode="r")
        return dataclasses.replace(tensor, levels=levels)

    def result(self) -> dict[str, QuantizedTensor]:
        """Return the integers by every name that the weights have where the model is encoded from."""
        return {stored: tensor for name, tensor in self.done.items() for stored in self.residence.stored_names(name)}
