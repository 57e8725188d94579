"""Numbers and names as a reader wants to see them."""

from __future__ import annotations

import math
import re

from netpress.evaluate.results import Interval, TaskSummary

__all__ = [
    "NOTHING",
    "Metric",
    "bytes_text",
    "count_text",
    "file_stem",
    "number_text",
    "printable",
    "range_text",
    "rate_text",
    "ratio_text",
    "seconds_text",
    "shape_text",
    "shortened",
]

NOTHING = "–"
"""Stands for a value that is not there."""


def printable(text: str) -> str:
    """Return the text with every character that has no picture as its escape sequence; line breaks become spaces.

    Example:
        >>> printable("a\\nb\\x00")
        'a b\\\\x00'
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else " " if character in "\r\n" else ascii(character)[1:-1]
        for character in text
    )


def shortened(text: str, length: int) -> str:
    """Return a printable text of at most ``length`` characters; the middle of a longer one is left out.

    Example:
        >>> shortened("layers.0.attention.weight", 12)
        'layers…eight'
    """
    text = printable(text)
    if len(text) <= length:
        return text
    head = length // 2
    return text[:head] + "…" + text[len(text) - (length - head - 1) :]


def number_text(value: float | None, digits: int = 3) -> str:
    """Return a number with some significant digits; a minus sign as typesetters have it.

    Example:
        >>> number_text(0.0123456), number_text(1234567), number_text(None)
        ('0.0123', '1.23e+06', '–')
    """
    if value is None or math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}g}".replace("-", "−", 1) if value < 0 else f"{value:.{digits}g}"


def count_text(value: int | None) -> str:
    """Return an integer with its thousands apart.

    Example:
        >>> count_text(272474)
        '272,474'
    """
    return NOTHING if value is None else f"{value:,}"


def bytes_text(count: float | None) -> str:
    """Return a number of bytes with three significant digits and a decimal unit.

    Example:
        >>> bytes_text(999), bytes_text(1234), bytes_text(45_678_901)
        ('999 B', '1.23 kB', '45.7 MB')
    """
    if count is None or math.isnan(count):
        return NOTHING
    units = ("B", "kB", "MB", "GB", "TB")
    power = 0
    while power < len(units) - 1 and float(f"{count:.3g}") >= 1000:
        count, power = count / 1000, power + 1
    return f"{count:.0f} B" if power == 0 else f"{float(f'{count:.3g}'):g} {units[power]}"


def rate_text(share: float | None) -> str:
    """Return a share of the original size in per cent.

    Example:
        >>> rate_text(0.0734), rate_text(0.123), rate_text(1.5)
        ('7.3 %', '12.3 %', '150 %')
    """
    if share is None or math.isnan(share):
        return NOTHING
    percent = 100 * share
    return f"{percent:.2f} %" if percent < 1 else f"{percent:.1f} %" if percent < 100 else f"{percent:.0f} %"


def ratio_text(ratio: float | None) -> str:
    """Return how often one size goes into another.

    Example:
        >>> ratio_text(0.8149)
        '0.81 ×'
    """
    return NOTHING if ratio is None or math.isnan(ratio) else f"{ratio:.2f} ×"


def seconds_text(seconds: float | None) -> str:
    """Return a duration with its unit.

    Example:
        >>> seconds_text(0.0123), seconds_text(2.5), seconds_text(150)
        ('12 ms', '2.5 s', '2.5 min')
    """
    if seconds is None or math.isnan(seconds):
        return NOTHING
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def shape_text(shape: tuple[int, ...]) -> str:
    """Return a shape.

    Example:
        >>> shape_text((16, 3, 3, 3)), shape_text(())
        ('16 × 3 × 3 × 3', 'scalar')
    """
    return " × ".join(map(str, shape)) or "scalar"


class Metric:
    """Writes values of the metric of a task, with as many decimals as its tolerance makes sense of."""

    def __init__(self, summary: TaskSummary) -> None:
        self.name, self.unit = summary.metric, summary.unit
        self.decimals = self._decimals(summary.tolerance, summary.float_metric)

    @staticmethod
    def _decimals(tolerance: float, value: float) -> int:
        scale = tolerance / 10 if tolerance > 0 else abs(value) / 1000
        if not 0 < scale < math.inf:
            return 3
        return min(max(0, math.ceil(-math.log10(scale) - 1e-9)), 6)

    def text(self, value: float | None, *, unit: bool = True) -> str:
        """Return a value, with its unit unless that is not wanted."""
        if value is None or not math.isfinite(value):
            return number_text(value)
        sign = "−" if value < 0 and round(value, self.decimals) != 0 else ""
        return f"{sign}{abs(value):.{self.decimals}f}" + (f" {self.unit}" if unit and self.unit else "")

    def interval_text(self, interval: Interval | None) -> str:
        """Return the bounds of a value."""
        if interval is None:
            return NOTHING
        low, high = (self.text(bound, unit=False) for bound in interval)
        return f"{low} to {high}"

    @property
    def loss_unit(self) -> str:
        """The unit of differences: those of percentages are points."""
        return "points" if self.unit == "%" else self.unit

    def loss_text(self, loss: float | None) -> str:
        """Return a difference of two values."""
        text = self.text(loss, unit=False)
        return text if text == NOTHING or not self.loss_unit else f"{text} {self.loss_unit}"


def range_text(text: str) -> str:
    """Return a phrase with the dash that belongs between numbers.

    Example:
        >>> range_text("9-15 %")
        '9–15 %'
    """
    return re.sub(r"(?<=\d)-(?=\d)", "–", text)


def file_stem(name: str, taken: set[str]) -> str:
    """Return the name of a file for a task that has any name, other than those taken; it is added to them.

    Example:
        >>> file_stem("my net/2", set()), file_stem("A", {"a"})
        ('my-net-2', 'A-2')
    """
    safe = re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.")[:80] or "task"
    stem, count = safe, 1
    while stem.lower() in taken:  # file systems that ignore case would write one over the other
        count += 1
        stem = f"{safe}-{count}"
    taken.add(stem.lower())
    return stem
