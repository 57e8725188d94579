"""Colours of the reports: each has a role, a shade for light pages and one for dark pages.

Plots are drawn in the shades for light pages. In a page each becomes a variable of the style sheet, which the browser
sets by the reader's preference. All shades of a kind have a contrast of 3 to 1 or more to the paper, text 4.5 to 1.
"""

from __future__ import annotations

import re

from netpress.evaluate.report.findings import OURS, THEIRS, family

__all__ = ["COLOURS", "MARKERS", "colour_of", "css_variables", "styles", "with_variables"]

COLOURS = {
    "ink": ("#1b2330", "#e6e9ef"),
    "muted": ("#5a6575", "#a3adbb"),
    "line": ("#d9dee6", "#39424f"),
    "paper": ("#fefefe", "#171b21"),
    "panel": ("#f5f7fa", "#1f252d"),
    "good": ("#15743f", "#58cf8e"),
    "bad": ("#b3261f", "#ff8a80"),
    "report": ("#b9a3dd", "#8f7bb5"),
    "ours-1": ("#0b5fc0", "#6cb2ff"),
    "ours-2": ("#00836b", "#3fd3b2"),
    "ours-3": ("#4b4fc4", "#a9a9ff"),
    "ours-4": ("#2a8fb5", "#82d8f5"),
    "theirs-1": ("#cf4a0c", "#ff9c66"),
    "theirs-2": ("#a86d00", "#f0bd4a"),
    "theirs-3": ("#b23a6a", "#ff8fb8"),
    "other-1": ("#6d7684", "#b6bec9"),
    "other-2": ("#8a5a44", "#d3a58f"),
    "other-3": ("#7b4fa0", "#cda3ec"),
    "other-4": ("#5f7a1f", "#b5d46a"),
}
"""Role -> shade on light pages, shade on dark pages."""

MARKERS = {"ours": "oDPX", "theirs": "s^v", "other": "*hd<"}
"""Shapes of the points of each family, so that colour is not needed to tell them apart."""

_KINDS = {OURS: "ours", THEIRS: "theirs"}


def styles(tools: list[str]) -> dict[str, tuple[str, str]]:
    """Return colour (light shade) and marker of each tool, in their order within their families."""
    counts: dict[str, int] = {}
    found: dict[str, tuple[str, str]] = {}
    for tool in tools:
        kind = _KINDS.get(family(tool), "other")
        place = counts[kind] = counts.get(kind, -1) + 1
        shades = [light for name, (light, _) in COLOURS.items() if name.startswith(f"{kind}-")]
        markers = MARKERS[kind]
        # Colours come round at another pace than markers, so that many tools still differ.
        found[tool] = shades[place % len(shades)], markers[(place + place // len(markers)) % len(markers)]
    return found


def colour_of(role: str) -> str:
    """Return the shade of a role on light pages, such as "#1b2330"."""
    return COLOURS[role][0]


def css_variables(dark: bool) -> str:
    """Return the shades as declarations of a style sheet."""
    return " ".join(f"--{role}: {shades[dark]};" for role, shades in COLOURS.items())


def with_variables(drawing: str) -> str:
    """Return a drawing with its shades of light pages replaced by variables of the style sheet."""
    roles = {shades[0]: role for role, shades in COLOURS.items()}

    def replaced(match: re.Match[str]) -> str:
        shade = match.group().lower()
        return f"var(--{roles[shade]})" if shade in roles else match.group()

    return re.sub(r"#[0-9A-Fa-f]{6}\b", replaced, drawing)
