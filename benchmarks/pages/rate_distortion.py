"""docs/results/rate-distortion.md: the quantiser against theory, and steps without data."""

from __future__ import annotations

from typing import Any

from pages.common import load
from places import RESULTS


def rate_distortion_page() -> str:
    """docs/results/rate-distortion.md: what is saved without data."""
    rows = load("rate-distortion")["rows"]
    lines = [
        "# Bits at equal weight error",
        "",
        "Written by `benchmarks/write_pages.py` from rate-distortion.json, which",
        "`python benchmarks/rate_distortion.py --json docs/results/rate-distortion.json` makes. Against NNCodec's",
        "dependent quantisation at the same mean squared error, at the bits per weight of netpress that stand in the",
        "head. Negative numbers are bits saved. *0 passes*: NNCodec's own search with a rate. *Best of them*: at each",
        "rate the best weight of the rate, with the step that fits it.",
        "",
        *rate_distortion_table(rows),
    ]
    if (RESULTS / "allocation.json").exists():
        lines += [
            "",
            "# Bytes at equal divergence, without data",
            "",
            "From allocation.json, which `python benchmarks/allocation.py --json docs/results/allocation.json` makes.",
            "Against NNCodec's best row of the [quality table](quality.md) at divergences from 0.01 to 0.1, geometric",
            "mean, from lines fitted through the points of each row. Effort 8, batch norms folded.",
            "",
            *allocation_table(load("allocation")["tasks"]),
        ]
    return "\n".join(lines) + "\n"


def rate_distortion_table(rows: list[dict[str, Any]]) -> list[str]:
    """Return the lines of the table, sources side by side."""
    sources = list(dict.fromkeys(row["source"] for row in rows))
    rates = list(rows[0]["difference"])
    heads = [f"{source}, {rate} bit" for source in sources for rate in rates]
    lines = ["| lambda_scale, passes | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    by_setting: dict[str, list[str]] = {}
    for row in rows:
        setting = str(row["lambda_scale"]) + ("" if row["passes"] is None else f", {row['passes']}")
        cells = [f"{100 * row['difference'][rate]:+.1f} %" for rate in rates]
        by_setting.setdefault(setting, []).extend(cells)
    return lines + [f"| {setting} | " + " | ".join(cells) + " |" for setting, cells in by_setting.items()]


def allocation_table(tasks: dict[str, Any]) -> list[str]:
    """Return the lines of the table of steps without data."""
    labels = [row["label"] for row in next(iter(tasks.values()))["rows"]]
    lines = ["| task | " + " | ".join(labels) + " |", "|---|" + "---:|" * len(labels)]
    for name, result in tasks.items():
        cells = " | ".join(f"{100 * row['difference']:+.1f} %" for row in result["rows"])
        lines.append(f"| {name} | {cells} |")
    return lines
