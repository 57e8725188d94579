"""The qp of each tensor, the folded batch norm and the sparsified zeros of the conformance vectors."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from vectors import FOLDERS, NAMES, vector

from netpress.errors import InvalidConfig
from netpress.parameters import Block, Parameter, ParameterKind
from netpress.quantize.reference_steps import assign_qps, bit_depth_qp
from netpress.quantize.step_size import step_size
from netpress.transforms.batch_norm import find_blocks, fold_block, unpaired_batch_norms
from netpress.transforms.local_scaling import apply_scaling
from netpress.transforms.sparsify import sparsify

_DTYPES = {"F32": "<f4", "F64": "<f8", "I32": "<i4", "I8": "<i1", "U8": "<u1", "I16": "<i2", "U16": "<u2"}
_DTYPES |= {"I64": "<i8", "U32": "<u4", "U64": "<u8", "BOOL": "?", "F16": "<f2"}


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read a safetensors file."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    return {
        name: np.frombuffer(data[8 + length :], _DTYPES[e["dtype"]], int(np.prod(e["shape"])), e["data_offsets"][0])
        .reshape(e["shape"])
        .copy()
        for name, e in header.items()
        if name != "__metadata__"
    }


def meta_of(name: str) -> Mapping[str, Any]:
    """Read the description of a vector."""
    return vector(name).meta


def torch_kind(name: str, ndim: int) -> ParameterKind:
    """Return the kind that the rules for torch models give."""
    if ndim != 1:
        return ParameterKind.WEIGHT if ndim > 1 else ParameterKind.UNSPECIFIED
    rules = {
        ".bias": ParameterKind.BIAS,
        ".running_mean": ParameterKind.BN_MEAN,
        ".running_var": ParameterKind.BN_VAR,
        ".weight_scaling": ParameterKind.LOCAL_SCALING,
        "gamma": ParameterKind.BN_GAMMA,
        ".weight": ParameterKind.WEIGHT,
    }
    return next((kind for part, kind in rules.items() if part in name), ParameterKind.UNSPECIFIED)


def parameters_of(meta: Mapping[str, Any]) -> list[Parameter]:
    """Read the input of a vector with the kinds that its entry point gives."""
    values = read_tensors(FOLDERS[meta["name"]] / meta["input"])
    kinds = {
        k: ParameterKind(v) for k, v in (meta.get("block_id_and_param_type") or {}).get("parameter_type", {}).items()
    }
    parameters = []
    for i, name in enumerate(meta["input_order"]):
        value = values[name]
        if value.dtype.kind in "iu":
            value = value.astype(np.int32)
        elif value.dtype.kind == "f":
            value = value.astype(np.float32, copy=False)
        if meta["api"] in ("torch", "resnet"):
            kind = torch_kind(name, value.ndim)
        else:
            kind = ParameterKind.WEIGHT if value.ndim > 1 else ParameterKind.UNSPECIFIED
        parameters.append(Parameter(name, value, kinds.get(name, kind), i))
    return parameters


def blocks_of(meta: Mapping[str, Any]) -> list[Block]:
    """Return the blocks with batch norm that a vector was made with, all with the reference's fixed epsilon."""
    info = meta["block_id_and_param_type"]
    groups: dict[str, dict[str, str]] = {}
    for name, identifier in info["block_identifier"].items():
        if identifier is not None:
            groups.setdefault(identifier, {})[info["parameter_type"][name]] = name
    return [
        Block(g["weight"], g.get("weight.ls"), g.get("bias"), g["bn.beta"], g["bn.gamma"], g["bn.mean"], g["bn.var"])
        for g in groups.values()
        if "bn.gamma" in g
    ]


@pytest.mark.parametrize("name", NAMES)
def test_qps(name: str) -> None:
    meta = meta_of(name)
    options = meta["effective_options"]
    parameters = parameters_of(meta)
    density = options["qp_density"]
    created = options["nonweight_qp"] or options["qp"] - (2 << density)  # 0 and None: two octaves finer
    pairs = {
        p.name[:-2]: (p.name, p.name[:-2] + "_H")
        for p in parameters
        if p.name.endswith("_G") and any(q.name == p.name[:-2] + "_H" for q in parameters)
    }
    if options.get("int_quant_bw"):
        signed = [p.name for p in parameters if p.kind is ParameterKind.WEIGHT and np.min(p.value) < 0]
        if options["int_quant_bw"] == 1 and signed:  # the reference divides by zero here
            first = next(p for p in parameters if p.name == signed[0])
            with pytest.raises(InvalidConfig, match=repr(signed[0])):
                bit_depth_qp(first.value, first.kind, bits=1, qp_density=density, name=first.name)
            parameters = [p for p in parameters if p.name not in signed]
        depth = {"bits": options["int_quant_bw"], "qp_density": density, "reference": True}
        qps = {p.name: bit_depth_qp(p.value, p.kind, **depth) for p in parameters}
    else:
        qps = assign_qps(
            parameters,
            qp=options["qp"],
            nonweight_qp=created,
            qp_per_tensor=options["qp_per_tensor"],
            optimize_qp=options["opt_qp"],
            decomposed=pairs,
        )
    values = {p.name: p.value for p in parameters}
    for tensor, coded in meta["levels"].items():
        if coded["method"] not in ("uniform", "codebook"):
            continue
        qp = qps.get(tensor, created)
        if options.get("int_quant_bw") and tensor not in qps:
            continue
        if coded["method"] == "codebook" and options["use_dq"]:
            qp -= 1 << density
        if (
            tensor in values
            and values[tensor].size
            and np.max(np.abs(values[tensor])) / step_size(qp, density) > 2**31 - 4
        ):
            continue  # the quantiser had to raise this qp
        assert coded["qp"] == qp, tensor


FOLDED = [n for n in NAMES if meta_of(n)["effective_options"].get("bnf")]


@pytest.mark.parametrize("name", FOLDED)
def test_folding(name: str) -> None:
    meta = meta_of(name)
    if not meta["expected"]:
        pytest.skip("the decoded tensors are not kept")
    values = {p.name: p.value for p in parameters_of(meta)}
    expected = read_tensors(FOLDERS[name] / meta["expected"])
    blocks = blocks_of(meta)
    if not all(b.scaling is None or b.scaling in values for b in blocks):
        pytest.skip("the trained scaling is not part of the input")
    assert blocks
    for block in blocks:
        for tensor, value in fold_block(block, values)[1].items():
            coded = meta["levels"][tensor]
            step = step_size(coded["qp"], meta["effective_options"]["qp_density"])
            error = np.max(np.abs(expected[tensor].astype(np.float64) - value))
            # The trellis moves single values by more than half a step to serve the sum of all errors.
            assert error <= (2.0 if coded["dq_flag"] else 0.5) * step + 1e-6 * np.max(np.abs(value)), tensor


@pytest.mark.parametrize("name", [n for n in FOLDED if meta_of(n)["api"] in ("torch", "resnet")])
def test_found_blocks(name: str) -> None:
    meta = meta_of(name)
    parameters = parameters_of(meta)
    shapes = {p.name: p.value.shape for p in parameters}
    found = find_blocks(shapes, {p.name: p.kind for p in parameters}, values={p.name: p.value for p in parameters})
    known = {
        b.weight: dataclasses.replace(b, scaling=b.scaling if b.scaling in shapes else None) for b in blocks_of(meta)
    }
    assert {b.weight: b for b in found} == known
    assert unpaired_batch_norms(shapes, {}, found) == []


@pytest.mark.parametrize("name", [n for n in NAMES if meta_of(n).get("expected_with_scaling_applied")])
def test_scaling(name: str) -> None:
    meta = meta_of(name)
    if not meta["expected"]:
        pytest.skip("the decoded tensors are not kept")
    tensors = read_tensors(FOLDERS[name] / meta["expected"])
    for tensor, target in meta["expected_with_scaling_applied"].items():
        scaling = tensors.get(f"{tensor}_scaling")
        value = tensors[tensor] if scaling is None else apply_scaling(tensors[tensor], scaling)
        if value.dtype == np.float32:
            assert hashlib.sha256(value.astype("<f4").tobytes()).hexdigest() == target["sha256"], tensor


@pytest.mark.parametrize("name", [n for n in NAMES if meta_of(n)["options"].get("sparsity")])
def test_sparsified_zeros(name: str) -> None:
    meta = meta_of(name)
    options = meta["options"]
    sparse = sparsify(
        parameters_of(meta),
        steps=step_size(meta["effective_options"]["qp"], meta["effective_options"]["qp_density"]),
        sparsity=options["sparsity"],
        structured_gain=options.get("struct_spars_factor", 0.9),
    )
    levels = read_tensors(FOLDERS[name] / "levels.safetensors")
    for parameter in sparse:
        at_zeros = levels[parameter.name][parameter.value == 0]
        # The trellis gives a few zeros the level next to 0 where that serves their neighbours.
        assert not at_zeros.size or np.max(np.abs(at_zeros)) <= 1, parameter.name
        assert np.count_nonzero(at_zeros) <= 0.05 * at_zeros.size, parameter.name
        if parameter.value.ndim > 1:  # what is left is at least half a step away from 0
            others = levels[parameter.name][parameter.value != 0]
            assert np.count_nonzero(others == 0) <= 0.05 * others.size, parameter.name
