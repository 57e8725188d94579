"""The weights of ONNX models: initializers and Constant nodes, in the graph and in the bodies of If, Loop and Scan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

Array = np.ndarray

_NO_WEIGHTS = {"Resize": (1, 2), "Upsample": (1,), "Pad": (2,), "Clip": (1, 2)}
"""Inputs of operators that say how, by number."""


def weights(model: onnx.ModelProto) -> dict[str, Array]:
    """Return the float tensors with more than one value; not the factors of a Resize and the like."""
    return {name: numpy_helper.to_array(tensor) for name, tensor in _named(model.graph).items()}


def with_weights(model: onnx.ModelProto, values: Mapping[str, Array]) -> onnx.ModelProto:
    """Return a copy of a model with other values of some of its :func:`weights`."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    tensors = _named(result.graph)
    for name, value in values.items():
        tensor = tensors[name]
        shape, kind = tuple(tensor.dims), onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        changed = numpy_helper.from_array(np.ascontiguousarray(value, kind).reshape(shape), tensor.name)
        tensor.CopyFrom(changed)
    return result


def output_axes(model: onnx.ModelProto) -> dict[str, int]:
    """Return the axis of the output channels of the weights that have it elsewhere than in front."""
    axes = {}
    for path, graph in _graphs(model.graph, ""):
        for node in graph.node:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            if node.op_type == "ConvTranspose" or (node.op_type == "Gemm" and not transposed):
                axes[path + node.input[1]] = 1
            elif node.op_type == "MatMul":
                axes[path + node.input[1]] = -1
    return {name: axis for name, axis in axes.items() if name in _named(model.graph)}


def _named(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    found: dict[str, onnx.TensorProto] = {}
    for path, inner in _graphs(graph, ""):
        spared = {n.input[k] for n in inner.node for k in _NO_WEIGHTS.get(n.op_type, ()) if k < len(n.input)}
        tensors = [(tensor.name, tensor) for tensor in inner.initializer]
        for node in inner.node:
            if node.op_type == "Constant":
                tensors += [(node.output[0], a.t) for a in node.attribute if a.name == "value"]
        for name, tensor in tensors:
            if tensor.data_type == onnx.TensorProto.FLOAT and name not in spared and np.prod(tensor.dims) > 1:
                found[path + name] = tensor
    return found


def _graphs(graph: onnx.GraphProto, path: str) -> Iterator[tuple[str, onnx.GraphProto]]:
    """A graph and the bodies in it, each with what its names begin with."""
    yield path, graph
    for number, node in enumerate(graph.node):
        for attribute in node.attribute:
            bodies = [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs
            for body in bodies:
                yield from _graphs(body, f"{path}{node.op_type}{number}.{attribute.name}/")
