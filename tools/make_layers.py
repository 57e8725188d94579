"""Draws the layers in CONTRIBUTING.md and docs/notes/architecture.md, from pyproject.toml and docstrings.

Usage: python tools/make_layers.py [--check]
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- layers: written by tools/make_layers.py -->", "<!-- end of layers -->"
PAGES = (ROOT / "CONTRIBUTING.md", ROOT / "docs" / "notes" / "architecture.md")
# The language's, not ours.
LEFT_OUT = {"__main__"}


def first_sentence(module: Path) -> str:
    """Return the first line of the docstring of a module or package, without its full stop."""
    path = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
    text = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
    return re.sub(r":[a-z]+:`", "", text.partition("\n")[0]).rstrip(".").replace("`", "")


def drawing(contract: dict[str, Any]) -> str:
    """Return the layers of one contract, the highest first, each module with what it is."""
    folder = ROOT / "src" / Path(*contract["containers"][0].split("."))
    lines = []
    for layer in contract["layers"]:
        modules = [name.strip() for name in layer.split("|") if name.strip() not in LEFT_OUT]
        for place, name in enumerate(modules):
            label = ("  " if place else "") + name + ("/" if (folder / name).is_dir() else "")
            lines.append(f"{label:18}{first_sentence(folder / name)}")
    return "\n".join(lines)


def layers() -> str:
    """Return the section of a page."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    parts = []
    for contract in contracts:
        if contract["type"] == "layers":
            package = contract["containers"][0]
            head = f"In `{package}`; what is indented lies beside the line above:"
            parts.append(f"{head}\n\n```\n{drawing(contract)}\n```")
    return "\n\n".join(parts)


def filled_in(text: str) -> str:
    """Return a page with its drawing."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise SystemExit("a page has no place for the layers")
    return f"{before}{START}\n\n{layers()}\n\n{END}{after}"


def main() -> None:
    """Write the pages, or check them."""
    stale = [page for page in PAGES if page.read_text("utf-8") != filled_in(page.read_text("utf-8"))]
    if "--check" in sys.argv:
        names = ", ".join(page.name for page in stale)
        sys.exit(f"stale: {names}; run tools/make_layers.py" if stale else 0)
    for page in stale:
        page.write_text(filled_in(page.read_text("utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
