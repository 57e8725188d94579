"""What a search for a promised quality found, as data, text and picture."""

from __future__ import annotations

import dataclasses
import math

from netpress.compare import OutputChange
from netpress.files import atomic_writer

__all__ = ["Band", "CompressionResult", "Trial", "Verification"]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One stream that was made, decoded and evaluated.

    Attributes:
        qp: of a weight of average sensitivity or size.
        bytes: of the stream.
        metric: on the samples of the search.
        drop: how much worse that is than the float network on the same samples; below 0: better.
        margin: what is added to ``expected`` so that the sum is not exceeded with the confidence asked for, and 1.5
            times of it with a higher one (0.97 for 0.8).
        kept: whether ``expected + margin`` and ``drop`` are within the promise; in a search for a size: whether
            ``bytes`` are.
        seconds: to make, decode and evaluate it.
        expected: the drop on samples drawn anew, as the curve through all trials has it; ``drop`` where evaluation
            gives a single number, and in a search for a size.
        change: how its outputs differ from those of the float network; None where there are no inputs.
    """

    qp: int
    bytes: int
    metric: float
    drop: float
    margin: float
    kept: bool
    seconds: float
    expected: float = math.nan
    change: OutputChange | None = None


@dataclasses.dataclass(frozen=True)
class Band:
    """The curve of the drop at one size: the mean over quantisations, and how far it may be from that."""

    bytes: int
    expected: float
    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Verification:
    """The last look at the chosen stream, on samples that the search did not use.

    Attributes:
        drop: on those samples, in units of the metric.
        standard_error: of ``drop``.
        samples: number of samples.
        confirmed: whether ``drop`` is within the promise.
    """

    drop: float
    standard_error: float
    samples: int
    confirmed: bool


@dataclasses.dataclass(frozen=True)
class CompressionResult:
    """What :func:`netpress.compress` found.

    Attributes:
        data: the stream.
        met: for a drop: whether, given the scores of all trials, the drop of ``data`` on samples drawn anew is within
            the promise with the confidence asked for (and within 1.5 times of it with a higher one), its measured drop
            is within it too, and ``verification``, if there is one, confirms it. For a size: whether ``data`` is within
            it. If not, ``data`` is the best that was tried.
        metric, baseline: of ``data`` and of the float network, on the samples of the search.
        promise: in words.
        curve: all trials, in the order in which they were made.
        float_bytes: of the model.
        metric_name, unit, direction: of the metric.
        limit: the drop that was promised, in units of the metric; infinite for a size.
        confidence: that was asked for.
        band: the curve through all trials, by size; empty for a size.
        change: how the outputs of ``data`` differ from those of the float network; None where there are no inputs.
        verification: the last look, if samples were kept apart.
    """

    data: bytes
    met: bool
    metric: float
    baseline: float
    promise: str
    curve: tuple[Trial, ...]
    float_bytes: int
    metric_name: str = "metric"
    unit: str = ""
    limit: float = math.inf
    direction: str = "max"
    confidence: float = 0.8
    band: tuple[Band, ...] = ()
    change: OutputChange | None = None
    verification: Verification | None = None

    def save(self, path: str) -> int:
        """Write the stream to a file, which appears when it is complete; return the number of bytes."""
        with atomic_writer(path) as file:
            file.write(self.data)
        return len(self.data)

    @property
    def chosen(self) -> Trial:
        """The trial whose stream ``data`` is."""
        size = [trial for trial in self.curve if trial.bytes == len(self.data)]
        return next((trial for trial in size if trial.metric == self.metric), size[0])

    def notes(self) -> list[str]:
        """Return what is known of the chosen stream beyond its metric, as lines."""
        unit = f" {self.unit}" if self.unit else ""
        lines = []
        if self.limit < math.inf:
            trial = self.chosen
            bound = trial.expected + trial.margin
            text = f"Drop: {trial.expected:.3g}{unit} expected"
            if trial.margin:
                text += f", at most {bound:.3g} with a confidence of {self.confidence:g}"
            lines.append(f"{text}; {self.limit:.3g} promised.")
        if self.verification is not None:
            look = self.verification
            lines.append(
                f"On {look.samples} samples kept apart: {look.drop:.3g} +- {look.standard_error:.2g}{unit}, "
                f"{'within' if look.confirmed else 'NOT within'} the promise."
            )
        if self.change is not None:
            text = str(self.change)
            lines.append(f"{text[0].upper()}{text[1:]}.")
        return lines

    def report(self) -> str:
        """Return what was tried and chosen, as text with a table in Markdown."""
        unit = f" {self.unit}" if self.unit else ""
        verdict = "kept" if self.met else "NOT KEPT: the best that was tried follows"
        lines = [
            f"Promise: {self.promise}. {verdict}.",
            f"{self.float_bytes} -> {len(self.data)} bytes ({self.float_bytes / len(self.data):.1f}x), "
            f"{self.metric_name} {self.baseline:.6g} -> {self.metric:.6g}{unit}",
            *self.notes(),
            "",
            f"| qp | bytes | {self.metric_name} | drop | expected | margin | kept |",
            "|---:|---:|---:|---:|---:|---:|---|",
        ]
        for trial in sorted(self.curve, key=lambda trial: trial.bytes):
            lines.append(
                f"| {trial.qp} | {trial.bytes} | {trial.metric:.6g} | {trial.drop:+.3g} | {trial.expected:+.3g} "
                f"| {trial.margin:.2g} | {'yes' if trial.kept else 'no'}{' (chosen)' if trial is self.chosen else ''} |"
            )
        if self.band:
            lines += [
                "",
                "The curve through all trials, without what a single quantisation adds by chance:",
                "",
                "| bytes | drop | at least | at most |",
                "|---:|---:|---:|---:|",
                *(f"| {p.bytes} | {p.expected:.3g} | {p.low:.3g} | {p.high:.3g} |" for p in self.band[::-1]),
            ]
        return "\n".join(lines)

    def plot(self, path: str) -> None:
        """Draw metric against bytes into an image file: trials, the curve with its band, the limit and the choice.

        Raises:
            ImportError: matplotlib is missing.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        sign = 1 if self.direction == "max" else -1
        if self.band:
            points = sorted(self.band, key=lambda point: point.bytes)
            sizes = [point.bytes / 1000 for point in points]
            low, middle, high = (
                [self.baseline - sign * getattr(point, name) for point in points]
                for name in ("low", "expected", "high")
            )
            axes.fill_between(sizes, low, high, alpha=0.2, color="C0", label=f"band, confidence {self.confidence:g}")
            axes.plot(sizes, middle, color="C0", linewidth=1, label="curve")
            axes.axhline(self.baseline - sign * self.limit, color="C3", linewidth=0.9, linestyle="--", label="promise")
        tried = [trial for trial in self.curve if not math.isnan(trial.metric)]
        for kept, marker in ((True, "o"), (False, "x")):
            some = [(trial.bytes / 1000, trial.metric) for trial in tried if trial.kept == kept]
            if some:
                axes.plot(
                    *zip(*some, strict=True),
                    marker,
                    color="C0",
                    markersize=5,
                    label="tried, kept" if kept else "tried, not kept",
                )
        label = "chosen" if self.met else "best tried"
        axes.plot([len(self.data) / 1000], [self.metric], "*", color="C1", markersize=14, label=label)
        axes.axhline(self.baseline, color="k", linewidth=0.7, label="float")
        if self.band:
            # Far trials would press all that matters into one line.
            span = max(2.5 * self.limit, 2 * abs(self.metric - self.baseline), 1e-12)
            axes.set_ylim(*sorted((self.baseline - sign * span, self.baseline + sign * span / 3)))
        axes.set_xlabel("kilobytes")
        axes.set_ylabel(f"{self.metric_name} ({self.unit})" if self.unit else self.metric_name)
        axes.set_title(self.promise, fontsize=9)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
        figure.savefig(path)
