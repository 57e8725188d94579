"""Compress the bundled network at several settings and measure what is left of it."""

from __future__ import annotations

import dataclasses
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

import netpress
from netpress.demo.network import accuracy, load_model, load_test_set, read_float_file

__all__ = ["EFFORTS", "QPS", "DemoRow", "run_demo"]

EFFORTS: tuple[int, ...] = (1, 5, 9)
"""Effort levels that the demo shows, at the default quality."""

QPS: tuple[int, ...] = (-32, -28, -24, -20)
"""Quantisation parameters that the demo shows, at the default effort; four more make the steps twice as large."""


@dataclasses.dataclass(frozen=True, slots=True)
class DemoRow:
    """One way to store the network.

    Attributes:
        setting: how it was stored.
        bytes: size of the file.
        share: size as a share of the float32 file, 0 to 1.
        bits_per_weight: size in bits, divided by the number of values of the network.
        accuracy: share of test images told right after decoding, 0 to 1.
        accuracy_change: ``accuracy`` minus that of the float32 network.
        seconds: time to encode.
    """

    setting: str
    bytes: int
    share: float
    bits_per_weight: float
    accuracy: float
    accuracy_change: float
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a dictionary for JSON."""
        return dataclasses.asdict(self)


def run_demo(progress: Callable[[int, int, str], None] | None = None) -> list[DemoRow]:
    """Encode and decode the bundled network at every setting of the demo.

    Args:
        progress: called as ``progress(done, total, setting)`` before each setting and once at the end.

    Returns:
        A row for the float32 file, one for the same file in zlib, then one for each of :data:`EFFORTS` and :data:`QPS`.

    Example:
        >>> rows = run_demo()
        >>> rows[0].setting, round(rows[0].bits_per_weight)
        ('float32 file', 32)
    """
    state = load_model()
    images, labels = load_test_set()
    float_file = read_float_file()
    values = sum(value.size for value in state.values())
    float_accuracy = accuracy(state, images, labels)

    def row(setting: str, size: int, decoded: Mapping[str, npt.NDArray[Any]], seconds: float) -> DemoRow:
        reached = accuracy(decoded, images, labels)
        return DemoRow(
            setting, size, size / len(float_file), 8 * size / values, reached, reached - float_accuracy, seconds
        )

    settings: list[tuple[str, dict[str, Any]]] = [(f"effort {effort}", {"effort": effort}) for effort in EFFORTS]
    settings += [(f"qp {qp}", {"qp": qp}) for qp in QPS]
    report = progress or _ignore
    report(0, len(settings), "float32 file")
    start = time.perf_counter()
    zipped = len(zlib.compress(float_file, 9))
    rows = [
        row("float32 file", len(float_file), state, 0.0),
        row("zlib, level 9", zipped, state, time.perf_counter() - start),
    ]
    for done, (setting, options) in enumerate(settings):
        report(done, len(settings), setting)
        start = time.perf_counter()
        data = netpress.encode(state, **options)
        seconds = time.perf_counter() - start
        rows.append(row(setting, len(data), netpress.decode(data), seconds))
    report(len(settings), len(settings), "")
    return rows


def _ignore(done: int, total: int, setting: str) -> None:
    """Report nothing."""
