"""Cluster quantisation of real weights: which start is best, what counting bits gains, what the coder makes of it.

    python benchmarks/clusters.py CORPUS [--write docs/results/clusters.json]

Two tables. Starts: the squared error over all weights of a network (each tensor with its own centres), as a multiple of
the least found for this number of bits by any start with many iterations. Sizes: indexes at equal length with 4 bytes
for each centre, the static arithmetic coder of benchmarks/static_coder.py, and our streams, at b bits and, for the
variant that counts bits and for dependent quantisation, with no more error in any tensor.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import netpress
import static_coder
from netpress.quantize.levels import quantize
from netpress.recipe.cluster.levels import to_quantized
from netpress.recipe.cluster.lloyd import Clusters, cluster, fixed_length_bytes
from netpress.recipe.cluster.starts import STARTS

FILES = {
    "ResNet-20": "cifar10-resnet/resnet20.safetensors",
    "DS-CNN": "kws-speech-commands/ds_cnn_l.safetensors",
    "MobileNetV1": "imagenet-mobilenetv1/mobilenet_v1_075_224.safetensors",
    "autoencoder": "autoencoder/ae_n48_m24.safetensors",
}
ITERATIONS = (0, 10, 300)
BITS = range(2, 9)
Model = dict[str, np.ndarray]


def weights_of(path: Path) -> Model:
    """Return the tensors of two or more dimensions, which are those that get clusters."""
    from safetensors.numpy import load_file

    return {name: value for name, value in load_file(path).items() if value.ndim > 1}


def clustered(model: Model, entries: int, **options: Any) -> dict[str, Clusters]:
    """Cluster each tensor."""
    return {name: cluster(value, entries, **options) for name, value in model.items()}


def error_of(clusters: dict[str, Clusters]) -> float:
    """Return the squared error over all tensors, each relative to the power of its tensor."""
    return sum(
        c.squared_error / max(float(np.sum(c.values().astype(np.float64) ** 2)), 1e-30) for c in clusters.values()
    )


def starts_table(model: Model, bits: int, iterations: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Return start -> iterations -> error, as multiples of the least."""
    errors = {
        s: {str(n): error_of(clustered(model, 1 << bits, init=s, iterations=n)) for n in iterations} for s in STARTS
    }
    least = min(error for row in errors.values() for error in row.values())
    return {s: {n: round(error / least, 4) for n, error in row.items()} for s, row in errors.items()}


def stream_bytes(model: Model, clusters: dict[str, Clusters], codebook: bool | None) -> int:
    """Return the size of our stream of these tensors, after a check that it decodes to the rounded centres."""
    quantized = {name: to_quantized(c, codebook=codebook) for name, c in clusters.items()}
    data = netpress.encode(model, quantized=quantized)
    decoded = netpress.decode(data)
    for name, q in quantized.items():
        np.testing.assert_array_equal(decoded[name], q.values())
    return len(data)


def dependent(model: Model, clusters: dict[str, Clusters]) -> dict[str, netpress.QuantizedTensor]:
    """Quantise each tensor with the trellis and the coarsest step that has no more error than its clusters."""
    result = {}
    for name, weight in model.items():
        low, high = -128, 40  # low keeps the error, high does not
        while high - low > 1:
            qp = (low + high) // 2
            levels, used = quantize(weight, qp=qp, qp_density=2, dependent=True)
            decoded = netpress.QuantizedTensor(levels, used, dependent=True).values()
            keeps = float(np.sum((decoded.astype(np.float64) - weight) ** 2)) <= clusters[name].squared_error
            low, high = (qp, high) if keeps else (low, qp)
        levels, used = quantize(weight, qp=low, qp_density=2, dependent=True)
        result[name] = netpress.QuantizedTensor(levels, used, dependent=True)
    return result


def rate_weights(clusters: dict[str, Clusters], model: Model) -> dict[str, float]:
    """Return for each tensor the squared error that a bit is worth at its present error, at a high rate."""
    return {n: 2 * np.log(2) * c.squared_error / model[n].size for n, c in clusters.items()}


def with_rate(model: Model, plain: dict[str, Clusters], bits: int) -> dict[str, Clusters]:
    """Cluster with a count of bits, at no more error in any tensor than the plain clusters have."""
    result = {}
    for name, weight in rate_weights(plain, model).items():
        low, high = 0.0, 2.0  # multiples of the weight
        best = plain[name]
        for _ in range(8):
            middle = (low + high) / 2
            entries = min(4 << bits, 4096)
            trial = cluster(model[name], entries, rate_weight=middle * weight)
            if trial.squared_error <= plain[name].squared_error:
                low, best = middle, trial if trial.entropy_bits() < best.entropy_bits() else best
            else:
                high = middle
        result[name] = best
    return result


def sizes_row(model: Model, bits: int) -> dict[str, float | int]:
    """Return sizes in bytes at one number of bits."""
    plain = clustered(model, 1 << bits)
    aware = with_rate(model, plain, bits)
    float_bytes = 4 * sum(v.size for v in model.values())
    return {
        "float": float_bytes,
        "fixed_length": sum(fixed_length_bytes(c) for c in plain.values()),
        "static_coder": sum(static_coder.coded_bytes(c) for c in plain.values()),
        "stream": stream_bytes(model, plain, True),
        "static_coder_with_rate": sum(static_coder.coded_bytes(c) for c in aware.values()),
        "stream_with_rate": stream_bytes(model, aware, True),
        "stream_dependent": len(netpress.encode(model, quantized=dependent(model, plain))),
        "relative_error": error_of(plain) / len(model),
        "relative_error_with_rate": error_of(aware) / len(model),
    }


def print_starts(network: str, table: dict[str, dict[str, dict[str, float]]]) -> None:
    """Print one network's table of starts."""
    print(f"\n{network}: error by start and iterations, 1 = least")
    print("b   " + "  ".join(f"{s:>23}" for s in STARTS))
    print("    " + "  ".join(" ".join(f"{n:>7}" for n in ITERATIONS) for _ in STARTS))
    for bits, rows in table.items():
        cells = "  ".join(" ".join(f"{rows[s][str(n)]:7.3f}" for n in ITERATIONS) for s in STARTS)
        print(f"{bits:3} {cells}")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--write", type=Path)
    arguments = parser.parse_args()
    result: dict[str, Any] = {"starts": {}, "sizes": {}}
    started = time.perf_counter()
    for network, file in FILES.items():
        model = weights_of(arguments.corpus / file)
        starts = {str(b): starts_table(model, b, ITERATIONS) for b in BITS}
        print_starts(network, starts)
        sizes = {str(b): sizes_row(model, b) for b in BITS}
        print(f"{network}: bytes as a share of float32, in percent")
        for bits, row in sizes.items():
            shares = "  ".join(f"{key} {100 * row[key] / row['float']:.2f}" for key in list(row)[1:7])
            print(f"{bits:3} {shares}  error {row['relative_error']:.2e} {row['relative_error_with_rate']:.2e}")
        result["starts"][network], result["sizes"][network] = starts, sizes
    print(f"{time.perf_counter() - started:.0f} s")
    if arguments.write:
        arguments.write.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
