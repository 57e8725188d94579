"""Baseline: cluster indexes under an arithmetic coder with transmitted, static probabilities.

MPEG's core experiment on arithmetic coding counted what is needed to rebuild the parameters: coded indexes,
probabilities and centres. So does this, with a range coder of the package ``constriction``. It is measured against and
never written into files.

    python benchmarks/static_coder.py MODEL.safetensors [--bits 4]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import constriction
import numpy as np

from netpress.recipe.cluster.lloyd import Clusters, cluster, fixed_length_bytes

__all__ = ["coded_bytes"]

_COUNT_BYTES = 2
_CENTRE_BYTES = 4
_TOTAL = 1 << 16


def coded_bytes(clusters: Clusters) -> int:
    """Return the bytes of indexes, 16-bit probabilities and float32 centres, after decoding the indexes again.

    Raises:
        AssertionError: the decoded indexes differ.
    """
    counts = clusters.counts()
    entries = len(counts)
    header = entries * (_COUNT_BYTES + _CENTRE_BYTES)
    if entries == 1:
        return header
    sent = transmitted_counts(counts)
    model = constriction.stream.model.Categorical(sent.astype(np.float32) / np.float32(sent.sum()), perfect=False)
    symbols = np.ascontiguousarray(clusters.indexes.reshape(-1))
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(symbols, model)
    words = encoder.get_compressed()
    decoded = constriction.stream.queue.RangeDecoder(words).decode(model, symbols.size)
    np.testing.assert_array_equal(decoded, symbols)
    return header + words.nbytes


def transmitted_counts(counts: np.ndarray) -> np.ndarray:
    """Return counts of 1..65535 in the same proportions: uint16 is what is sent for each entry."""
    scaled = np.rint(counts * ((_TOTAL - 1) / counts.max()))
    return np.clip(scaled, 1, _TOTAL - 1).astype(np.uint16).astype(np.int64)


def main() -> None:
    """Print sizes of one model."""
    from safetensors.numpy import load_file

    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--bits", type=int, default=4)
    arguments = parser.parse_args()
    weights = [value for value in load_file(arguments.model).values() if value.ndim > 1]
    clusters = [cluster(value, 1 << arguments.bits) for value in weights]
    print("float32     ", sum(4 * value.size for value in weights))
    print("equal length", sum(map(fixed_length_bytes, clusters)))
    print("static coder", sum(map(coded_bytes, clusters)))
    print("entropy     ", int(sum(c.entropy_bits() for c in clusters)) // 8)


if __name__ == "__main__":
    main()
