"""docs/results/default-quality.md: what the default settings keep."""

from __future__ import annotations

from typing import Any

from pages.common import load


def default_quality_page() -> str:
    """docs/results/default-quality.md: what the default settings keep."""
    lines = [
        "# Quality of the default settings",
        "",
        "Written by `benchmarks/write_pages.py` from default-quality.json, which",
        "`python benchmarks/default_quality.py --json docs/results/default-quality.json` makes: the metric of a",
        "network before `netpress.encode(module)` without any options, and after decoding, on the same evaluation",
        "samples. The difference has the standard error of resampling these in pairs.",
        "",
        *default_quality_table(load("default-quality")["tasks"]),
    ]
    return "\n".join(lines) + "\n"


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
