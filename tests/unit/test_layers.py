"""The house rules on imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import netpress

ROOT = Path(__file__).resolve().parents[2]


def test_imports_run_downwards() -> None:
    """The contracts of pyproject.toml hold."""
    pytest.importorskip("importlinter")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "4 kept, 0 broken" in result.stdout


def test_import_loads_no_framework() -> None:
    code = "import sys, netpress; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert {"netpress", "numpy", "ml_dtypes"} <= loaded
    heavy = {
        "torch",
        "typer",
        "rich",
        "click",
        "sklearn",
        "scipy",
        "safetensors",
        "onnx",
        "keras",
        "tensorflow",
        "pandas",
        "PIL",
        "transformers",
    }
    assert not loaded & heavy


def test_only_the_top_imports_the_package_itself() -> None:
    """Only the command line, the demo and the evaluation import from ``netpress``; one module imports the extension."""
    package = Path(netpress.__file__).parent
    owners = set()
    for path in package.rglob("*.py"):
        is_top = path.relative_to(package).parts[0] in ("cli", "demo", "evaluate")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names] + [str(node.module)]
            else:
                continue
            if any(name.startswith("netpress._core") for name in names):
                owners.add(path.relative_to(package).as_posix())
            assert is_top or "netpress" not in names, path
    assert owners == {"native.py"}
