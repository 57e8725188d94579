"""Peak memory of encoding and decoding, beyond the model itself.

    python benchmarks/memory.py --json memory.json

Each measurement runs in a process of its own: the model (ResNet-50-shaped, Laplace weights) or the stream is brought
into memory, the resident size noted, then the call made and the peak resident size noted. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

import netpress
from shapes import RESNET50_SHAPES


def resident_bytes() -> int:
    """Resident set of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class Peak:
    """Samples the resident set while a block runs; exact to what happens within a millisecond."""

    def __enter__(self) -> Peak:
        self.before = self.highest = resident_bytes()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.is_set():
            self.highest = max(self.highest, resident_bytes())
            time.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.highest = max(self.highest, resident_bytes())

    @property
    def added(self) -> int:
        """Bytes above the start."""
        return self.highest - self.before


def model() -> dict[str, Any]:
    """The ResNet-50-shaped model."""
    rng = np.random.default_rng(0)
    return {name: rng.laplace(0, 0.02, shape).astype(np.float32) for name, shape in RESNET50_SHAPES.items()}


def child(verb: str, path: Path) -> None:
    """Measure one verb; prints the added bytes."""
    if verb == "encode":
        state = model()
        with Peak() as peak:
            data = netpress.encode(state, qp=-30)
        path.write_bytes(data)
    else:
        data = path.read_bytes()
        with Peak() as peak:
            restored = netpress.decode(data)
        # The decoded model is the result, not overhead.
        print(json.dumps({"added": peak.added - sum(value.nbytes for value in restored.values())}))
        return
    print(json.dumps({"added": peak.added}))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--child", choices=["encode", "decode"], help=argparse.SUPPRESS)
    parser.add_argument("--stream", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments.stream)
        return
    model_bytes = sum(4 * int(np.prod(shape)) for shape in RESNET50_SHAPES.values())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stream = Path(folder) / "model.nnc"
        for verb in ("encode", "decode"):
            command = [sys.executable, __file__, "--child", verb, "--stream", str(stream)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            added = json.loads(done.stdout)["added"]
            bar = model_bytes // 2 + 200 * 2**20
            rows.append({"verb": verb, "model_bytes": model_bytes, "added_bytes": added, "bar_bytes": bar})
    result = {"netpress": netpress.__version__, "rows": rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print("| | model | peak beyond model and result | bar |\n|---|---:|---:|---:|")
    for r in rows:
        sizes = (f"{r[key] / 2**20:.0f} MiB" for key in ("model_bytes", "added_bytes", "bar_bytes"))
        print(f"| {r['verb']} | {' | '.join(sizes)} |")


if __name__ == "__main__":
    main()
