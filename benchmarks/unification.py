"""What weight unification gains in our streams: size and error against plain quantisation at other steps.

    python benchmarks/unification.py CORPUS/cifar10-resnet/resnet20.safetensors

For each block shape and share of unified blocks, streams are made at several steps. Each has a size and a relative
squared error of the decoded weights; the size is divided by that of plain quantisation at this error (between measured
steps, in proportion). Printed is the step with the least ratio: below 1, unification gains.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import netpress
from netpress.recipe.unify.blocks import unify

BLOCKS = ((1, 3), (1, 9), (2, 2), (4, 4), (8, 8))
SHARES = (0.25, 0.5, 0.75, 1.0)
QPS = range(-30, -3)
UNIFIED_QPS = range(-30, -7, 2)
Model = dict[str, np.ndarray]


def measure(model: Model, coded: Model, qp: int) -> tuple[int, float]:
    """Return the size of a stream and the error of what it decodes to, relative to the original's power."""
    data = netpress.encode(coded, qp=qp)
    decoded = netpress.decode(data)
    error = sum(float(np.sum((decoded[n].astype(np.float64) - v) ** 2)) for n, v in model.items())
    return len(data), error / sum(float(np.sum(v.astype(np.float64) ** 2)) for v in model.values())


def main() -> None:
    """Measure and print."""
    from safetensors.numpy import load_file

    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    path = parser.parse_args().model
    model = {name: value for name, value in load_file(path).items() if value.ndim > 1}
    plain = sorted(measure(model, model, qp)[::-1] for qp in QPS)
    errors, sizes = np.log([e for e, _ in plain]), [s for _, s in plain]
    print(f"{'block':>8} {'share':>6} {'qp':>4} {'bytes':>8} {'error':>10} {'bytes / plain':>14}")
    for block in BLOCKS:
        for share in SHARES:
            coded = {name: unify(value, block=block, share=share).values for name, value in model.items()}
            rows = []
            for qp in UNIFIED_QPS:
                size, error = measure(model, coded, qp)
                if errors[0] <= np.log(error) <= errors[-1]:
                    rows.append((size / np.interp(np.log(error), errors, sizes), qp, size, error))
            ratio, qp, size, error = min(rows, default=(np.nan, 0, 0, np.nan))
            print(f"{block!s:>8} {share:6.2f} {qp:4} {size:8} {error:10.2e} {ratio:14.3f}")


if __name__ == "__main__":
    main()
