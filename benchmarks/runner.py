"""The runner of the benchmarks that ask something of tasks; measures with the engine of ``netpress evaluate``.

A benchmark says which tools it measures on which tasks. This module loads the tasks, measures bytes, divergence and
metric of each tool at parameters that span the divergences of interest, keeps what an earlier run found about other
tasks and rows, and has the options that all such benchmarks share.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import netpress
from netpress import Scores, Task, evaluate
from netpress.evaluate.judge import Judge
from netpress.evaluate.sampler import LOGITS_SPAN, CurveSampler, Sample
from netpress.evaluate.tools import Tool
from places import CORPUS
from rivals import nncodec

Row = dict[str, Any]
Found = dict[str, Any]


def load(name: str, data: Path, limit: int | None) -> Task:
    """Return a task with a number of its samples; None for all."""
    return evaluate.load(name, data=data, **({} if limit is None else {"limit": limit}))


def calibrate(task: Task, module: torch.nn.Module, **options: Any) -> netpress.Calibration:
    """Return the calibration of a network with all calibration batches of its task."""
    batches = task.batches("calibration")
    return netpress.calibrate(module, batches, forward=task.output, outputs=task.outputs, **options)


class Bench:
    """One task: its network, its judge, and what was measured.

    Args:
        task: with evaluation batches.
        span: lowest and highest divergence of interest.
    """

    def __init__(self, task: Task, span: tuple[float, float] = LOGITS_SPAN) -> None:
        self.task = task
        self._start = time.perf_counter()
        self.judge = Judge(task, resamples=2)  # the intervals are not asked for
        self.module = self.judge.module
        self._sampler = CurveSampler(self._sample, points=0, approaches=2, span=span)
        self._points: dict[tuple[str, int], Found] = {}
        self._streams: dict[tuple[str, int], bytes | None] = {}

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._start

    def say(self, text: str) -> None:
        """Print a line with the time."""
        print(f"[{self.task.name} {self.seconds:6.0f} s] {text}", flush=True)

    def point(self, tool: Tool, qp: int) -> Found:
        """Encode, decode and measure at one qp."""
        key = (tool.name, qp)
        if key not in self._points:
            made = tool.make(qp)
            judged = self.judge.judge(made.state)
            if judged.divergences is None:
                raise netpress.InvalidConfig(f"task {self.task.name!r} has no evaluation batches")
            self._points[key] = {
                "qp": qp,
                "bytes": made.size,
                "divergence": judged.divergences.value,
                "standard_error": _standard_error(judged.divergences),
                "metric": judged.metric,
                "seconds": made.encode_seconds,
            }
            self._streams[key] = made.stream
        return self._points[key]

    def _sample(self, tool: Tool, qp: int) -> Sample:
        return Sample(max(self.point(tool, qp)["divergence"], 1e-12))

    def curve(self, codec: str, tool: Tool, count: int, *, check: bool = False) -> Row:
        """Measure a tool over the span.

        Args:
            codec: ``"NNCodec"`` or ``"netpress"``.
            tool: its name is the label of the row.
            count: points, at divergences in equal ratios.
            check: whether NNCodec decodes the stream in the middle to what netpress decodes.
        """
        self._sampler.points = count
        self._sampler.sample(tool)
        qps = sorted(self._sampler.samples[tool.name])
        points = [self.point(tool, qp) for qp in qps]
        row: Row = {"codec": codec, "label": tool.name, "points": points}
        stream = self._streams[tool.name, qps[len(qps) // 2]]
        if check and stream is not None and nncodec.available():
            row["decoded_alike"] = nncodec.decoded_alike(stream, netpress.Decoder().decode(stream))
        text = "  ".join(f"{p['qp']}: {p['bytes']} {p['divergence']:.4f} {p['metric']:.4g}" for p in points)
        self.say(f"{codec}, {tool.name} | {text}")
        return row

    def at_divergence(self, tool: Tool, divergence: float) -> int:
        """Return a qp at which a tool has about this divergence."""
        self._sampler.points = 1
        self._sampler.sample(tool)
        self._sampler.approach(tool, divergence)
        return self._sampler.nearest(tool, divergence)[0]

    def about(self) -> Found:
        """The task and its float network, as the results have them."""
        state = self.module.state_dict().values()
        return {
            "metric": self.task.metric,
            "unit": self.task.unit,
            "direction": self.task.direction,
            "baseline": self.judge.float_metric,
            "float_bytes": 4 * sum(value.numel() for value in state if value.is_floating_point()),
        }

    @property
    def evaluation_samples(self) -> int:
        """Samples whose outputs are compared."""
        return sum(len(netpress.task.inputs_of(batch)) for batch in self.task.batches("evaluation"))


def _standard_error(divergences: Scores) -> float:
    samples = divergences.samples
    if samples.ndim > 1:  # squares, whose quotient is not a mean
        return evaluate.standard_error(divergences)
    return float(samples.std(ddof=1) / math.sqrt(len(samples)))


def merged(rows: Iterable[tuple[str, Callable[[], Row]]], pattern: str, before: Found) -> list[Row]:
    """Return rows in their order: measured now if their label matches, else as an earlier run found them, or left out.

    Args:
        rows: label and what measures it.
        pattern: of labels.
        before: what an earlier run found about the task.
    """
    known = {row["label"]: row for row in before.get("rows", ())}
    found = ((measure() if fnmatch.fnmatch(label, pattern) else known.get(label)) for label, measure in rows)
    return [row for row in found if row is not None]


def parser(doc: str | None, tasks: Iterable[str], out: Path | None) -> argparse.ArgumentParser:
    """Return the options that the benchmarks share.

    Args:
        doc: what the benchmark does.
        tasks: names that ``--task`` takes.
        out: file for the figures; None if they are written only when asked for.
    """
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--data", type=Path, default=CORPUS, help="folder laid out like the corpus")
    made.add_argument("--task", action="append", choices=list(tasks), help="only this task; can be repeated")
    made.add_argument("--threads", type=int, default=0, help="of torch; 0 for its own choice")
    made.add_argument(
        "--json", "--out", type=Path, default=out, help="file for the figures; other tasks in it are kept"
    )
    return made


def run(
    arguments: argparse.Namespace,
    order: Sequence[str],
    measure: Callable[[str, Found], Found],
    *,
    asked: Iterable[str] | None = None,
    table: Callable[[Mapping[str, Found]], list[str]],
) -> dict[str, Found]:
    """Measure the tasks that are asked for, write what is known after each, and print a table in the end.

    Args:
        arguments: of :func:`parser`.
        order: of the tasks in the file.
        measure: returns what the file says of a task, from its name and what an earlier run found.
        asked: tasks without ``--task``; None for all.
        table: lines that show some tasks.
    """
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    path: Path | None = arguments.json
    tasks: dict[str, Found] = {}
    if path is not None and path.exists():
        tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    for name in arguments.task or asked or order:
        tasks[name] = {**measure(name, tasks.get(name, {})), "about": about(arguments)}
        tasks = {task: tasks[task] for task in order if task in tasks}
        if path is not None:
            path.write_text(json.dumps({"tasks": tasks}, indent=1) + "\n", encoding="utf-8")
    print("\n".join(table(tasks)))
    return tasks


def about(arguments: argparse.Namespace) -> Found:
    """What a run was made with."""
    return {
        "netpress": netpress.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "quick": getattr(arguments, "quick", False),
        "threads": torch.get_num_threads(),
    }
