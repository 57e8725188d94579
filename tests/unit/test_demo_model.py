"""The bundled network and what the demo measures on it."""

from __future__ import annotations

import importlib.resources
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from netpress.demo import EFFORTS, QPS, accuracy, load_model, load_test_set, predict, read_float_file, run_demo

FLOAT_ACCURACY = 593 / 597


def test_bundled_files_are_small() -> None:
    folder = importlib.resources.files("netpress.demo")
    sizes = [len(folder.joinpath(name).read_bytes()) for name in ("digits.safetensors", "digits_test.npz")]
    assert sum(sizes) < 500_000
    assert len(read_float_file()) == sizes[0]


def test_model_and_images() -> None:
    state = load_model()
    images, labels = load_test_set()
    assert images.shape == (597, 8, 8)
    assert images.max() == 16
    assert labels.shape == (597,)
    assert set(labels.tolist()) == set(range(10))
    assert 40_000 < sum(value.size for value in state.values()) < 100_000
    assert {value.dtype.name for value in state.values()} == {"float32", "int64"}
    assert all(value.flags.writeable for value in state.values())


def test_float_accuracy() -> None:
    state = load_model()
    images, labels = load_test_set()
    assert accuracy(state, images, labels) == pytest.approx(FLOAT_ACCURACY)
    scores = predict(state, images)
    assert scores.shape == (597, 10)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(predict(state, images[:3]), scores[:3], atol=1e-4)


def test_forward_pass_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    state = {name: torch.from_numpy(value) for name, value in load_model().items()}
    images, _ = load_test_set()
    values = torch.tensor(images, dtype=torch.float32).unsqueeze(1) / 16
    for layer in range(1, 5):
        values = torch.nn.functional.conv2d(values, state[f"conv{layer}.weight"], padding=1)
        statistics = state[f"bn{layer}.running_mean"], state[f"bn{layer}.running_var"]
        affine = state[f"bn{layer}.weight"], state[f"bn{layer}.bias"]
        values = torch.relu(torch.nn.functional.batch_norm(values, *statistics, *affine))
        if layer == 2:
            values = torch.nn.functional.max_pool2d(values, 2)
    expected = values.flatten(1) @ state["linear.weight"].T + state["linear.bias"]
    np.testing.assert_allclose(predict(load_model(), images), expected.numpy(), atol=1e-4)


def test_training_script_defines_the_bundled_network() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    folder = Path(__file__).resolve().parents[2] / "tools"
    code = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "import torch, train_demo, netpress.demo\n"
        "state = {name: torch.from_numpy(value) for name, value in netpress.demo.load_model().items()}\n"
        "train_demo.make_network().load_state_dict(state, strict=True)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_demo_rows() -> None:
    calls: list[tuple[int, int, str]] = []
    rows = run_demo(lambda *call: calls.append(call))
    assert [row.setting for row in rows] == [
        *("float32 file", "zlib, level 9"),
        *(f"effort {effort}" for effort in EFFORTS),
        *(f"qp {qp}" for qp in QPS),
    ]
    assert calls[-1] == (len(EFFORTS) + len(QPS), len(EFFORTS) + len(QPS), "")
    plain, zipped, *coded = rows
    assert plain.bytes == len(read_float_file())
    assert plain.share == 1
    assert plain.accuracy == pytest.approx(FLOAT_ACCURACY)
    assert zipped.bytes < plain.bytes
    assert zipped.accuracy_change == 0
    for row in coded:
        assert row.share == row.bytes / plain.bytes < 0.3
        assert row.accuracy_change == row.accuracy - plain.accuracy
        assert row.seconds > 0
        assert row.to_dict()["bytes"] == row.bytes
    by_effort = [row for row in coded if row.setting.startswith("effort")]
    assert all(row.accuracy_change > -0.005 for row in by_effort)
    sizes = [row.bytes for row in coded if row.setting.startswith("qp")]
    assert sizes == sorted(sizes, reverse=True)
