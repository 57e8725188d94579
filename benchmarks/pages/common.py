"""What the pages of results share."""

from __future__ import annotations

import json
from typing import Any

from places import RESULTS


def load(name: str) -> Any:
    """Return the content of one results file."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def kilobytes(count: float) -> str:
    """Return a size as people read it."""
    return f"{count / 1000:,.0f} kB" if count >= 100_000 else f"{count / 1000:.1f} kB"


def table_lines(head: str, align: str, rows: list[list[str]]) -> list[str]:
    """A table in Markdown after an empty line; ``align`` has a letter for each column: l or r."""
    rule = "|".join("---" if letter == "l" else "---:" for letter in align)
    return ["", head, f"|{rule}|", *(f"| {' | '.join(cells)} |" for cells in rows)]
