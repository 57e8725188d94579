"""Sizes at equal settings: netpress against NNCodec, on every model of a corpus.

    python benchmarks/size.py --json sizes.json

For each model and qp: the bytes of both at the same qp, whether NNCodec decodes netpress's stream to the same floats,
and the mean squared error of the weights (netpress's quantiser trades a little error for rate). Both look at the
weights alone, so errors are not fed back; the bytes with feedback, which is the default, are there too. Needs
NETPRESS_PEER (see rivals/nncodec.py); the corpus is where NETPRESS_SHARED says.

Once for each model, what is possible without loss: zstd at level 19 (package ``zstandard``) on the file as it is, and
on its values split into planes of first, second ... bytes, tensor by tensor.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

import netpress
from pages.size import ZSTD_LEVEL, lossless_table, table
from places import CORPUS
from rivals import nncodec


def weight_error(original: dict[str, Any], decoded: dict[str, Any]) -> float:
    """Mean squared error over all weights, relative to their mean square, in dB."""
    error = signal = 0.0
    for name, value in original.items():
        if value.ndim > 1 and value.dtype.kind == "f":
            error += float(np.sum((value.astype(np.float64) - decoded[name]) ** 2))
            signal += float(np.sum(value.astype(np.float64) ** 2))
    return float(10 * np.log10(error / signal)) if error else float("-inf")


def measure(model: Path, qp: int, effort: int, folder: Path) -> dict[str, Any]:
    """Code one model with both."""
    original = load_file(model)
    stream, theirs = folder / "ours.nnc", folder / "theirs.nnc"
    options: dict[str, Any] = {"qp": qp, "effort": effort, "checksums": False}
    netpress.save(model, stream, error_feedback=False, **options)
    ours = netpress.load(stream)
    fed_back = netpress.save(model, folder / "fed_back.nnc", **options)
    row = {
        "model": model.stem,
        "qp": qp,
        "float_bytes": sum(value.nbytes for value in original.values()),
        "netpress": stream.stat().st_size,
        "netpress_weight_error_db": weight_error(original, ours),
        "netpress_fed_back": fed_back,
    }
    nncodec.encode(model, theirs, qp=qp)
    row["nncodec"] = theirs.stat().st_size
    row["nncodec_weight_error_db"] = weight_error(original, netpress.load(theirs))
    row["nncodec_decodes_same_floats"] = nncodec.decoded_alike(stream.read_bytes(), ours)
    return row


def lossless(model: Path) -> dict[str, int]:
    """Bytes of one model without loss."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    planes = [
        np.ascontiguousarray(value).view(np.uint8).reshape(-1, value.itemsize).T.tobytes()
        for value in load_file(model).values()
        if value.size
    ]
    raw = model.read_bytes()
    return {
        "file": len(raw),
        "zstd": len(compressor.compress(raw)),
        "byte_planes_zstd": len(compressor.compress(b"".join(planes))),
    }


def write(arguments: argparse.Namespace, rows: list[dict[str, Any]], without_loss: dict[str, dict[str, int]]) -> None:
    """Keep what has been measured so far, with what it was measured by."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "netpress": netpress.__version__,
        "effort": arguments.effort,
        "machine": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "rows": rows,
        "lossless": without_loss,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qp", type=int, nargs="+", default=[-38, -30, -20])
    parser.add_argument("--effort", type=int, default=5)
    parser.add_argument("--models", nargs="*", help="stems of the models to run (default: all of the corpus)")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    if not nncodec.available():
        sys.exit("set NETPRESS_PEER: this benchmark compares with NNCodec")
    models = sorted(CORPUS.rglob("*.safetensors"), key=lambda path: path.stem)
    rows = []
    without_loss = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            if arguments.models and model.stem not in arguments.models:
                continue
            without_loss[model.stem] = lossless(model)
            for qp in arguments.qp:
                rows.append(measure(model, qp, arguments.effort, Path(folder)))
                print(table(rows[-1:])[-1], flush=True)
                write(arguments, rows, without_loss)
    print("", *lossless_table({"rows": rows, "lossless": without_loss}), sep="\n")
    larger = [r for r in rows if r["netpress"] > r["nncodec"]]
    other = [r for r in rows if not r["nncodec_decodes_same_floats"]]
    print(f"\nof {len(rows)}: larger than NNCodec {len(larger)}, decoded by it to other floats {len(other)}")


if __name__ == "__main__":
    main()
