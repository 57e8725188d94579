"""README and docs are executed, and what is made from the source code is fresh."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from netpress.formats import save_tensors

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [body for name, body in FENCE.findall(text) if name == language]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the pages name."""
    weight = np.random.default_rng(0).laplace(0, 0.05, (32, 16, 3, 3)).astype(np.float32)
    model = {"conv.weight": weight, "conv.bias": np.zeros(32, np.float32)}
    save_tensors(model, tmp_path / "model.safetensors")
    save_tensors({**model, "conv.weight": weight + np.float32(0.001)}, tmp_path / "new.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python(page: str, folder: Path) -> None:
    text = "\n".join(blocks(page, "python"))
    if "import torch" in text:
        pytest.importorskip("torch")
    test = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    assert test.examples
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_commands(page: str, folder: Path) -> None:
    lines = [line for block in blocks(page, "console") for line in block.splitlines() if line.startswith("$ netpress ")]
    assert lines
    for line in lines:
        command = [sys.executable, "-m", *shlex.split(line)[1:]]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, (line, result.stderr)


@pytest.mark.parametrize("script", ["tools/make_reference.py", "tools/make_layers.py", "benchmarks/write_pages.py"])
def test_generated_pages_are_fresh(script: str) -> None:
    if script == "benchmarks/write_pages.py":
        pytest.importorskip("netpress_zoo")  # gives the order of the tasks
    command = [sys.executable, str(ROOT / script), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_links(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", text):
        assert ((ROOT / page).parent / target).exists(), target


def test_ci_uses_the_command_of_the_readme() -> None:
    command = next(block for block in blocks("README.md", "sh") if "pytest" in block).strip()
    install, run = command.split(" && ")
    lines = [line.strip() for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()]
    assert install.replace("pip install", "pip install -q") in lines
    assert lines[-1] == run
