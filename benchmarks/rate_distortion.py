"""Bits at equal squared error: the trellis with the rate in it against the trellis without.

    python benchmarks/rate_distortion.py

Gaussian and Laplace weights of unit variance, several qps; for each the bits per weight, and the difference to what the
plain trellis (NNCodec's default) needs for the same error, interpolated between its qps.
"0 passes" is NNCodec's own search with a rate.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from netpress import _core
from netpress.payload import CodedLevels, encode_payload
from netpress.quantize.levels import quantize
from netpress.quantize.step_size import step_size

QPS = (-7, -3, 0, 3)


def measure(weights: Any, qp: int, lambda_scale: float, passes: int, reference: bool = False) -> tuple[float, float]:
    """Bits per weight and mean squared error in dB."""
    levels, _ = quantize(
        weights, qp=qp, qp_density=2, dependent=True, lambda_scale=lambda_scale, reference=reference, passes=passes
    )
    payload, _ = encode_payload([CodedLevels(levels, levels.shape, qp)], qp_density=2, dependent=True, unary_length=11)
    values = np.empty(levels.size, np.float32)
    _core.dequantize_uniform(levels.reshape(-1), values, step_size(qp, 2))
    error = float(np.mean((weights.reshape(-1) - values) ** 2))
    return 8 * len(payload) / levels.size, 10 * float(np.log10(error))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="rows and columns of the tensor")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (arguments.size, arguments.size)
    sources = {"Gaussian": rng.normal(0, 1, shape), "Laplace": rng.laplace(0, np.sqrt(0.5), shape)}
    rows = []
    for name, source in sources.items():
        weights = source.astype(np.float32)
        curve = [measure(weights, qp, 0, 1) for qp in range(-12, 14)]
        bits, errors = np.array([c[0] for c in curve]), np.array([c[1] for c in curve])
        for lambda_scale, passes in ((0.25, 1), (0.5, 1), (1.0, 1), (1.0, 2), (1.0, 0)):
            for qp in QPS:
                rate, error = measure(weights, qp, lambda_scale, passes, reference=passes == 0)
                same = float(np.interp(error, errors, bits))
                row = {"source": name, "lambda_scale": lambda_scale, "passes": passes, "qp": qp, "bits": rate}
                rows.append({**row, "difference": rate / same - 1})
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    print("| weights | lambda_scale, passes | " + " | ".join(f"qp {qp}" for qp in QPS) + " |")
    print("|---|---|" + "---:|" * len(QPS))
    for start in range(0, len(rows), len(QPS)):
        group = rows[start : start + len(QPS)]
        cells = " | ".join(f"{r['bits']:.2f} bits, {100 * r['difference']:+.1f} %" for r in group)
        print(f"| {group[0]['source']} | {group[0]['lambda_scale']}, {group[0]['passes']} | {cells} |")


if __name__ == "__main__":
    main()
