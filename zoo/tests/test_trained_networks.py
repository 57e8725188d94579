"""Networks that are trained here: the same weights each time, trained once, kept."""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("netpress_zoo")

from torch import Tensor, nn  # noqa: E402

from netpress.evaluate.samples import Epochs  # noqa: E402
from netpress_zoo import training  # noqa: E402
from netpress_zoo.training import Recipe, TrainedNetwork  # noqa: E402


class Line(nn.Linear):
    """One weight."""

    def __init__(self) -> None:
        super().__init__(1, 1)


def batches(slope: float = 3.0) -> Epochs:
    def make(rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        x = torch.randn(len(rows), 1, generator=generator)
        return x, slope * x - 1

    return Epochs(64, 8, make)


def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(module(batch[0]), batch[1])


RECIPE = Recipe(name="line", network=Line, batches=batches, loss=loss, epochs=20, learning_rate=0.1)

TASK = """
import dataclasses
from test_trained_networks import RECIPE, Line
from netpress import Task
from netpress_zoo.training import TrainedNetwork

class OwnLine(Line):
    pass

def line(data, cache=None):
    network = TrainedNetwork(dataclasses.replace(RECIPE, network=OwnLine), cache)
    return Task(name="line", model=network.get, evaluate=lambda module: module.weight.item(), metric="slope")
"""


def test_training_finds_the_line_and_repeats_itself() -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    calls: list[tuple[int, int, str]] = []
    first = training.train(RECIPE, lambda *call: calls.append(call))
    with torch.inference_mode():  # an evaluation may be what asks first
        second = training.train(RECIPE)
    assert first.weight.item() == pytest.approx(3, abs=0.05)
    assert first.bias.item() == pytest.approx(-1, abs=0.05)
    assert torch.equal(first.weight, second.weight)
    assert not first.training
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert [call[0] for call in calls] == list(range(1, 161))
    assert calls[-1][1] == 160
    assert calls[0][2].startswith("loss ")


def test_weights_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        module = TrainedNetwork(RECIPE, tmp_path / "new").get()
    assert "line is trained first, which takes about a minute; it is kept in" in caplog.text
    paths = list((tmp_path / "new").iterdir())
    assert [path.name for path in paths] == [f"line-{RECIPE.key()}.safetensors"]
    caplog.clear()
    again = TrainedNetwork(dataclasses.replace(RECIPE, minutes=3), tmp_path / "new").get()
    assert caplog.text == ""
    assert torch.equal(module.weight, again.weight)
    network = TrainedNetwork(RECIPE, tmp_path / "new")
    with torch.no_grad():
        network.get().weight.zero_()
    assert network.get().weight.item() == module.weight.item()  # each call gives a network of its own


def test_other_recipes_have_other_files() -> None:
    changed = [
        dataclasses.replace(RECIPE, epochs=21),
        dataclasses.replace(RECIPE, learning_rate=0.2),
        dataclasses.replace(RECIPE, batches=lambda: batches(2.0)),
        dataclasses.replace(RECIPE, network=lambda: nn.Linear(1, 1), weight_decay=0.0),
    ]
    assert len({RECIPE.key(), *(recipe.key() for recipe in changed)}) == 5
    assert dataclasses.replace(RECIPE, minutes=7).key() == RECIPE.key()


def test_weights_of_the_package_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETPRESS_CACHE", str(tmp_path / "cache"))
    assert training.cache_folder() == tmp_path / "cache"
    TrainedNetwork(RECIPE).get()
    (made,) = (tmp_path / "cache").iterdir()
    packaged = made.rename(tmp_path / "packaged.safetensors")
    TrainedNetwork(RECIPE, packaged=packaged).get()
    assert not list((tmp_path / "cache").iterdir())
    TrainedNetwork(RECIPE, tmp_path / "own", packaged=packaged).get()  # a folder was asked for
    assert len(list((tmp_path / "own").iterdir())) == 1
    monkeypatch.delenv("NETPRESS_CACHE")
    assert training.cache_folder().name == "networks"


def test_progress_reaches_who_listens(tmp_path: Path) -> None:
    calls: list[int] = []
    with training.reporting(lambda done, total, words: calls.append(done)):
        TrainedNetwork(RECIPE, tmp_path).get()
    assert calls[-1] == 160


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "my_task.py").write_text(TASK, encoding="utf-8")
    name = f"{tmp_path / 'my_task.py'}:line"
    monkeypatch.setattr(
        sys, "argv", ["training", name, name, "--data", str(tmp_path), "--cache", str(tmp_path / "cache")]
    )
    training.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0] == lines[1]  # trained once
    assert re.fullmatch(rf"{re.escape(name)}: slope (3|2\.9\d*)", lines[0])
    assert len(list((tmp_path / "cache").iterdir())) == 1
    monkeypatch.setattr(sys, "argv", ["training", "absent", "--data", str(tmp_path), "--cache", str(tmp_path)])
    with pytest.raises(SystemExit, match="netpress: error: there is no task 'absent'"):
        training.main()
