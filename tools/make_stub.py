"""Writes ``src/netpress/_core.pyi`` from the compiled extension: ``python tools/make_stub.py [--check]``.

Needs nanobind, whose generator reads the signatures of the bindings, and ruff for the format.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

STUB = Path(__file__).parents[1] / "src" / "netpress" / "_core.pyi"


def stub() -> str:
    """Return the text of the stub for the extension that is installed."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "_core.pyi"
        command = [sys.executable, "-m", "nanobind.stubgen", "-q", "-m", "netpress._core", "-o", str(made)]
        subprocess.run(command, check=True)
        text = made.read_text(encoding="utf-8")
    for command in (["check", "--select", "I,F401", "--fix", "--quiet"], ["format", "--quiet"]):
        text = subprocess.run(
            ["ruff", *command, "--stdin-filename", str(STUB), "-"],
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    return text


def main() -> None:
    """Write the stub, or tell whether it is up to date."""
    text = stub()
    if "--check" not in sys.argv[1:]:
        STUB.write_text(text, encoding="utf-8")
    elif STUB.read_text(encoding="utf-8") != text:
        sys.exit("src/netpress/_core.pyi is out of date: run python tools/make_stub.py")


if __name__ == "__main__":
    main()
