"""Weights of ONNX models are found and replaced wherever they are."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from quality_networks import onnx_weights  # noqa: E402

RANDOM = np.random.default_rng(0)
FIRST, THEN, OTHER, FACTORS = (RANDOM.normal(size=shape).astype(np.float32) for shape in ((4, 3), (3, 2), (3, 2), (2,)))


def constant(name: str, value: np.ndarray) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def body(value: np.ndarray) -> onnx.GraphProto:
    nodes = [constant("weight", value), helper.make_node("MatMul", ["hidden", "weight"], ["result"])]
    return helper.make_graph(nodes, "body", [], [helper.make_tensor_value_info("result", TensorProto.FLOAT, [1, 2])])


@pytest.fixture
def model() -> onnx.ModelProto:
    """x W, then times one of two matrices, as a condition says; both bodies call theirs ``weight``."""
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["hidden"]),
        helper.make_node("If", ["condition"], ["chosen"], then_branch=body(THEN), else_branch=body(OTHER)),
        constant("one", np.float32([1])),
        helper.make_node("Mul", ["chosen", "one"], ["scaled"]),
        constant("factors", np.float32([1, 1])),
        helper.make_node("Resize", ["scaled", "", "factors"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(FIRST, "first"), numpy_helper.from_array(np.int64([1, 2]), "shape")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return made


THEN_NAME, ELSE_NAME = "If1.then_branch/weight", "If1.else_branch/weight"


def test_weights_are_those_with_several_values_that_say_not_how(model: onnx.ModelProto) -> None:
    found = onnx_weights.weights(model)
    assert set(found) == {"first", THEN_NAME, ELSE_NAME}
    np.testing.assert_array_equal(found["first"], FIRST)
    np.testing.assert_array_equal(found[THEN_NAME], THEN)
    np.testing.assert_array_equal(found[ELSE_NAME], OTHER)


def test_replaced_weights_are_found_again_and_the_model_is_kept(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    changed = onnx_weights.with_weights(model, {ELSE_NAME: 2 * OTHER, "first": FIRST + 1})
    found = onnx_weights.weights(changed)
    np.testing.assert_array_equal(found["first"], FIRST + 1)
    np.testing.assert_array_equal(found[ELSE_NAME], 2 * OTHER)
    np.testing.assert_array_equal(found[THEN_NAME], THEN)
    assert model.SerializeToString() == before


def test_output_channels_of_products_are_behind(model: onnx.ModelProto) -> None:
    assert onnx_weights.output_axes(model) == {"first": -1, THEN_NAME: -1, ELSE_NAME: -1}


@pytest.mark.parametrize("condition", [True, False])
def test_the_changed_model_computes_with_the_changed_weights(model: onnx.ModelProto, condition: bool) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    changed = onnx_weights.with_weights(model, {ELSE_NAME: 2 * OTHER})
    x = np.float32([[1, 2, 3, 4]])
    session = onnxruntime.InferenceSession(changed.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x, "condition": np.array(condition)})
    np.testing.assert_allclose(found, x @ FIRST @ (THEN if condition else 2 * OTHER), rtol=1e-5)
