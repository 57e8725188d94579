"""A bfloat16 model of several GiB in shards, coded and restored in bounded memory.

    python benchmarks/streaming.py --json streaming.json            # 4 GiB, some minutes
    python benchmarks/streaming.py --gib 0.5

Each step runs in a process of its own, of which the peak resident size is reported: encoding the sharded safetensors
model, decoding the stream into one safetensors file, reading one tensor of the stream. Needs Linux and disk space for
twice the model.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import netpress
from netpress.formats import save_tensors

ROWS, COLUMNS, TENSORS_PER_SHARD = 4096, 8192, 8


def make_model(folder: Path, gib: float) -> Path:
    """Write the shards and their index."""
    tensors = max(1, round(gib * 2**30 / (2 * ROWS * COLUMNS)))
    rng = np.random.default_rng(0)
    weight_map = {}
    for start in range(0, tensors, TENSORS_PER_SHARD):
        shard = f"model-{start:05}.safetensors"
        names = [f"layers.{i}.weight" for i in range(start, min(tensors, start + TENSORS_PER_SHARD))]
        sample = rng.laplace(0, 0.02, (ROWS, COLUMNS)).astype(ml_dtypes.bfloat16)
        save_tensors({name: np.roll(sample, i, axis=1) for i, name in enumerate(names)}, folder / shard)
        weight_map.update(dict.fromkeys(names, shard))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def child(step: str, source: Path, target: Path, qp: int) -> None:
    """Do one step; prints its seconds and peak resident bytes."""
    start = time.perf_counter()
    if step == "encode":
        netpress.save(source, target, qp=qp)
    elif step == "decode":
        with netpress.open(source) as stream:
            save_tensors(stream.lazily(), target)
    else:
        with netpress.open(source) as stream:
            stream[list(stream)[-1]]
    # Not ru_maxrss: that starts at what the parent process had.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) * 1024
    print(json.dumps({"step": step, "seconds": time.perf_counter() - start, "peak_bytes": peak}))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=4.0, help="size of the model")
    parser.add_argument("--qp", type=int, default=-30)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        step, source, target = arguments.child
        child(step, Path(source), Path(target), arguments.qp)
        return
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index = make_model(folder, arguments.gib)
        model_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        stream = folder / "model.nnc"
        steps = (
            ("encode", index, stream),
            ("decode", stream, folder / "restored.safetensors"),
            ("one tensor", stream, stream),
        )
        for step, source, target in steps:
            command = [sys.executable, __file__, "--qp", str(arguments.qp), "--child", step, str(source), str(target)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout))
        stream_bytes = stream.stat().st_size
    result = {"netpress": netpress.__version__, "model_bytes": model_bytes, "stream_bytes": stream_bytes, "rows": rows}
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    print(f"bfloat16 model of {model_bytes / 2**30:.2f} GiB, stream of {stream_bytes / 2**30:.2f} GiB\n")
    print("| step | seconds | peak resident |\n|---|---:|---:|")
    for r in rows:
        print(f"| {r['step']} | {r['seconds']:.0f} | {r['peak_bytes'] / 2**20:.0f} MiB |")


if __name__ == "__main__":
    main()
