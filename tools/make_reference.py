"""Writes docs/reference.md, docs/effort.md and the table in docs/limits.md from the source code.

Usage: python tools/make_reference.py [--check]
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import typer.main

import netpress
from netpress import recipe
from netpress.cli import app
from netpress.config import EFFORT, GROUPS, EffortLevel

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
    """Return a text of a docstring as Markdown that may stand in a table."""
    without_roles = re.sub(r":[a-z]+:`~?([^`]+)`", r"`\1`", text)
    return without_roles.replace("``", "`").replace("|", "\\|")


def field_table(cls: type) -> str:
    """Return the table of the fields of a dataclass."""
    rows = [f"| `{name}` | `{default!r}` | {cell(text)} |" for name, default, text in described_fields(cls)]
    return "\n".join(["| name | default | meaning |", "|---|---|---|", *rows])


def range_text(described: Any) -> str:
    """Return the values that an option takes."""
    if described.choices:
        return ", ".join(f"`{choice}`" for choice in described.choices)
    if described.fixed_range is not None:
        low, high = described.fixed_range
        return f"{low:g}..{high:g}" if high < 1e6 else f"from {low:g}"
    return "depends on `qp_density` and `base_qp`" if described.range is not None else ""


def option_tables() -> str:
    """Return the tables of the settings of an encoder, by group."""
    options = netpress.EncodeConfig.options()
    texts = {name: text for name, _, text in described_fields(netpress.EncodeConfig) if name in options}
    parts = []
    for group, heading in GROUPS.items():
        rows = []
        for name, described in options.items():
            if described.group == group:
                flag = f"`{described.flag}`" if described.flag else ""
                words = (f"`{name}`", f"`{described.default!r}`", range_text(described), flag, cell(texts[name]))
                rows.append(f"| {' | '.join(words)} |")
        head = ["| name | default | range | command line | meaning |", "|---|---|---|---|---|"]
        parts.append("\n".join([f"### {heading}", "", *head, *rows]))
    return "\n\n".join(parts)


EFFORT_HEAD = """# Effort

Written by `tools/make_reference.py` from the source code.

`effort` trades time for bytes: what each level switches on. An option that is named beside a tool overrules the level;
see [options](reference.md).
"""


def effort() -> str:
    """Return docs/effort.md: the levels by tools."""
    fields = dataclasses.fields(EffortLevel)
    levels = " | ".join(f"{level}{' (default)' if level == netpress.EncodeConfig().effort else ''}" for level in EFFORT)
    options = netpress.EncodeConfig.options().items()
    rows = []
    for field in fields:
        own = ", ".join(f"`{name}`" for name, described in options if field.name in described.effort)
        values = [getattr(level, field.name) for level in EFFORT.values()]
        cells = [("yes" if value else "") if isinstance(value, bool) else f"{value:g}" for value in values]
        rows.append(f"| {field.metadata['title']} | {own} | {' | '.join(cells)} |")
    head = [f"| tool | option | {levels} |", "|---|---" + "|:---:" * len(EFFORT) + "|"]
    return "\n".join([EFFORT_HEAD, *head, *rows]) + "\n"


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
        if parameter.name == "help" or parameter.hidden:
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
    parts = [HEAD, "## EncodeConfig", "", option_tables(), ""]
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
    files = {
        DOCS / "reference.md": reference(),
        DOCS / "effort.md": effort(),
        DOCS / "limits.md": limits((DOCS / "limits.md").read_text("utf-8")),
    }
    stale = [path.name for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv:
        sys.exit(f"stale: {', '.join(stale)}; run tools/make_reference.py" if stale else 0)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
