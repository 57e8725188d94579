"""NNCodec as a black box beside netpress: found through NETPRESS_PEER and NETPRESS_SHARED.

NETPRESS_PEER names the Python of an environment that has NNCodec, NETPRESS_SHARED the folder with tools/nncodec_peer.py
and corpus/. Without them the comparison is left out, visibly.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

SHARED = Path(os.environ.get("NETPRESS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
_PYTHON = os.environ.get("NETPRESS_PEER", "")


def available() -> bool:
    """Whether NNCodec can be run."""
    return bool(_PYTHON) and (SHARED / "tools" / "nncodec_peer.py").exists()


def run(verb: str, source: Path, target: Path, *options: str, threads: int = 1) -> dict[str, Any]:
    """Run ``encode`` or ``decode`` and return what the tool reports: seconds (without start-up) and bytes."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    command = [_PYTHON, str(SHARED / "tools" / "nncodec_peer.py"), verb, str(source), str(target), *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"NNCodec failed on {source.name}: {done.stderr.strip().splitlines()[-1:]}")
    report: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return report
