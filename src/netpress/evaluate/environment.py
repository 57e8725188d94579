"""What results were measured with: versions, machine, date."""

from __future__ import annotations

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

import netpress

__all__ = ["environment"]


def environment(peer: str | None = None) -> dict[str, str]:
    """Return versions, machine and date in words by heading; importing torch is left to what is measured.

    Args:
        peer: version of NNCodec, None if it is absent.
    """
    return {
        "netpress": netpress.__version__,
        "NNCodec": peer or "not measured: no environment with it was given",
        "Python": platform.python_version(),
        "PyTorch": version("torch"),
        "NumPy": version("numpy"),
        "system": f"{platform.system()} on {platform.machine()}",
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    """Name of the processor, as far as the system tells it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
