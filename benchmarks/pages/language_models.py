"""docs/results/language-models.md: transformers, whole and block by block."""

from __future__ import annotations

import math
from typing import Any

from pages.common import load
from pages.quality import best_at

DIVERGENCES = (0.02, 0.05)


def language_models_page() -> str:
    """docs/results/language-models.md: transformers, whole and block by block."""
    results = load("language-models")
    lines = [
        "# Transformers",
        "",
        "Written by `benchmarks/write_pages.py` from language-models.json, which",
        "`python benchmarks/language_models.py` makes. Bytes are interpolated between the points of a row, on",
        "logarithms; against the least of NNCodec's rows.",
        "",
        *language_models_table(results["models"]),
    ]
    if "memory" in results:
        memory = results["memory"]
        lines += [
            "",
            f"Peak memory that is added while a decoder of {memory['model_bytes'] / 2**20:,.0f} MiB in one file, with",
            f"random weights and blocks of {memory['block_bytes'] / 2**20:,.0f} MiB, is calibrated, quantised and",
            "written:",
            "",
            *memory_table(memory),
        ]
    return "\n".join(lines) + "\n"


def language_models_table(models: dict[str, Any]) -> list[str]:
    """Return the lines of the table of bytes at equal divergence."""
    heads = " | ".join(f"bytes at {d:g} | against NNCodec" for d in DIVERGENCES)
    lines = [f"| model | encoder | {heads} |", "|---|---|" + "---:|" * 2 * len(DIVERGENCES)]
    for name, result in models.items():
        for row in result["rows"]:
            cells = []
            for divergence in DIVERGENCES:
                own = best_at({"rows": [row]}, row["codec"], divergence)
                best = best_at(result, "NNCodec", divergence)
                cells += ["-" if math.isnan(own) else f"{own:,.0f}"]
                cells += ["-" if math.isnan(own / best) else f"{100 * (own / best - 1):+.1f} %"]
            lines.append(f"| {name} | {row['codec']}: {row['label']} | " + " | ".join(cells) + " |")
    return lines


def memory_table(memory: dict[str, Any]) -> list[str]:
    """Return the lines of the table of the memory that a network takes as a whole and block by block."""
    lines = ["| way | added memory | seconds |", "|---|---:|---:|"]
    for kind, words in (("whole", "as a whole"), ("blocks", "block by block")):
        found = memory[kind]
        lines.append(f"| {words} | {found['added_bytes'] / 2**20:,.0f} MiB | {found['seconds']:.0f} |")
    return lines
