"""Every task: its float network does what was stated, and its batches are what the rest of netpress expects."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus import CORPUS, STATED, Stated, needs_corpus

import netpress.evaluate
from netpress import Task

torch = pytest.importorskip("torch")
pytest.importorskip("netpress_zoo")
pytestmark = needs_corpus

BY_NAME = {stated.task: stated for stated in reversed(STATED)}
NAMES = list(BY_NAME)
QUICK_UNLESS_HEAVY = [
    pytest.param(name, marks=[pytest.mark.slow] if stated.heavy else []) for name, stated in BY_NAME.items()
]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small batches are slower on several threads, above all beside other processes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def quick() -> Any:
    """A task with few samples to evaluate, by name; loaded once."""
    loaded: dict[str, Task] = {}

    def get(name: str) -> Task:
        if name not in loaded:
            stated = BY_NAME[name]
            stated.require()
            loaded[name] = netpress.evaluate.load(name, CORPUS, limit=stated.limit)
        return loaded[name]

    return get


@pytest.mark.parametrize(
    "stated",
    [pytest.param(stated, id=stated.title, marks=[pytest.mark.slow] if stated.slow else []) for stated in STATED],
)
def test_float_metric(stated: Stated) -> None:
    stated.require()
    task = netpress.evaluate.load(stated.task, CORPUS, **stated.options)
    assert task.model is not None
    assert task.scores(task.model()).value == pytest.approx(stated.value, abs=stated.tolerance)


def test_every_task_is_tested() -> None:
    ours = {name for name in netpress.evaluate.tasks() if not name.startswith("test-")}
    assert ours == set(NAMES)


@pytest.mark.parametrize("name", QUICK_UNLESS_HEAVY)
def test_limited_evaluation(name: str, quick: Any) -> None:
    """Few samples give a score for each, the same twice; any choice of rows has a value."""
    task = quick(name)
    module = task.model()
    scores = task.scores(module)
    assert len(scores.samples) == BY_NAME[name].limit
    assert np.isfinite(scores.value)
    assert np.array_equal(scores.samples, task.scores(module).samples)
    assert np.isfinite(scores.aggregate(scores.samples[[0, 0, 1]]))
    assert not module.training


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_network_scores_worse(name: str, quick: Any) -> None:
    """The metric follows the weights: with as much noise as signal in them it falls."""
    task = quick(name)
    module = task.model()
    before = task.scores(module).value
    after = task.scores(noisy(module, 1)).value
    assert after < before if task.direction == "max" else after != before


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_inputs(name: str, quick: Any) -> None:
    """Calibration takes some hundred samples, always the same ones, and none of them is evaluated."""
    task = quick(name)
    calibration = rows(task.batches("calibration"))
    evaluation = rows(task.batches("evaluation"))
    fewest, most = BY_NAME[name].calibration
    assert fewest <= len(calibration) <= most
    assert calibration == rows(task.batches("calibration"))
    assert evaluation == rows(task.batches("evaluation"))
    assert not set(calibration) & set(evaluation)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_output(name: str, quick: Any) -> None:
    task = quick(name)
    module = task.model()
    with torch.no_grad():
        for which in ("calibration", "evaluation"):
            output = task.output(module, next(iter(task.batches(which))))
            assert torch.isfinite(output).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_training(name: str, quick: Any) -> None:
    """A loss reaches the parameters; epochs differ, and start anew when asked for again."""
    task = quick(name)
    module = noisy(task.model(), 0.05).train()  # what is trained on the network's own outputs has nothing to learn yet
    batches = task.batches("train")
    first, second, again = first_of(batches), first_of(batches), first_of(task.batches("train"))
    assert rows([first]) != rows([second])
    assert rows([first]) == rows([again])
    loss = task.loss(module, first) if task.loss is not None else task.output(module, first).square().mean()
    loss.backward()
    reached = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in module.parameters()]
    assert sum(reached) > 0.8 * len(reached)


@pytest.mark.parametrize("name", NAMES)
def test_description(name: str, quick: Any) -> None:
    task = quick(name)
    assert task.name == name
    assert {"use case", "network", "layers", "data", "environment", "source", "licence"} <= set(task.description)


def noisy(module: Any, amount: float) -> Any:
    """The network with noise on its weights, as a share of their standard deviation."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                parameter += amount * parameter.std() * torch.randn(parameter.shape, generator=generator)
    return module


def first_of(batches: Any) -> Any:
    return next(iter(batches))


def rows(batches: Any) -> list[bytes]:
    """The bytes of each sample of the inputs of batches."""
    found: list[bytes] = []
    for batch in batches:
        tensors = list(batch.values()) if isinstance(batch, Mapping) else [netpress.task.inputs_of(batch)]
        for sample in zip(*tensors, strict=True):
            found.append(b"".join(part.contiguous().numpy().tobytes() for part in sample))
    return found


@pytest.mark.slow
def test_trained_weights_are_kept(tmp_path: Path) -> None:
    def model() -> Any:
        task = netpress.evaluate.load("fsdd-cnn", CORPUS, cache=tmp_path / "made")
        assert task.model is not None
        return task.model()

    trained = model().state_dict()
    (kept_file,) = tmp_path.rglob("*.*")
    assert re.fullmatch(r"fsdd-cnn-[0-9a-f]{12}\.safetensors", kept_file.name)
    kept = model().state_dict()
    assert all(torch.equal(trained[name], kept[name]) for name in trained)
