"""Tables of several benchmarks, made from their JSON files; needs neither torch nor NNCodec."""

from __future__ import annotations

import math
from typing import Any

from quality_tables import best_at

DIVERGENCES = (0.02, 0.05)


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


def default_quality_table(tasks: dict[str, Any]) -> list[str]:
    """Return the lines of the table."""
    lines = [
        "| task | metric | samples | float | decoded | difference | float bytes | bytes | of floats |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, r in tasks.items():
        unit = f" {r['unit']}" if r["unit"] else ""
        change = r["decoded"] - r["float"]
        difference = f"{change:+.3g} ± {r['standard_error']:.1g}" if change or r["standard_error"] else "none"
        lines.append(
            f"| {name} | {r['metric']} | {r['samples']} | {r['float']:.4g}{unit} | {r['decoded']:.4g}{unit} "
            f"| {difference} | {r['float_bytes']:,} | {r['bytes']:,} | {100 * r['bytes'] / r['float_bytes']:.1f} % |"
        )
    return lines


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


def allocation_table(tasks: dict[str, Any]) -> list[str]:
    """Return the lines of the table of steps without data."""
    labels = [row["label"] for row in next(iter(tasks.values()))["rows"]]
    lines = ["| task | " + " | ".join(labels) + " |", "|---|" + "---:|" * len(labels)]
    for name, result in tasks.items():
        cells = " | ".join(f"{100 * row['difference']:+.1f} %" for row in result["rows"])
        lines.append(f"| {name} | {cells} |")
    return lines
