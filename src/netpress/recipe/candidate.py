"""The network on its way through a recipe, and how it becomes a stream and a network again."""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from netpress.api import decode
from netpress.bitstream import PayloadType, codebook_of, payload_members
from netpress.bitstream.reader import NetpressWarning
from netpress.calibration.collect import collect_statistics
from netpress.codec.decoder import decode_unit
from netpress.codec.encoder import Encoder
from netpress.codec.index import header_of, index_stream
from netpress.codec.record import Record
from netpress.compare import network_with
from netpress.config import EncodeConfig
from netpress.errors import InvalidModel, RecipeError
from netpress.formats.pytorch import open_tensors
from netpress.formats.source import Source
from netpress.limits import DecodeLimits
from netpress.parameters import Block
from netpress.quantize.tensor import QuantizedTensor
from netpress.recipe.layers import (
    TRANSPOSED_CONVOLUTIONS,
    FactorizedConv,
    FactorizedConvTranspose,
    FactorizedLinear,
    TuckerConv,
    coded_parameters,
    scaled_layers,
)
from netpress.task import Scores, Task
from netpress.transforms.rebuild import Rebuild, Scatter, Transpose, Tucker

__all__ = ["Candidate", "quantized_weights"]

_DAMPING = 0.01


@dataclasses.dataclass
class Candidate:
    """A network that a recipe works on.

    ``original`` is the network that was given, and the one to learn from; ``module`` the working copy, with other
    layers where stages replaced some. ``norms`` pairs weights with the batch norms to fold. ``quantized`` holds the
    integers of weights that are settled; ``masks`` (True where a weight may differ from zero) those that stages must
    leave at zero; ``scatter`` what structured pruning removed. ``options`` are settings of the encoder,
    ``parameter_set`` fields of the model parameter set.
    """

    original: nn.Module
    module: nn.Module
    task: Task
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    norms: dict[str, Block] = dataclasses.field(default_factory=dict)
    quantized: dict[str, QuantizedTensor] = dataclasses.field(default_factory=dict)
    masks: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)
    scatter: dict[str, Scatter] = dataclasses.field(default_factory=dict)
    parameter_set: dict[str, Any] = dataclasses.field(default_factory=dict)
    recipe: dict[str, Any] | None = None

    @classmethod
    def start(cls, module: nn.Module, task: Task, options: Mapping[str, Any]) -> Candidate:
        """Begin with copies of a network, in inference mode."""
        original = copy.deepcopy(module).eval()
        for parameter in original.parameters():
            parameter.requires_grad_(False)
        return cls(original, copy.deepcopy(module).eval(), task, dict(options))

    def config(self) -> EncodeConfig:
        """Return the settings of the encoder."""
        blocks = self._blocks()
        folds = any(block.has_batch_norm for block in blocks)
        return EncodeConfig(**{**self.options, "blocks": blocks, "fold_batch_norm": folds})

    def source(self) -> Source:
        """Return the tensors to code, under their names in the stream."""
        tensors = {}
        turned = self.turned()
        for name, value in coded_parameters(self.module).items():
            if name.endswith("_scaling"):
                value = value.flatten()
            tensors[name] = value.transpose(0, 1) if name in turned else value
        return open_tensors(tensors, self.module)

    def encode(self, **options: Any) -> bytes:
        """Return the stream."""
        config = self.config().replace(**options)
        sink = io.BytesIO()
        record = Record(rebuild=self.rebuild(), recipe=self.recipe)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NetpressWarning)  # of too coarse steps: the metric tells
            Encoder(config).encode_to(
                sink, self.source(), quantized=self.quantized, record=record, parameter_set=self.parameter_set
            )
        return sink.getvalue()

    def restored(self, data: bytes) -> nn.Module:
        """Return a network of the original's layers with the weights of a stream.

        Raises:
            RecipeError: the original cannot load them.
        """
        state = decode(data, reconstruct=True)
        try:
            return network_with(self.original, state)
        except InvalidModel as error:
            raise RecipeError(f"the decoded weights do not fit the network: {error}") from None

    def scores(self, data: bytes) -> Scores | None:
        """Evaluate the network of a stream; None if the task has no metric."""
        return None if self.task.evaluate is None else self.task.scores(self.restored(data))

    def settle(self) -> None:
        """Fix the integers of all weights as the encoder quantises them now, and give the network their values."""
        settled = quantized_weights(self.encode())
        state = dict(self.module.named_parameters())
        turned = self.turned()
        with torch.no_grad():
            for name, tensor in settled.items():
                target = state.get(name, state.get(_parametrized(name)))
                if target is None:
                    continue
                value = torch.from_numpy(tensor.values(self.config().qp_density))
                value = value.transpose(0, 1) if name in turned else value
                target.copy_(value.reshape(target.shape))
                self.quantized[name] = tensor

    @staticmethod
    def as_coded(name: str, quantized: QuantizedTensor, turned: Mapping[str, int]) -> QuantizedTensor:
        """Return the integers of a weight with their dimensions as they are coded."""
        if name not in turned:
            return quantized
        return dataclasses.replace(quantized, levels=np.ascontiguousarray(quantized.levels.swapaxes(0, 1)))

    def input_moments(self, layers: Mapping[str, nn.Module]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the mean of ``x x'`` over the inputs x of each layer's weight on the calibration data.

        Returns:
            By path, float64 ``(groups, columns, columns)``, with 1 % of the mean diagonal added to the diagonal so that
            it is positive definite. Layers that the data did not reach, or that are too wide, are missing.

        Raises:
            RecipeError: the inputs of a layer are not finite.
        """
        task = self.task
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NetpressWarning)  # what was not seen is missing below
            try:
                calibration = collect_statistics(
                    self.module, task.batches("calibration"), forward=task.output, sensitivities=False
                )
            except InvalidModel as error:
                path = (error.tensor or "").rpartition(".")[0]
                raise RecipeError("its inputs are not finite on the calibration data", layer=path) from error
        moments = {}
        for path in layers:
            statistics = calibration.layers.get(f"{path}.weight" if path else "weight")
            if statistics is None or statistics.moments.shape[1] != statistics.moments.shape[2]:
                continue
            moment = statistics.moments.astype(np.float64)
            diagonal = np.einsum("gii->gi", moment)  # a view
            diagonal += _DAMPING * diagonal.mean(1, keepdims=True) + np.finfo(np.float32).tiny
            moments[path] = moment
        return moments

    @property
    def parameter_count(self) -> int:
        """Number of values that are coded, counters excepted."""
        return sum(
            math.prod(value.shape) for value in coded_parameters(self.module).values() if value.is_floating_point()
        )

    def rebuild(self) -> list[Rebuild]:
        """Return how the original weights come from the coded ones."""
        steps: list[Rebuild] = [Transpose(name, (1, 0, *range(2, ndim))) for name, ndim in self.turned().items()]
        for path, layer in self.module.named_modules():
            prefix = path + "." if path else ""
            if isinstance(layer, FactorizedConv) and layer.axes is not None:
                steps.append(Transpose(prefix + "weight", layer.axes))
            elif isinstance(layer, TuckerConv):
                steps.append(Tucker(prefix + "weight"))
        return steps + list(self.scatter.values())

    def turned(self) -> dict[str, int]:
        """Weights of transposed convolutions that are coded with their output channels first, for folding."""
        turned = {}
        for path, layer in self.module.named_modules():
            name = f"{path}.weight" if path else "weight"
            if isinstance(layer, TRANSPOSED_CONVOLUTIONS) and name in self.norms:
                turned[name] = layer.weight.ndim
        return turned

    def _blocks(self) -> tuple[Block, ...]:
        """Return the data units of several tensors: factors, scalings, and batch norms that are folded."""
        names = coded_parameters(self.module)
        blocks = dict(self.norms)
        for path, _, leaf in scaled_layers(self.module):
            name = f"{path}.{leaf}" if path else leaf
            weight = name.removesuffix("_G")
            if weight + "_scaling" in names:
                block = blocks.get(weight, Block(weight, bias=_own_bias(path, leaf, names)))
                blocks[weight] = dataclasses.replace(block, scaling=weight + "_scaling")
        for path, layer in self.module.named_modules():
            weight = f"{path}.weight" if path else "weight"
            if isinstance(layer, (FactorizedLinear, FactorizedConv, FactorizedConvTranspose)):
                block = blocks.get(weight, Block(weight))
                if getattr(layer, "unfolding", "rows") != "rows":
                    block = Block(weight)  # its rows are not the output channels
                blocks[weight] = dataclasses.replace(block, dimensions=tuple(layer.dimensions))
            elif isinstance(layer, TuckerConv):
                blocks.pop(weight, None)
        return tuple(blocks.values())


def quantized_weights(data: bytes) -> dict[str, QuantizedTensor]:
    """Return the integers of the weights in a stream, by their name in the source of the encoder."""
    index = index_stream(data, DecodeLimits())
    result = {}
    position = 0
    for unit in index.units:
        header = header_of(unit)
        members = payload_members(header)
        if header.nnr_compressed_data_unit_payload_type != PayloadType.INT:
            decoded = decode_unit(unit, keep_levels=True)
            for offset, part in enumerate(decoded.levels):
                member = part.member
                if len(member.shape) < 2 or part.qp is None:
                    continue
                name = index.record.names.get(position + offset, member.name)
                levels = part.levels.reshape(member.shape)
                book = codebook_of(header, member.role)
                if book is not None:
                    levels = np.array(book.values, np.int32)[levels + book.zero_offset]
                dependent = bool(header.dq_flag)
                result[name] = QuantizedTensor(levels, part.qp, dependent, None if book is None else True)
        position += len(members)
    return result


def _parametrized(name: str) -> str:
    path, _, leaf = name.rpartition(".")
    return f"{path}.parametrizations.{leaf}.original".lstrip(".")


def _own_bias(path: str, leaf: str, names: Mapping[str, Any]) -> str | None:
    name = (f"{path}." if path else "") + ("in_proj_bias" if leaf == "in_proj_weight" else "bias")
    return name if name in names else None
