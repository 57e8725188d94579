"""How NNCodec was called for a conformance vector: its settings and its input as netpress takes them."""

import collections

import numpy as np
from vectors import Vector

from netpress.codec.encoder import Encoder
from netpress.config import EncodeConfig
from netpress.formats import Entry, Source
from netpress.parameters import Block, ParameterKind

_MEMBERS = {
    "weight.ls": "scaling",
    "bias": "bias",
    "bn.beta": "bn_beta",
    "bn.gamma": "bn_gamma",
    "bn.mean": "bn_mean",
    "bn.var": "bn_var",
}


def blocks_of(v: Vector) -> tuple[Block, ...]:
    info = v.meta.get("block_id_and_param_type")
    if not info or (v.meta["api"] == "torch" and not (v.options["bnf"] or v.options["lsa"])):
        return ()
    groups = collections.defaultdict(dict)
    for name, group in info["block_identifier"].items():
        if group is not None:
            groups[group][info["parameter_type"][name]] = name
    blocks = []
    names = set(v.meta["input_order"]) | set(v.meta.get("lsa_scaling", {}))
    for members in groups.values():
        if len(members) < 2 and members["weight"] + "_G" not in names:
            continue
        weight = members["weight"]
        dimensions = info["dims"][weight] if weight + "_G" in names else None
        named = {_MEMBERS[k]: n for k, n in members.items() if k != "weight" and n in names}
        blocks.append(Block(weight, dimensions=dimensions, **named))
    return tuple(blocks)


def config_of(v: Vector) -> EncodeConfig:
    options = v.options
    options.pop("lsa")
    if v.is_first_edition_1_0:
        options["payload_variant"] = "1.0"
    if v.meta["api"] in ("nn", "tensor"):
        given = v.meta["options"]
        if v.meta["api"] == "tensor" or given.get("epoch", 0) > 0:
            options["sparsity"] = given.get("sparsity", 0.0)
            options["struct_spars_factor"] = given.get("struct_spars_factor", 0.9) if options["sparsity"] else 0.0
    if "topology_storage_format" in v.meta:
        options["topology_storage_format"] = v.meta["topology_storage_format"]
    elif v.meta["api"] in ("torch", "resnet"):
        options["topology_storage_format"] = 3
    options["raw_float"] = v.meta["options"].get("raw", ())
    chain = v.meta.get("chain")
    options["hdsp"] = bool(chain and chain["hdsp"] and options["compress_differences"])
    return EncodeConfig.reference(**options, blocks=blocks_of(v))


def source_of(v: Vector) -> Source:
    """The input as NNCodec's entry point passes it on: types of integers, counters that only take an id."""
    info = v.meta.get("block_id_and_param_type") or {"parameter_type": {}}
    entries = {}
    tensors = dict(v.inputs())
    for name, scaling in v.meta.get("lsa_scaling", {}).items():
        tensors[name] = np.array(scaling, np.float32)
    if v.meta.get("lsa_scaling"):
        # The layers of the trained module have their scaling after weight and bias.
        ordered = {}
        for name in v.meta["input_order"]:
            ordered[name] = tensors[name]
            layer, _, last = name.rpartition(".")
            has_bias = layer + ".bias" in tensors
            if layer + ".weight_scaling" in tensors and last == ("bias" if has_bias else "weight"):
                ordered[layer + ".weight_scaling"] = tensors[layer + ".weight_scaling"]
        tensors = ordered
    for name, value in tensors.items():
        kind = info["parameter_type"].get(name)
        if value.dtype.kind in "iu":
            value = value.astype(np.int32)
        default = ParameterKind.WEIGHT if value.ndim > 1 else ParameterKind.UNSPECIFIED
        entries[name] = Entry(
            value.shape, value.dtype, default if kind is None else ParameterKind(kind), lambda value=value: value
        )
        if v.meta["api"] in ("torch", "resnet") and name.endswith("running_var"):
            counter = name.replace("running_var", "num_batches_tracked")
            entries[counter] = Entry((), np.dtype(np.int64), ParameterKind.UNSPECIFIED, lambda: np.zeros((), np.int64))
    return Source(entries, "torch" if v.meta["api"] in ("torch", "resnet") else "dict")


def is_update(v: Vector) -> bool:
    return v.meta.get("chain", {}).get("role") == "update"


def encoder_for(v: Vector) -> Encoder:
    """An encoder that has coded the updates before."""
    encoder = Encoder(config_of(v))
    for earlier in v.earlier:
        encoder.config = config_of(earlier)
        encoder.encode(source_of(earlier), update=is_update(earlier))
    encoder.config = config_of(v)
    return encoder
