"""netpress compress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_runner import Run, one_line

import netpress

pytest.importorskip("torch")

TASK = """
import torch
from torch import nn
from netpress import Task

def task(data=None):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 5)).eval()
    x = torch.randn(300, 20)
    with torch.no_grad():
        wanted = network(x[200:])
    return Task(
        name="toy", model=lambda: network, calibration_batches=[x[:200]], metric="error", direction="min",
        evaluate=lambda module: (module(x[200:]) - wanted).square().mean(1).detach(), outputs="values",
    )
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.py"
    path.write_text(TASK)
    return path


def test_promise(run: Run, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "toy.nnc"
    result = run("compress", "--task", f"{file}:task", "--max-drop", "0.0005", "-o", out)
    assert result.exit_code == 0, result.stderr
    assert "yes" in result.stdout
    assert "error 0 -> " in result.stdout
    assert "Outputs change by" in result.stdout
    assert "with a confidence of 0.8; 0.0005 promised" in result.stdout
    assert set(netpress.load(out)) == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_size_as_json(run: Run, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "small.nnc"
    arguments = ("--max-bytes", 700, "-o", out, "--json", "--budget", 8)
    content = run("compress", "--task", f"{file}:task", *arguments).json
    assert content["met"]
    assert content["bytes"] == out.stat().st_size <= 700
    assert len(content["curve"]) <= 8


def test_drop_as_json(run: Run, file: Path, tmp_path: Path) -> None:
    arguments = ("--max-drop", 0.0005, "--verify", 0.25, "-o", tmp_path / "toy.nnc", "--json", "--budget", 6)
    content = run("compress", "--task", f"{file}:task", *arguments).json
    assert content["limit"] == 0.0005
    assert content["verification"]["samples"] == 25
    assert content["verification"]["confirmed"] == content["met"]
    assert 0 < content["change"]["relative_error"] < 0.1
    assert len(content["band"]) == len(content["curve"]) <= 5


def test_promise_that_cannot_be_kept(run: Run, file: Path, tmp_path: Path) -> None:
    out = tmp_path / "toy.nnc"
    result = run("compress", "--task", f"{file}:task", "--max-bytes", 5, "--budget", 4, "-o", out, "-q")
    assert "cannot be kept" in one_line(result)
    assert out.exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("--max-drop", "1", "--max-bytes", "5"), 2),
        (("--max-drop", "much"), 2),
        (("--max-drop", "-1"), 1),
        (("--max-drop", "1", "--budget", "1"), 1),
    ],
)
def test_usage(run: Run, file: Path, tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    result = run("compress", "--task", f"{file}:task", "-o", tmp_path / "x.nnc", *arguments)
    assert result.exit_code == code
    assert not (tmp_path / "x.nnc").exists()


def test_no_such_task(run: Run) -> None:
    assert "there is no task" in one_line(run("compress", "--task", "nothing", "--max-drop", "1"))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", {}),
        ("--effort 3", {"effort": 3}),
        ("--nonweight-qp -60 --qp-density 3", {"nonweight_qp": -60, "qp_density": 3}),
        ("--no-dq --lambda-scale 0.5", {"use_dq": False, "lambda_scale": 0.5}),
        ("--codebook 1 --scan-order 2", {"codebook_mode": 1, "scan_order": 2}),
        ("--no-context-search --unary-length 7", {"context_search": False, "unary_length": 7}),
        ("--no-param-opt", {"context_search": False}),
        ("--row-skipping", {"row_skipping": True}),
        ("--sparsity 0.1 --row-threshold 0.5", {"sparsity": 0.1, "row_threshold": 0.5}),
        ("--sparsity 0.1 --struct-spars-factor 0.5", {"sparsity": 0.1, "row_threshold": 0.5}),
    ],
)
def test_options_of_the_encoder(
    run: Run, file: Path, monkeypatch: pytest.MonkeyPatch, words: str, expected: dict[str, Any]
) -> None:
    seen: list[dict[str, Any]] = []

    def compress(**arguments: Any) -> None:
        seen.append(arguments)
        raise netpress.InvalidModel("stop here")

    monkeypatch.setattr(netpress, "compress", compress)
    assert run("compress", "--task", f"{file}:task", "--max-drop", "0.1", *words.split()).exit_code == 1
    own = ("task", "max_drop", "max_bytes", "budget", "confidence", "verify", "progress")
    assert {name: value for name, value in seen[0].items() if name not in own} == {"effort": 8, **expected}


@pytest.mark.parametrize("flag", ["--qp", "--bit-depth", "--allocation"])
def test_what_compress_decides_is_no_option(run: Run, file: Path, flag: str) -> None:
    result = run("compress", "--task", f"{file}:task", "--max-drop", "0.1", flag, "1")
    assert result.exit_code == 2
    assert flag in result.stderr


def test_options_of_the_encoder_make_a_stream(run: Run, file: Path, tmp_path: Path) -> None:
    words = "--no-dq --effort 2 --scan-order 1 --max-bytes 2000 --budget 3 -q -o"
    assert run("compress", "--task", f"{file}:task", *words.split(), tmp_path / "toy.nnc").exit_code == 0
    assert set(netpress.load(tmp_path / "toy.nnc")) == {"0.weight", "0.bias", "2.weight", "2.bias"}
