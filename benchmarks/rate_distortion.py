"""Bits at equal squared error of the weights: the trellis with the rate in it against NNCodec's dependent quantisation.

    python benchmarks/rate_distortion.py [--json docs/results/rate-distortion.json]

Gaussian and Laplace weights. For several weights of the rate, steps go from fine to coarse; the bits per weight are
those of the real payload. The table says what is saved at 3, 2 and 1 bits per weight against what NNCodec needs for the
same squared error, interpolated between its steps. NNCodec's payload is made by the reference preset's decisions, which
give the same bytes (tests/conformance). "0 passes" is NNCodec's own search with a rate, coded by netpress.

"Best of them" takes at each rate the best weight of the rate, each with the step that fits it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.bitstream.payload import CodedLevels, encode_payload
from netpress.native import Search, TensorCoding, dequantize_uniform
from netpress.quantize.levels import quantize
from netpress.quantize.step_size import step_size
from pages.rate_distortion import rate_distortion_table

RATES = (3.0, 2.0, 1.0)
# qps of density 3: eight steps per octave. Weights have a standard deviation of 2**3.
_DENSITY = 3
_QPS = range(4, 44, 2)
SETTINGS = (
    (0.25, 1),
    (0.25, 5),
    (0.5, 1),
    (0.5, 5),
    (0.75, 5),
    (1.0, 1),
    (1.0, 5),
    (1.0, 10),
    (1.3, 10),
    (1.6, 10),
    (1.0, 0),
)
BEST = "best of them"

Curve = npt.NDArray[np.float64]


def measure(weights: Any, qp: int, lambda_scale: float, passes: int, search: Search) -> tuple[float, float]:
    """Bits per weight and logarithm of the mean squared error."""
    levels, _ = quantize(
        weights,
        qp=qp,
        qp_density=_DENSITY,
        dependent=True,
        lambda_scale=lambda_scale,
        reference=passes == 0,
        passes=max(passes, 1),
    )
    payload, _ = encode_payload(
        [CodedLevels(levels, levels.shape, qp)], TensorCoding(dependent=True), qp_density=_DENSITY, search=search
    )
    values = np.empty(levels.size, np.float32)
    dequantize_uniform(levels.reshape(-1), values, step_size(qp, _DENSITY))
    error = float(np.mean((weights.reshape(-1) - values) ** 2, dtype=np.float64))
    return 8 * len(payload) / levels.size, float(np.log(error))


def curve(weights: Any, lambda_scale: float, passes: int, search: Search = Search.BEST) -> Curve:
    """Bits per weight, growing, and logarithms of the errors: shape (2, points)."""
    points = sorted(measure(weights, qp, lambda_scale, passes, search) for qp in _QPS)
    return np.array(points).T


def difference(own: Curve, other: Curve, bits: float) -> float:
    """Share of bits that a curve needs more than another one for the error that it has at a rate."""
    # Beyond its points a curve says nothing.
    if not own[0, 0] <= bits <= own[0, -1]:
        return float("nan")
    error = np.interp(bits, own[0], own[1])
    if not other[1, -1] <= error <= other[1, 0]:
        return float("nan")
    return float(bits / np.interp(error, other[1, ::-1], other[0, ::-1]) - 1)


def rows_of(source: str, weights: Any) -> list[dict[str, Any]]:
    """Return the differences of all settings on one source."""
    reference = curve(weights, 0, 1, Search.REFERENCE)
    rows = []
    for lambda_scale, passes in SETTINGS:
        own = curve(weights, lambda_scale, passes)
        found = {f"{rate:g}": difference(own, reference, rate) for rate in RATES}
        rows.append({"source": source, "lambda_scale": lambda_scale, "passes": passes, "difference": found})
    best = {key: float(np.nanmin([row["difference"][key] for row in rows])) for key in rows[0]["difference"]}
    return [*rows, {"source": source, "lambda_scale": BEST, "passes": None, "difference": best}]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=640, help="rows and columns of the tensor")
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (arguments.size, arguments.size)
    sources = {"Gaussian": rng.normal(0, 8, shape), "Laplace": rng.laplace(0, 8 * np.sqrt(0.5), shape)}
    rows = [row for name, source in sources.items() for row in rows_of(name, source.astype(np.float32))]
    if arguments.json:
        arguments.json.write_text(json.dumps({"size": arguments.size, "rows": rows}, indent=1) + "\n")
    print("\n".join(rate_distortion_table(rows)))


if __name__ == "__main__":
    main()
