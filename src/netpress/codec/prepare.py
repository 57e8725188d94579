"""From a source to the tensors of a stream: types, names, sparsification, blocks, batch-norm folding.

What the syntax cannot say about a tensor goes into the :class:`netpress.codec.record.Record`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream import MemberRole
from netpress.calibration.statistics import LayerStatistics
from netpress.codec.difference import Difference
from netpress.codec.record import CodedTensor, FoldedLayer, Record
from netpress.config import EncodeConfig
from netpress.errors import InvalidConfig, InvalidModel
from netpress.formats import Source
from netpress.parameters import Block, Parameter, ParameterKind
from netpress.quantize.step_size import step_size
from netpress.quantize.tensor import QuantizedTensor
from netpress.transforms import batch_norm, sparsify
from netpress.transforms.batch_norm_pairs import find_blocks

__all__ = ["PreparedModel", "StreamUnit", "prepare_model"]

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_COUNTER = ".num_batches_tracked"


@dataclasses.dataclass(slots=True)
class StreamUnit:
    """The tensors of one data unit in payload order, each with its role; ``block`` is None for a single tensor."""

    members: list[tuple[MemberRole, Parameter]]
    block: Block | None = None

    @property
    def weight(self) -> Parameter:
        """The tensor that the unit is named after: the weight, or its first factor."""
        for role, parameter in self.members:
            if role in (MemberRole.TENSOR, MemberRole.WEIGHT, MemberRole.G):
                return parameter
        raise InvalidModel("a block has no weight")


@dataclasses.dataclass(slots=True)
class _Notes:
    """What has to be restored, by stream name; turned into positions once the coding order is known."""

    types: dict[str, str] = dataclasses.field(default_factory=dict)
    new_types: dict[str, str] = dataclasses.field(default_factory=dict)
    scalars: list[str] = dataclasses.field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    upper_words: dict[str, str] = dataclasses.field(default_factory=dict)
    folded: list[tuple[Block, Block]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class PreparedModel:
    """Tensors (float32 or int32, at least one dimension) by unit, in coding order."""

    units: list[StreamUnit]
    _notes: _Notes
    _original_order: list[str]

    @property
    def parameters(self) -> list[Parameter]:
        """All tensors in coding order."""
        return [parameter for unit in self.units for _, parameter in unit.members]

    @property
    def decomposed(self) -> dict[str, tuple[str, str]]:
        """Names of the factors of decomposed weights, by the name of the weight."""
        blocks = [unit.block for unit in self.units if unit.block is not None and unit.block.is_decomposed]
        return {block.weight: (block.weight + "_G", block.weight + "_H") for block in blocks}

    def by_stream_name(self, quantized: Mapping[str, QuantizedTensor]) -> dict[str, QuantizedTensor]:
        """Return integers that are given by name in the source by the name that their tensor has in the stream.

        Raises:
            InvalidModel: they do not fit a tensor of the model.
        """
        given = {}
        for parameter in self.parameters:
            name = self.original_name(parameter.name)
            if name not in quantized:
                continue
            given[parameter.name] = quantized[name]
            if parameter.is_integer:
                raise InvalidModel("an integer tensor is coded without loss; it cannot be given quantised", tensor=name)
            if parameter.size != quantized[name].levels.size:
                shape = quantized[name].levels.shape
                raise InvalidModel(f"quantised levels of shape {shape} do not fit shape {parameter.shape}", tensor=name)
        unknown = set(quantized) - {self.original_name(name) for name in given}
        if unknown:
            raise InvalidModel("was given quantised, but the model does not have it", tensor=min(unknown))
        return given

    def statistics(self, known: Mapping[str, LayerStatistics]) -> dict[str, LayerStatistics]:
        """Return what is known about weights, by name in the source, by the name in the stream, where it fits."""
        found = {}
        for parameter in self.parameters:
            layer = known.get(self.original_name(parameter.name))
            if layer is None or parameter.is_integer or len(parameter.shape) < 2:
                continue
            groups, columns, _ = layer.moments.shape
            if math.prod(parameter.shape[1:]) == columns and parameter.shape[0] % groups == 0:
                found[parameter.name] = layer
        return found

    def uniform(self, given: Mapping[str, QuantizedTensor]) -> set[str]:
        """Return the tensors that share a unit with one that is given without the trellis: one flag says it for all."""
        names = set()
        for unit in self.units:
            members = [p.name for _, p in unit.members]
            if any(name in given and not given[name].dependent for name in members):
                names.update(members)
        return names

    def record(self, stream_names: Sequence[str], replaced: Collection[str] = ()) -> Record:
        """Return what to restore when the stream holds these tensors, in this order.

        Of an update, ``replaced`` names the tensors whose new values are coded where differences could have been.
        """
        types = {n: dtype for n, dtype in self._notes.new_types.items() if n in replaced}
        notes = dataclasses.replace(self._notes, types={**self._notes.types, **types})
        return _record(stream_names, notes, self._original_order)

    def original_name(self, stream_name: str) -> str:
        """Return the name that a tensor had in the source."""
        whole = self._notes.upper_words.get(stream_name, stream_name)
        return self._notes.names.get(whole, whole)

    def is_half(self, stream_name: str) -> bool:
        """Whether a tensor is one half of a wide integer tensor."""
        return stream_name in self._notes.upper_words or stream_name in self._notes.upper_words.values()

    def with_stream_names(self, config: EncodeConfig) -> EncodeConfig:
        """Return the settings with the names that tensors have in the stream."""
        renamed = {original: name for name, original in self._notes.names.items()}
        if not renamed or not (config.qp_per_tensor or config.raw_float):
            return config
        qps = {renamed.get(name, name): qp for name, qp in (config.qp_per_tensor or {}).items()}
        raw = tuple(renamed.get(name, name) for name in config.raw_float)
        return config.replace(qp_per_tensor=qps, raw_float=raw)


def prepare_model(source: Source, config: EncodeConfig, difference: Difference | None = None) -> PreparedModel:
    """Bring a model into the form that a stream can carry.

    Args:
        source: the model, or that of ``difference``.
        config: the settings.
        difference: what an update is made of; the parameters then know their new values too.

    Raises:
        InvalidModel: the model is empty, or a tensor has values or a type that cannot be coded; names the tensor.
    """
    notes = _Notes()
    parameters: list[Parameter] = []
    used = set(source.names)
    second_factors = {block.weight + "_H" for block in config.blocks if block.is_decomposed}
    factors = second_factors | {block.weight + "_G" for block in config.blocks if block.is_decomposed}
    parameter_id = -1
    for name in source.names:
        # The two factors of a weight are one parameter.
        parameter_id += name not in second_factors
        if config.is_reference and source.origin == "torch" and _COUNTER in name:
            continue
        shape = source.shape(name)
        kind = _reference_kind(name, shape) if config.is_reference and source.origin == "torch" else source.kind(name)
        stream_name = name if config.is_reference or name in factors else _stream_name(name, used)
        if stream_name != name:
            notes.names[stream_name] = name
        new = None if difference is None or name in difference.complete else difference.new
        parameters.extend(_stream_tensors(source, new, name, stream_name, kind, parameter_id, notes, used))
    if not parameters:
        raise InvalidModel("the model holds no tensors")
    if config.sparsity > 0:
        parameters = _sparsified(parameters, config)
    blocks = list(config.blocks)
    if config.fold_batch_norm and not blocks:
        blocks = _foldable(source, parameters, config)
    original_order = [p.name for p in parameters]
    if blocks:
        parameters, blocks = _grouped(parameters, blocks, config, notes)
    units = _units(parameters, blocks)
    return PreparedModel(units, notes, original_order)


def _stream_name(name: str, used: set[str]) -> str:
    """Return a name that every decoder can handle: NNCodec cannot decode a single tensor ending in _G or _H."""
    if not name.endswith(("_G", "_H")):
        return name
    candidate = name + "~"
    while candidate in used:
        candidate += "~"
    used.add(candidate)
    return candidate


def _stream_tensors(
    source: Source,
    new: Source | None,
    original: str,
    name: str,
    kind: ParameterKind,
    parameter_id: int,
    notes: _Notes,
    used: set[str],
) -> list[Parameter]:
    """Return a tensor as the stream will carry it (wide integers become two); values are loaded when needed."""
    shape, dtype = source.shape(original), source.dtype(original)
    if not shape:
        notes.scalars.append(name)
        shape = (1,)
    elif 0 in shape and len(shape) > 1:
        # Other decoders divide by the row length.
        notes.shapes[name] = shape
        shape = (0,)
    is_integer = dtype.kind in "biu"
    if dtype != (np.int32 if is_integer else np.float32):
        notes.types[name] = dtype.name

    def later(stream_name: str, convert: Callable[[npt.NDArray[Any]], npt.NDArray[Any]]) -> Parameter:
        def read() -> npt.NDArray[Any]:
            return convert(source.load(original).reshape(shape))

        return Parameter(stream_name, read, kind, parameter_id, shape=shape, is_integer=is_integer, new=read_new)

    read_new = None if new is None else _new_value(new, original, shape)
    if new is not None and new.dtype(original) != dtype:  # a difference is float32 or int32
        notes.new_types[name] = new.dtype(original).name
    if not is_integer:
        return [later(name, lambda value: _single_precision(original, value))]
    if dtype == np.uint32:
        return [later(name, lambda value: value.view(np.int32))]
    if dtype.itemsize == 8 and not _fits_int32(source.load(original)):
        upper_name = name + ".upper"
        while upper_name in used:
            upper_name += "~"
        used.add(upper_name)
        notes.upper_words[upper_name] = name
        return [later(name, lambda value: _word(value, 0)), later(upper_name, lambda value: _word(value, 32))]
    return [later(name, lambda value: value.astype(np.int32, copy=False))]


def _new_value(new: Source, name: str, shape: tuple[int, ...]) -> Callable[[], npt.NDArray[Any]] | None:
    """Return what loads a tensor whose difference is coded as the stream would carry it; None if it needs two."""
    dtype = new.dtype(name)
    if dtype.kind not in "biu":
        return lambda: _single_precision(name, new.load(name).reshape(shape))
    if dtype == np.uint32:
        return lambda: new.load(name).reshape(shape).view(np.int32)
    if dtype.itemsize == 8 and not _fits_int32(new.load(name)):
        return None
    return lambda: new.load(name).reshape(shape).astype(np.int32, copy=False)


def _word(value: npt.NDArray[Any], shift: int) -> npt.NDArray[np.int32]:
    """The lower (shift 0) or upper (shift 32) half of 64-bit integers."""
    bits = np.ascontiguousarray(value).view(np.uint64)
    word: npt.NDArray[np.uint32] = (bits >> np.uint64(shift)).astype(np.uint32)  # keeps the lower half
    return word.view(np.int32)


def _fits_int32(value: npt.NDArray[Any]) -> bool:
    return value.size == 0 or (int(value.min()) >= -(2**31) and int(value.max()) < 2**31)


def _single_precision(name: str, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    # A sum in double precision is finite exactly if every value is.
    with np.errstate(all="ignore"):
        total = float(value.sum(dtype=np.float64)) if value.size else 0.0
        if not np.isfinite(total):
            bad = ~np.isfinite(value)
            if not bad.any():
                raise InvalidModel("the values are too large for float32", tensor=name)
            what = "NaN" if np.isnan(value).any() else "infinite"
            raise InvalidModel(f"{int(bad.sum())} of {value.size} values are {what}", tensor=name)
        if value.dtype == np.float64 and value.size and float(np.abs(value).max()) > _FLOAT32_MAX:
            raise InvalidModel("a value is too large for float32", tensor=name)
        return value.astype(np.float32, copy=False)


def _reference_kind(name: str, shape: tuple[int, ...]) -> ParameterKind:
    """Role of a tensor of a torch module as NNCodec sees it: by substrings of the name."""
    if len(shape) > 1:
        return ParameterKind.WEIGHT
    if len(shape) == 1:
        for part, kind in (
            (".bias", ParameterKind.BIAS),
            (".running_mean", ParameterKind.BN_MEAN),
            (".running_var", ParameterKind.BN_VAR),
            (".weight_scaling", ParameterKind.LOCAL_SCALING),
            ("gamma", ParameterKind.BN_GAMMA),
            (".weight", ParameterKind.WEIGHT),
        ):
            if part in name:
                return kind
    return ParameterKind.UNSPECIFIED


def _sparsified(parameters: list[Parameter], config: EncodeConfig) -> list[Parameter]:
    # Without a main qp there is no step that would zero weights anyway; only the target counts.
    steps = 0.0 if config.qp is None else step_size(config.qp, config.qp_density)
    return sparsify.sparsify(parameters, steps=steps, sparsity=config.sparsity, structured_gain=config.row_threshold)


def _foldable(source: Source, parameters: list[Parameter], config: EncodeConfig) -> list[Block]:
    epsilon = config.batch_norm_epsilon
    if epsilon is None:
        if source.torch_module is None and not config.is_reference:
            raise InvalidConfig(
                "folding the batch norms of a file or dictionary needs batch_norm_epsilon, which only a module tells "
                "(PyTorch's default is 1e-5)"
            )
        epsilon = 1e-5  # what NNCodec takes, and what is not in a module is not folded anyway
    shapes = {p.name: p.shape for p in parameters}
    kinds = {p.name: p.kind for p in parameters}
    values = {p.name: p.value for p in parameters if len(p.shape) == 1}
    return find_blocks(shapes, kinds, source.torch_module, epsilon=epsilon, values=values)


def _grouped(
    parameters: list[Parameter], blocks: list[Block], config: EncodeConfig, notes: _Notes
) -> tuple[list[Parameter], list[Block]]:
    """Check the blocks, set the roles of their members, and fold batch norms where asked for."""
    by_name = {p.name: p for p in parameters}
    result = []
    for block in blocks:
        for name, kind in _member_kinds(block):
            if name not in by_name:
                raise InvalidModel(f"its block names {name!r}, which the model does not have", tensor=block.weight)
            by_name[name] = by_name[name].with_kind(kind)
        if config.fold_batch_norm and block.has_batch_norm:
            members = [by_name[name] for name, _ in _member_kinds(block)]
            folded, created = batch_norm.fold_block(block, {p.name: p.value for p in members})
            new = {p.name: value for p in members if (value := p.new) is not None}
            created_new = batch_norm.fold_block(block, new)[1] if len(new) == len(members) else {}
            notes.folded.append((block, folded))
            scaling_id = by_name[block.scaling or str(block.bn_gamma)].parameter_id
            bias_id = by_name[block.bias or str(block.bn_beta)].parameter_id
            for member in (block.bn_beta, block.bn_gamma, block.bn_mean, block.bn_var):
                del by_name[str(member)]
            for name, value in created.items():
                is_scaling = name == folded.scaling
                kind = ParameterKind.LOCAL_SCALING if is_scaling else ParameterKind.BIAS
                parameter_id = scaling_id if is_scaling else bias_id
                by_name[name] = Parameter(name, value, kind, parameter_id, new=created_new.get(name))
            block = folded
        result.append(block)
    return list(by_name.values()), result


def _member_kinds(block: Block) -> list[tuple[str, ParameterKind]]:
    weights = [block.weight + "_G", block.weight + "_H"] if block.is_decomposed else [block.weight]
    members = [(name, ParameterKind.WEIGHT) for name in weights]
    for name, kind in (
        (block.scaling, ParameterKind.LOCAL_SCALING),
        (block.bias, ParameterKind.BIAS),
        (block.bn_beta, ParameterKind.BN_BETA),
        (block.bn_gamma, ParameterKind.BN_GAMMA),
        (block.bn_mean, ParameterKind.BN_MEAN),
        (block.bn_var, ParameterKind.BN_VAR),
    ):
        if name is not None:
            members.append((name, kind))
    return members


_ROLE_OF_KIND = {
    ParameterKind.LOCAL_SCALING: MemberRole.SCALING,
    ParameterKind.BIAS: MemberRole.BIAS,
    ParameterKind.BN_BETA: MemberRole.BN_BETA,
    ParameterKind.BN_GAMMA: MemberRole.BN_GAMMA,
    ParameterKind.BN_MEAN: MemberRole.BN_MEAN,
    ParameterKind.BN_VAR: MemberRole.BN_VAR,
}
_PAYLOAD_ORDER = [
    MemberRole.SCALING,
    MemberRole.BIAS,
    MemberRole.BN_BETA,
    MemberRole.BN_GAMMA,
    MemberRole.BN_MEAN,
    MemberRole.BN_VAR,
    MemberRole.WEIGHT,
    MemberRole.G,
    MemberRole.H,
]


def _units(parameters: list[Parameter], blocks: list[Block]) -> list[StreamUnit]:
    """Group tensors into data units; a block stands where its weight stands. Source: model to data units."""
    by_name = {p.name: p for p in parameters}
    units: dict[str, StreamUnit] = {}
    taken: set[str] = set()
    for block in blocks:
        members = []
        for name, kind in _member_kinds(block):
            if name in taken:
                raise InvalidModel("belongs to two blocks", tensor=name)
            taken.add(name)
            role = _ROLE_OF_KIND.get(kind, MemberRole.WEIGHT)
            if role is MemberRole.WEIGHT and block.is_decomposed:
                role = MemberRole.G if name.endswith("_G") else MemberRole.H
            members.append((role, by_name[name]))
        members.sort(key=lambda member: _PAYLOAD_ORDER.index(member[0]))
        _check_block(block, members)
        leader = block.weight + "_G" if block.is_decomposed else block.weight
        units[leader] = StreamUnit(members, block)
    result = []
    for parameter in sorted(parameters, key=lambda p: p.parameter_id):
        if parameter.name in units:
            result.append(units[parameter.name])
        elif parameter.name not in taken:
            result.append(StreamUnit([(MemberRole.TENSOR, parameter)]))
    return result


def _check_block(block: Block, members: list[tuple[MemberRole, Parameter]]) -> None:
    weight = next(p for role, p in members if role in (MemberRole.WEIGHT, MemberRole.G))
    if block.dimensions is not None:
        g, h = (next(p for role, p in members if role is r).shape for r in (MemberRole.G, MemberRole.H))
        size = math.prod(block.dimensions)
        if len(g) != 2 or len(h) != 2 or g[1] != h[0] or g[0] * h[1] != size:
            raise InvalidModel(f"factors {g} and {h} do not make a weight {block.dimensions}", tensor=block.weight)
    rows = block.dimensions[0] if block.dimensions is not None else weight.shape[0]
    if len(members) < 2:
        raise InvalidModel("a block needs two members at least", tensor=block.weight)
    for role, member in members:
        if not role.is_weight and member.shape != (rows,):
            raise InvalidModel(f"has shape {member.shape}, but its block needs ({rows},)", tensor=member.name)


def _record(names: Sequence[str], notes: _Notes, original_order: list[str]) -> Record:
    at = {name: i for i, name in enumerate(names)}
    record = Record(
        types={at[name]: dtype for name, dtype in notes.types.items() if name in at},
        scalars={at[name] for name in notes.scalars if name in at},
        shapes={at[name]: shape for name, shape in notes.shapes.items() if name in at},
        names={at[name]: original for name, original in notes.names.items() if name in at},
        upper_words={at[name]: at[low] for name, low in notes.upper_words.items() if name in at and low in at},
    )
    for block, folded in notes.folded:
        bn_names = (block.bn_beta, block.bn_gamma, block.bn_mean, block.bn_var)
        beta, gamma, mean, var = (notes.names.get(str(name), str(name)) for name in bn_names)
        weight = at[folded.weight + "_G" if folded.is_decomposed else folded.weight]
        record.folded.append(
            FoldedLayer(
                weight,
                at[str(folded.scaling)],
                at[str(folded.bias)],
                block.bias is not None,
                block.scaling is not None,
                (beta, gamma, mean, var),
                block.epsilon,
            )
        )
    original = [notes.names.get(name, name) for name in original_order if name not in notes.upper_words]
    # Only the names of the outputs matter here.
    restored = [output.name for output in record.outputs([CodedTensor(name, (), False) for name in names])]
    position = {name: i for i, name in enumerate(restored)}
    order = [position[name] for name in original if name in position]
    if order != list(range(len(restored))):
        record.order = order
    return record
