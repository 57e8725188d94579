"""Speed of encoding and decoding, beside NNCodec in the same run.

    python benchmarks/speed.py --json speed.json

Models of synthetic Laplace weights in the shapes of ResNet-50 and ResNet-56, dependent quantisation, one qp for
everything; and one matrix with a rate term in the trellis search (lambda 1), where only "reference" does what NNCodec
does. "reference" makes NNCodec's decisions byte for byte, "default" our own. Values per second are medians over
all values of the model; the runs of all contestants alternate. NNCodec takes part when NETPRESS_PEER
is set (see rivals/nncodec.py); it uses one thread. The table is made from the JSON alone:

    python benchmarks/speed.py --table speed.json

With --merge, models that are not measured keep their rows of an earlier run; each row tells its commit and the load of
the machine (waiting and running processes, mean of a minute) before it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import netpress
from pages.speed import table
from rivals import nncodec
from shapes import RESNET50_SHAPES, RESNET56_SHAPES

MODELS = {
    "resnet50": RESNET50_SHAPES,
    "resnet56": RESNET56_SHAPES,
    "matrix, lambda 1": {"weight": (1024, 1024)},
}
RATE_WEIGHTS = {"matrix, lambda 1": 1.0}
DEVIATION = 0.02
Model = dict[str, Any]


def laplace_model(shapes: dict[str, tuple[int, ...]], seed: int = 1) -> Model:
    """Float32 tensors of the given shapes with independent Laplace values."""
    generator = np.random.default_rng(seed)
    scale = DEVIATION / np.sqrt(2)
    return {name: generator.laplace(0, scale, shape).astype(np.float32) for name, shape in shapes.items()}


def first_line(*command: str) -> str:
    """What a program says first, or "unknown"."""
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return output.strip().split("\n")[0]


def processor() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def machine() -> dict[str, Any]:
    """Where and with what a run was made."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "compiler": first_line(os.environ.get("CXX", "c++"), "--version"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "netpress": netpress.__version__,
        "commit": first_line("git", "describe", "--always", "--dirty"),
    }


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds and result of a call."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def measure(name: str, qp: int, runs: int, threads: list[int], folder: Path) -> list[dict[str, Any]]:
    """Time all contestants on one model."""
    model = laplace_model(MODELS[name])
    count = sum(value.size for value in model.values())
    rate_weight = RATE_WEIGHTS.get(name, 0.0)
    settings = {"reference": netpress.EncodeConfig.reference(qp=qp, lambda_scale=rate_weight)}
    if not rate_weight:
        settings["default"] = netpress.EncodeConfig(qp=qp)
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    state = {"commit": first_line("git", "describe", "--always", "--dirty"), "load": round(os.getloadavg()[0], 1)}

    def record(coder: str, workers: int, size: int, **seconds: float) -> None:
        first = {"model": name, "values": count, "coder": coder, "threads": workers, **state}
        row = rows.setdefault((coder, workers), first)
        row["bytes"] = size
        for verb, value in seconds.items():
            row.setdefault(f"{verb}_seconds", []).append(value)

    source, stream, decoded = folder / f"{name}.safetensors", folder / f"{name}.nnc", folder / "decoded.safetensors"
    save_file(model, source)
    reference = netpress.encode(source, settings["reference"])  # in the order of the file
    for run in range(runs):
        print(f"{name}: run {run + 1} of {runs}", file=sys.stderr)
        for workers in threads:
            os.environ["NETPRESS_THREADS"] = str(workers)
            for coder, config in settings.items():
                encoding, data = timed(lambda config=config: netpress.encode(model, config))
                decoding, _ = timed(lambda data=data: netpress.decode(data))
                record(coder, workers, len(data), encode=encoding, decode=decoding)
        if nncodec.available():
            options = {"qp": qp, "nonweight_qp": settings["reference"].nonweight_qp, "lambda_scale": rate_weight}
            encoding = nncodec.encode(source, stream, **options)["seconds"]
            decoding = nncodec.decode(stream, decoded)["seconds"]
            record("NNCodec", 1, stream.stat().st_size, encode=encoding, decode=decoding)
            if stream.read_bytes() != reference:
                raise RuntimeError(f"{name}: the reference preset does not write NNCodec's bytes")
    return list(rows.values())


def main() -> None:
    """Measure, write the JSON, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="write the measurements to this file")
    parser.add_argument("--merge", action="store_true", help="keep the rows of other models in the file of --json")
    parser.add_argument("--table", type=Path, help="measure nothing: print the table of this file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=list(MODELS))
    parser.add_argument("--qp", type=int, default=-30)
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text())))
        return
    if not nncodec.available():
        print("NNCodec is left out: NETPRESS_PEER is not set", file=sys.stderr)
    report: dict[str, Any] = {"machine": machine(), "qp": options.qp, "runs": options.runs, "rows": []}
    if options.merge:
        before = json.loads(options.json.read_text())
        for row in before["rows"]:
            if row["model"] not in options.models:
                report["rows"].append({"commit": before["machine"]["commit"], **row})
    with tempfile.TemporaryDirectory() as folder:
        for name in options.models:
            report["rows"] += measure(name, options.qp, options.runs, options.threads, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    print(table(report))


if __name__ == "__main__":
    main()
