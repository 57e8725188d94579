"""What people do without netpress: 8 bits per weight with a scale per output channel, then zstd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pages.size import ZSTD_LEVEL

Array = np.ndarray[Any, Any]


def available() -> bool:
    """Whether the package ``zstandard`` is there."""
    try:
        import zstandard  # noqa: F401
    except ImportError:
        return False
    return True


def compress(
    tensors: Mapping[str, Array], output_axes: Mapping[str, int] | None = None
) -> tuple[int, dict[str, Array]]:
    """Return the bytes of float tensors, and what they become.

    Weights are those with two or more dimensions longer than 1: symmetric integers from -127 to 127, the largest of
    each output channel at 127. Vectors stay as they are.

    Args:
        tensors: by name.
        output_axes: axis of the output channels where it is not 0.
    """
    import zstandard

    parts, decoded = [], {}
    for name, value in tensors.items():
        value = np.asarray(value, np.float32)
        decoded[name] = value
        if sum(length > 1 for length in value.shape) < 2:
            parts.append(value.tobytes())
            continue
        integers, scales = _quantize(np.moveaxis(value, (output_axes or {}).get(name, 0), 0))
        parts += [integers.tobytes(), scales.tobytes()]
        decoded[name] = np.moveaxis(integers * scales, 0, (output_axes or {}).get(name, 0)).astype(np.float32)
    return len(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(b"".join(parts))), decoded


def _quantize(rows: Array) -> tuple[Array, Array]:
    """Integers of a tensor, and a scale for each entry of the first axis."""
    largest = np.abs(rows).max(axis=tuple(range(1, rows.ndim)), keepdims=True)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(rows / scales).astype(np.int8), scales
