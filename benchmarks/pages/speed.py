"""The table of speed.json."""

from __future__ import annotations

import statistics
from typing import Any


def table(report: dict[str, Any]) -> str:
    """Markdown table of a report."""
    rows = report["rows"]
    lines = [
        "| model | coder | threads | bytes | encode, M values/s | x NNCodec | decode, M values/s | x NNCodec "
        "| commit, load before |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        rival = next((r for r in rows if r["coder"] == "NNCodec" and r["model"] == row["model"]), None)
        cells = [row["model"], row["coder"], str(row["threads"]), f"{row['bytes']:,}"]
        for verb in ("encode_seconds", "decode_seconds"):
            seconds = statistics.median(row[verb])
            cells.append(f"{row['values'] / seconds / 1e6:.2f}")
            cells.append(f"{statistics.median(rival[verb]) / seconds:.2f}" if rival else "")
        cells.append(f"{row['commit']}, {row.get('load', '?')}" if "commit" in row else report["machine"]["commit"])
        lines.append("| " + " | ".join(cells) + " |")
    made_with = report["machine"]
    lines += [
        "",
        f"{made_with['processor']}, {made_with['cores']} cores; {made_with['compiler']}; "
        f"netpress {made_with['netpress']}; qp {report['qp']}, "
        f"medians of {report['runs']} runs.",
    ]
    return "\n".join(lines)
