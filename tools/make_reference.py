"""Writes docs/reference.md and the table in docs/limits.md from the source code.

Usage: python tools/make_reference.py [--check]
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

import typer.main

import netpress
from netpress import recipe
from netpress.cli import app

DOCS = Path(__file__).resolve().parents[1] / "docs"
HEAD = """# Reference

Written by `tools/make_reference.py` from the source code.
"""


def described_fields(cls: type) -> list[tuple[str, Any, str]]:
    """Return name, default and description of each field of a dataclass."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    result = []
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            name = field.target.id
            assert isinstance(text.value, ast.Constant)
            described = cls.__dataclass_fields__[name]  # type: ignore[attr-defined]
            has_factory = described.default_factory is not dataclasses.MISSING
            default = described.default_factory() if has_factory else described.default
            result.append((name, default, " ".join(str(text.value.value).split())))
    return result


def cell(text: str) -> str:
    """Return a text as it may stand in a table."""
    return text.replace("``", "`").replace("|", "\\|")


def field_table(cls: type) -> str:
    """Return the table of the fields of a dataclass."""
    rows = [f"| `{name}` | `{default!r}` | {cell(text)} |" for name, default, text in described_fields(cls)]
    return "\n".join(["| name | default | meaning |", "|---|---|---|", *rows])


def stage_sections() -> str:
    """Return the sections of the stages of recipes."""
    parts = []
    for name in sorted(dir(recipe)):
        cls = getattr(recipe, name)
        if not (inspect.isclass(cls) and issubclass(cls, recipe.Stage)) or cls is recipe.Stage:
            continue
        text = "\n".join(line.strip() for line in inspect.getdoc(cls).splitlines() if not line.startswith("Source:"))
        seed = "Every stage also has `seed`." if not parts else ""
        parts.append("\n\n".join(filter(None, [f"### {name}", f"In files: `{cls.name}`.", cell(text.strip()), seed])))
        if described_fields(cls):
            parts[-1] += "\n\n" + field_table(cls)
    return "\n\n".join(parts)


def command_section(name: str, command: Any) -> str:
    """Return the section of one verb."""
    rows = []
    for parameter in command.params:
        if parameter.name == "help":
            continue
        words = [*parameter.opts, *parameter.secondary_opts]
        label = parameter.metavar or parameter.name if parameter.param_type_name == "argument" else ", ".join(words)
        rows.append(f"| `{label}` | {cell(' '.join((parameter.help or '').split()))} |")
    text = " ".join((command.help or "").split())
    return "\n".join([f"### netpress {name}", "", text, "", "| option | meaning |", "|---|---|", *rows])


def reference() -> str:
    """Return docs/reference.md."""
    group: Any = typer.main.get_command(app)
    verbs = []
    for name, command in group.commands.items():
        parts = getattr(command, "commands", None)  # of a verb that has verbs of its own
        named = [(name, command)] if parts is None else [(f"{name} {part}", parts[part]) for part in parts]
        verbs += [command_section(*entry) for entry in named]
    exits = "Exit codes: 0 done, 1 bad input (one line on standard error says what), 2 wrong usage, 130 interrupted."
    parts = [HEAD, "## EncodeConfig", "", field_table(netpress.EncodeConfig), ""]
    parts += ["## Task", "", field_table(netpress.Task), "", "## Stages of recipes", "", stage_sections(), ""]
    parts += ["## Command line", "", exits, ""]
    return "\n".join(parts) + "\n" + "\n\n".join(verbs) + "\n"


def limits(text: str) -> str:
    """Return docs/limits.md with its table."""
    before, _, after = text.partition("<!-- limits -->")
    after = after.rpartition("<!-- end of limits -->")[2] or after
    return f"{before}<!-- limits -->\n{field_table(netpress.DecodeLimits)}\n<!-- end of limits -->{after}"


def main() -> None:
    """Write the files, or check them."""
    files = {DOCS / "reference.md": reference(), DOCS / "limits.md": limits((DOCS / "limits.md").read_text("utf-8"))}
    stale = [path.name for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(stale)}; run tools/make_reference.py" if stale else 0)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
