"""What encoding made, in one line or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import netpress
from netpress.cli.console import human_bytes
from netpress.cli.inputs import display_name

__all__ = ["summarise", "summary_line"]


def summarise(path: Path, target: str, old: Mapping[str, Any] | None, seconds: float) -> dict[str, Any]:
    """Return sizes before and after, from the headers of the stream."""
    with netpress.open(path, base=old) as stream:
        info = stream.info()
    values, before = info.elements, info.original_bytes
    return {
        "output": target,
        "tensors": len(info.tensors),
        "values": values,
        "bytes_before": before,
        "bytes": info.bytes,
        "ratio": before / info.bytes,
        "bits_per_weight": 8 * info.bytes / values if values else None,
        "seconds": seconds,
    }


def summary_line(summary: dict[str, Any]) -> str:
    """Return sizes, ratio, bits per weight and seconds as one line."""
    sizes = f"{human_bytes(summary['bytes_before'])} -> {human_bytes(summary['bytes'])}"
    bits = summary["bits_per_weight"]
    details = [f"{summary['ratio']:.3g}x smaller"] if summary["ratio"] > 1 else []
    details += [] if bits is None else [f"{bits:.2f} bits per weight"]
    details += [f"{summary['seconds']:.1f} s"]
    return f"{display_name(summary['output'])}: {sizes} ({', '.join(details)})"
