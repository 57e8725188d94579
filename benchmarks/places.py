"""Where the data of the benchmarks lie, and where their results do."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
CORPUS = Path(os.environ.get("NETPRESS_SHARED", ROOT.parent / "shared")) / "corpus"
"""Weights and data of the tasks, one folder for each family."""
