"""Networks of tasks as the benchmark of the default settings runs them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from netpress import Task  # noqa: E402
from quality_networks import imagenet, packages, tasks  # noqa: E402


class Counting(torch.nn.Module):
    """A linear layer that counts how often networks of its kind are run."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        Counting.calls += 1
        return self.linear(x)


def task(evaluate: Callable[[Any], Any]) -> tuple[Task, list[Any]]:
    torch.manual_seed(0)
    network, batches = Counting().eval(), [torch.randn(5, 4), torch.randn(3, 4)]
    made = Task(name="small", model=lambda: network, evaluation_batches=batches, evaluate=evaluate, outputs="logits")
    return made, batches


def test_evaluation_batches_are_run_once_where_the_metric_runs_the_same() -> None:
    def evaluate(module: Any) -> Any:
        return torch.cat([module(batch.clone()).argmax(1) for batch in batches]).double().numpy()

    made, batches = task(evaluate)
    network = tasks.task_network(made)
    Counting.calls = 0
    found = network.run({})
    assert Counting.calls == 2
    outputs = np.stack([heads[tasks.OUTPUT] for heads in found.outputs])
    with torch.inference_mode():
        np.testing.assert_array_equal(outputs, torch.cat([network.source(batch) for batch in batches]).numpy())
    assert found.scores is not None
    assert found.scores.value == outputs.argmax(1).mean()


def test_evaluation_batches_are_run_apart_from_a_metric_that_runs_others() -> None:
    def evaluate(module: Any) -> Any:
        return module(torch.ones(1, 4)).detach().numpy()[0]

    made, _ = task(evaluate)
    network = tasks.task_network(made)
    Counting.calls = 0
    assert len(network.run({}).outputs) == 8
    assert Counting.calls == 3


def test_missing_tensors_keep_their_values() -> None:
    made, _ = task(lambda module: float(module.linear.weight.detach().sum()))
    network = tasks.task_network(made)
    found = network.run({"linear.weight": np.ones((3, 4), np.float32)})
    assert found.scores is not None
    assert found.scores.value == 12
    assert network.float_result.scores is not None
    assert network.float_result.scores.value != 12


def test_weights_of_transposed_convolutions_have_their_outputs_behind() -> None:
    layers = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.ConvTranspose2d(3, 2, 2, bias=False))
    assert tasks.output_axes(layers) == {"1.weight": 1}


@pytest.mark.parametrize(("same", "size"), [(False, 4), (True, 4)])
def test_a_mobilenet_halves_the_resolution_with_both_paddings(same: bool, size: int) -> None:
    network = imagenet.MobileNet([(1, 8, 1, 2, 5), (6, 8, 2, 1, 3)], (8, 16), 5, same=same).eval()
    with torch.inference_mode():
        assert network.features(torch.zeros(1, 3, 16, 16)).shape == (1, 16, size, size)
        assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 5)


def test_a_package_that_cannot_be_fetched_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> None:
        raise packages.subprocess.CalledProcessError(1, "pip", stderr=b"a\nERROR: no network\n")

    monkeypatch.setattr(packages.subprocess, "run", run)
    with pytest.raises(RuntimeError, match=r"pip download nudenet==3.4.2: ERROR: no network"):
        packages.fetch("nudenet.onnx", tmp_path)


def test_a_file_that_is_there_is_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "nudenet.onnx").write_bytes(b"")
    assert packages.fetch("nudenet.onnx", tmp_path) == tmp_path / "nudenet.onnx"
