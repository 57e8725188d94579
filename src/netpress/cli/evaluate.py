"""netpress evaluate: what compression does to the networks of tasks, measured."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import rich.table
import typer

import netpress
from netpress.cli import options
from netpress.cli.console import (
    clear_errors,
    counted,
    display_number,
    human_bytes,
    make_table,
    print_json,
    print_line,
    print_table,
    progress,
)

if TYPE_CHECKING:
    from netpress.evaluate.plans import Plan
    from netpress.evaluate.results import Measurement, TaskResults
    from netpress.evaluate.suite import Job, Outcome

__all__ = ["evaluate"]

_GUESS = {False: 110, True: 45}
"""Measurements of a task before one is done, in a full and in a quick run."""
_COLUMNS = (
    "group",
    "tool",
    "setting",
    "size",
    "metric",
    "loss",
    "divergence",
    "encode_seconds",
    "decode_seconds",
    "memory",
    "keeps_topology",
    "error",
)


def evaluate(
    tasks: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TASK...",
            help="Names of installed tasks, or my_file.py:attribute.",
            show_default=False,
        ),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All installed tasks.")] = False,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder with the data of the tasks.", show_default=False)
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few samples, settings and tools.")] = False,
    tools: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERNS",
            help="Only tools whose names match, such as 'netpress*,NNCodec*,ablation,coder'. "
            "A comma with a space after it belongs to a name.",
            show_default=False,
        ),
    ] = None,
    keep_topology: Annotated[
        bool, typer.Option("--keep-topology", help="Leave out tools whose result the original network cannot load.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Samples to evaluate.", show_default=False)] = None,
    store: Annotated[
        str, typer.Option(metavar="FILE", help="Results; what it holds is not measured again.")
    ] = "netpress-results.db",
    jobs: Annotated[int, typer.Option(min=1, help="Tasks at a time, each in a process of its own.")] = 1,
    peer: Annotated[
        str | None,
        typer.Option(
            metavar="COMMAND",
            help="The Python of an environment with NNCodec (default: the variable NETPRESS_PEER).",
            show_default=False,
        ),
    ] = None,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write all measurements.", show_default=False)
    ] = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Measure what compression does to networks: bytes, metric, divergence, times, beside other tools.

    The exit code is 1 if a task could not run; the others are measured all the same.
    """
    with clear_errors(verbose=verbose, quiet=quiet):
        start = time.perf_counter()
        plan = _plan(tools, quick=quick, keep_topology=keep_topology)
        made = _jobs(tasks or [], data, plan, limit, store, jobs, peer, everything=everything)
        if made[0].peer is None and not quiet:
            print_line("NNCodec is left out: give --peer, or set NETPRESS_PEER", file=sys.stderr)
        try:
            outcomes = _run(made, jobs, quiet=quiet)
        except KeyboardInterrupt:
            print_line(f"what was measured is in {store}; the same command goes on from there", file=sys.stderr)
            raise
        found = _results(store, {outcome.name for outcome in outcomes})
        if csv_file is not None:
            _write_csv(found, csv_file)
        if as_json:
            print_json([dataclasses.asdict(results) for results in found])
        elif not quiet:
            for results in found:
                _print(results)
            print_line(f"{store}: {counted(len(found), 'task')} ({time.perf_counter() - start:.0f} s)")
        errors = [outcome for outcome in outcomes if outcome.error is not None]
        if errors:
            raise netpress.InvalidConfig(_words(errors, len(outcomes)))


def _words(errors: list[Outcome], count: int) -> str:
    """What went wrong; where there are several tasks, each has had a line of its own."""
    if count == 1:
        return f"{errors[0].error}"
    return f"{len(errors)} of {count} tasks could not run: {', '.join(outcome.name for outcome in errors)}"


def _plan(tools: str | None, *, quick: bool, keep_topology: bool) -> Plan:
    from netpress.evaluate.plans import FULL, QUICK

    changes: dict[str, Any] = {"keeps_topology": keep_topology}
    if tools is not None:
        changes["tools"] = tuple(word.strip() for word in re.split(",(?! )", tools) if word.strip())
        if not changes["tools"]:
            raise typer.BadParameter("--tools names no tool")
    return dataclasses.replace(QUICK if quick else FULL, **changes)


def _jobs(
    names: list[str],
    data: str | None,
    plan: Plan,
    limit: int | None,
    store: str,
    jobs: int,
    peer: str | None,
    *,
    everything: bool,
) -> list[Job]:
    try:
        from netpress.evaluate.nncodec import peer_command
        from netpress.evaluate.plans import starting_order
        from netpress.evaluate.registry import installed_tasks
        from netpress.evaluate.registry import tasks as installed
        from netpress.evaluate.suite import Job
    except ImportError as error:
        raise netpress.InvalidConfig(f"evaluate needs netpress[evaluate]: {error}") from None
    if bool(names) == everything:
        raise typer.BadParameter("give the names of tasks, or --all")
    if everything and not installed():
        raise netpress.InvalidConfig(installed_tasks())
    chosen = starting_order(installed()) if everything else list(dict.fromkeys(names))
    command = peer_command(peer)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return [
        Job(
            task=name,
            store=store,
            data=data,
            limit=limit,
            plan=plan,
            peer=None if command is None else tuple(command),
            threads=max(1, cores // jobs) if jobs > 1 else 0,
        )
        for name in chosen
    ]


class _Watch:
    """Tells a bar how far the jobs are; how many measurements a task has is known only when one is done."""

    def __init__(self, made: list[Job], bar: Callable[[int, int, str], None] | None) -> None:
        self._bar, self._tasks = bar, len(made)
        self._guess = _GUESS[made[0].plan.is_quick]
        self._start = time.monotonic()
        self.measured = self.done = 0

    def on_done(self, job: Job, outcome: Outcome) -> None:
        """Count a task; where there are several, one that could not run gets a line."""
        self.done += 1
        if outcome.error is not None and self._tasks > 1:
            print_line(f"{job.task}: {outcome.error}", file=sys.stderr)

    def show(self, measured: int) -> None:
        """Show the progress after a number of measurements."""
        self.measured = measured
        each = measured / self.done if self.done else max(self._guess, measured / self._tasks)
        total = max(round(each * self._tasks), measured + 1)
        words = f"{self.done} of {counted(self._tasks, 'task')}, {counted(measured, 'measurement')}"
        if measured:
            left = (time.monotonic() - self._start) * (total - measured) / measured
            words += f", about {max(1, round(left / 60))} min left"
        if self._bar is not None:
            self._bar(measured, total, words)


def _run(made: list[Job], jobs: int, *, quiet: bool) -> list[Outcome]:
    """Run the jobs, with a bar."""
    from netpress.evaluate.store import Store
    from netpress.evaluate.suite import evaluate_all, evaluate_in_processes

    with progress("evaluating", quiet=quiet) as bar, Store(made[0].store) as store:
        watch = _Watch(made, bar)
        if jobs == 1:
            return evaluate_all(made, on_done=watch.on_done, report=lambda _: watch.show(watch.measured + 1))
        first = store.count()
        return evaluate_in_processes(
            made, jobs, on_done=watch.on_done, on_wait=lambda: watch.show(store.count() - first)
        )


def _results(path: str, names: set[str]) -> list[TaskResults]:
    from netpress.evaluate.store import Store

    with Store(path) as store:
        return [found for found in store.results() if found.summary.name in names]


def _write_csv(results: list[TaskResults], path: str) -> None:
    """One line for each measurement; bounds get columns of their own."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["task", *_COLUMNS, "metric_low", "metric_high", "loss_low", "loss_high", "share"])
        for found in results:
            for measured in found.measurements:
                bounds = [*(measured.metric_interval or ("", "")), *(measured.loss_interval or ("", ""))]
                values = ["" if (value := getattr(measured, name)) is None else value for name in _COLUMNS]
                writer.writerow([found.summary.name, *values, *bounds, _share(measured, found) or ""])


def _share(measured: Measurement, found: TaskResults) -> float | None:
    """Size as a share of the float tensors."""
    return measured.size / found.summary.original_bytes if measured.size and found.summary.original_bytes else None


def _print(found: TaskResults) -> None:
    from netpress.evaluate.curves import compare, curves_of

    summary = found.summary
    if found.error is not None:
        return
    unit = f" {summary.unit}" if summary.unit else ""
    float_metric = f"{summary.metric} {display_number(summary.float_metric)}{unit}"
    low, high = summary.float_interval
    bounds = f"{display_number(low)} to {display_number(high)}; " if low < high else ""
    samples, original = counted(summary.samples, "sample"), human_bytes(summary.original_bytes)
    print_line(f"{summary.name}: {float_metric} ({bounds}{samples}), {original}")
    print_table(_table(found))
    ours, theirs = (list(curves_of(found.measurements, word).values()) for word in ("netpress", "NNCodec"))
    compared = compare(ours, theirs)
    if compared is not None:
        span = f"{display_number(compared.lowest)} to {display_number(compared.highest)}"
        print_line(f"at equal divergence ({span}): {compared.ratio:.3f} of the bytes of NNCodec's best")
    if summary.reported_rate:
        print_line(f"verification report: {summary.reported_rate} ({summary.reported_model})")
    for measured in found.measurements:
        if measured.error is not None:
            print_line(f"{measured.tool}, {measured.setting}: {measured.error}".replace(", :", ":"))
    print_line("")


def _table(found: TaskResults) -> rich.table.Table:
    """The transparent point of each tool, and tools of one setting."""
    loss = f"loss{f' ({found.summary.unit})' if found.summary.unit else ''}"
    table = make_table("tool", "setting", "bytes", "share", loss, "95 %", "divergence", left=("tool", "setting"))
    for measured in sorted(found.measurements, key=lambda measured: measured.group != "transparent"):
        is_one = measured.group == "transparent" or (measured.group == "sweep" and "qp" not in measured.options)
        if not is_one or measured.error is not None or measured.size is None:
            continue
        bounds = measured.loss_interval
        table.add_row(
            measured.tool,
            f"transparent, {measured.setting}" if measured.group == "transparent" else measured.setting,
            str(measured.size),
            f"{100 * (_share(measured, found) or 0):.1f} %",
            display_number(measured.loss if measured.loss is not None else math.nan),
            "" if bounds is None else " to ".join(map(display_number, bounds)),
            display_number(measured.divergence if measured.divergence is not None else math.nan),
        )
    return table
