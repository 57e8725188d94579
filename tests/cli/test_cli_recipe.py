"""netpress encode --recipe, and netpress decode --into torch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli_runner import Run, one_line

import netpress
from netpress.formats import save_tensors

TASK = """
import torch
from torch import nn
from netpress import Task

def task():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 5)).eval()
    x = torch.randn(64, 20)
    with torch.no_grad():
        wanted = network(x)
    return Task(
        name="toy", model=lambda: network, train_batches=[x], metric="error", direction="min",
        evaluate=lambda module: (module(x) - wanted).square().mean(1).detach(),
    )
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "toy.py").write_text(TASK)
    (tmp_path / "chain.toml").write_text(
        'task = "toy.py:task"\n[[stages]]\nstage = "low_rank"\nkept = 0.6\n\n'
        '[[stages]]\nstage = "retrain"\nepochs = 3\nlearning_rate = [1e-3, 1e-4]\n\n[encode]\nqp = -20\n'
    )
    return tmp_path


def test_command_line(run: Run, folder: Path) -> None:
    out, restored = folder / "chain.nnc", folder / "chain.pt"
    result = run("encode", "--recipe", str(folder / "chain.toml"), "-o", str(out))
    assert result.exit_code == 0, result.stderr
    assert "low_rank" in result.stdout
    assert "after 2 stages" in result.stdout
    assert "recipe: low_rank(kept=0.6) -> retrain(epochs=3" in run("info", str(out)).stdout
    assert run("info", str(out), "--json").json["recipe"]["encode"] == {"qp": -20}
    assert "NNCodec 2.1.3 fails" in run("verify", str(out)).stdout
    assert run("decode", str(out), "--into", "torch").exit_code == 0
    state = torch.load(restored, weights_only=True)
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "0.weight": (40, 20), "0.bias": (40,), "2.weight": (5, 40), "2.bias": (5,)
    }  # fmt: skip


def test_command_line_as_json_with_weights_of_a_file(run: Run, folder: Path) -> None:
    weights = folder / "weights.npz"
    save_tensors({name: value.numpy() for name, value in _network().state_dict().items()}, str(weights))
    arguments = ("encode", str(weights), "--recipe", str(folder / "chain.toml"), "--json", "--qp", "-8", "--force")
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    content = result.json
    assert content["baseline"] > 0  # other weights than the task's
    assert [stage["stage"] for stage in content["stages"]] == ["coded as it is", "low_rank", "retrain"]
    assert netpress.open(folder / "weights.nnc").info().recipe["encode"] == {"qp": -8}


def _network() -> torch.nn.Module:
    torch.manual_seed(5)
    return torch.nn.Sequential(torch.nn.Linear(20, 40), torch.nn.ReLU(), torch.nn.Linear(40, 5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('task = "toy.py:task"\n[[stages]]\nstage = "bend"', "there is no stage 'bend'"),
        (
            'task = "toy.py:task"\n[[stages]]\nstage = "low_rank"\nranks = {"7" = 3}',
            "layer '7': there is no such layer",
        ),
        ('task = "toy.py:other"', "no 'other'"),
        ('task = "none.py:task"', "no file"),
        ("[[stages]", "is not TOML"),
        ("", "names no task"),
        ("task = 5", "task is not text"),
    ],
)
def test_files_that_are_no_recipe(run: Run, folder: Path, text: str, message: str) -> None:
    (folder / "bad.toml").write_text(text)
    result = run("encode", "--recipe", str(folder / "bad.toml"))
    assert message in one_line(result)
    assert not (folder / "bad.nnc").exists()


def test_usage(run: Run) -> None:
    assert run("encode").exit_code == 2
    assert run("encode", "m.npz", "--task", "x").exit_code == 2
    assert run("decode", "m.nnc", "--into", "jax").exit_code == 2
