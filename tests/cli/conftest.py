"""Running the command line inside the test process."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Result, Run

from netpress.cli import app
from netpress.formats import save_tensors


@pytest.fixture
def run(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run ``netpress`` with some arguments; ``stdin`` are the bytes of standard input."""

    def run_command(*arguments: object, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsysbinary.readouterr()
        with pytest.raises(SystemExit) as caught:
            app([str(argument) for argument in arguments], prog_name="netpress")
        captured = capsysbinary.readouterr()
        code = caught.value.code
        return Result(code if isinstance(code, int) else int(code is not None), captured.out, captured.err.decode())

    return run_command


@pytest.fixture
def state() -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(1)
    return {
        "conv.weight": generator.normal(0, 0.05, (16, 8, 3, 3)).astype(np.float32),
        "conv.bias": generator.normal(0, 0.05, 16).astype(np.float32),
        "名前": generator.normal(0, 0.05, (8, 8)).astype(np.float32),
        "steps": np.array(7, np.int64),
    }


@pytest.fixture
def model(tmp_path: Path, state: dict[str, np.ndarray[Any, Any]]) -> Path:
    path = tmp_path / "model.safetensors"
    save_tensors(state, path)
    return path


@pytest.fixture
def stream(run: Run, model: Path) -> Path:
    """The model, encoded at qp -32."""
    path = model.with_suffix(".nnc")
    assert run("encode", model, "-q", "--qp", -32).exit_code == 0
    return path
