"""Time per weight of each stage of the core, on one thread.

    python benchmarks/stages.py

One matrix of Laplace weights, dependent quantisation. CPU time of the calling thread, the smallest of several runs, so
that other programs on the machine disturb little. With NETPRESS_PEER (see rivals/nncodec.py) NNCodec encodes
the same matrix with and without rate term, in wall-clock time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

import netpress
from netpress import native
from rivals import nncodec

_NEXT_STATE = ((0, 2), (7, 5), (1, 3), (6, 4), (2, 0), (5, 7), (3, 1), (4, 6))
_UNARY_LENGTH = 11


def least_seconds(runs: int, function: Callable[[], Any]) -> float:
    """Smallest CPU time of several runs."""
    times = []
    for _ in range(runs):
        start = time.thread_time()
        function()
        times.append(time.thread_time() - start)
    return min(times)


def coded_bins(levels: Any) -> int:
    """Number of context-coded bins of the levels of a dependent quantiser, as far as the unary part goes."""
    state = bins = 0
    for level in levels.tolist():
        size = (abs(level) + (state & 1)) >> 1 if level else 0
        bins += 2 + min(size, _UNARY_LENGTH) if size else 1
        state = _NEXT_STATE[state][size & 1]
    return bins


def encode(levels: Any, edge: int, search: native.Search) -> bytes:
    """Code the levels."""
    encoder = native.PayloadEncoder()
    encoder.tensor(levels, native.TensorCoding(edge, edge, dependent=True), search)
    return encoder.finish()[0]


def decode(payload: bytes, levels: Any, edge: int) -> None:
    """Decode them."""
    decoder = native.PayloadDecoder(np.frombuffer(payload, np.uint8))
    decoder.tensor(levels, native.TensorCoding(edge, edge, dependent=True))
    decoder.finish()


def decode_together(payloads: list[bytes], size: int, edge: int) -> None:
    """Decode several matrices in one batch, on this thread."""
    batch = native.BatchDecoder()
    for payload in payloads:
        batch.begin(np.frombuffer(payload, np.uint8))
        levels = np.empty(size, np.int32)
        batch.add(levels, native.TensorCoding(edge, edge, dependent=True), 0, False, 0, 2)
    batch.run()


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--edge", type=int, default=1024, help="rows and columns of the matrix")
    parser.add_argument("--qp", type=int, default=-30)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    edge, qp, runs = options.edge, options.qp, options.runs
    weights = np.random.default_rng(1).laplace(0, 0.02 / np.sqrt(2), edge * edge).astype(np.float32)
    levels = np.empty(weights.size, np.int32)
    arguments = (weights, levels, edge, edge, qp)
    stages = {
        "trellis with NNCodec's rate": lambda: native.quantize_trellis(*arguments, lambda_scale=1.0),
        "trellis with rate, ours (with the one before it)": lambda: native.quantize_rd(*arguments),
        "trellis without rate": lambda: native.quantize_trellis(*arguments),
        "coding": lambda: encode(levels, edge, native.Search.OFF),
        "coding and search as NNCodec": lambda: encode(levels, edge, native.Search.REFERENCE),
        "coding and best search": lambda: encode(levels, edge, native.Search.BEST),
    }
    print("| stage | ns per weight |\n|---|---|")
    for name, stage in stages.items():
        print(f"| {name} | {1e9 * least_seconds(runs, stage) / weights.size:.1f} |")
    payload = encode(levels, edge, native.Search.BEST)
    seconds = least_seconds(runs, lambda: decode(payload, np.empty_like(levels), edge))
    print(f"| decoding | {1e9 * seconds / weights.size:.1f} |")
    together = least_seconds(runs, lambda: decode_together([payload] * 4, weights.size, edge)) / 4
    print(f"| decoding, four together | {1e9 * together / weights.size:.1f} |")
    bins = coded_bins(levels)
    print(f"\n{bins / weights.size:.2f} context-coded bins per weight, {8 * len(payload) / weights.size:.2f} bits;")
    print(f"decoding: {1e9 * seconds / bins:.1f} ns per bin, {bins / seconds / 1e6:.0f} million bins per second")
    if nncodec.available():
        compare(weights.reshape(edge, edge), qp, runs)


def compare(weights: Any, qp: int, runs: int) -> None:
    """Encode with NNCodec and in reference mode, with and without rate term."""
    with tempfile.TemporaryDirectory() as folder:
        source, stream = Path(folder, "w.safetensors"), Path(folder, "w.nnc")
        save_file({"w": weights}, source)
        for scale in (0, 1):
            config = netpress.EncodeConfig.reference(qp=qp, lambda_scale=float(scale))
            theirs, ours = [], []
            for _ in range(runs):
                theirs.append(nncodec.encode(source, stream, qp=qp, lambda_scale=scale)["seconds"])
                start = time.perf_counter()
                data = netpress.encode({"w": weights}, config)
                ours.append(time.perf_counter() - start)
            same = "same" if data == stream.read_bytes() else "other"
            ratio = float(np.median(theirs)) / float(np.median(ours))
            print(
                f"lambda {scale}: NNCodec {np.median(theirs):.3f} s, reference mode {np.median(ours):.3f} s,", end=" "
            )
            print(f"{ratio:.1f} times faster, {same} bytes")


if __name__ == "__main__":
    main()
