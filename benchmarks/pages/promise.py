"""docs/results/promise.md: how often a promise was exceeded on samples that the search had not seen, and the bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pages.common import load, table_lines

RULES = ("before", "now", "known")


def figures(runs: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return what some runs come to.

    Keys: ``runs``; ``met``, share that says it keeps the promise; of these, shares ``exceeded`` and ``by_half``, where
    the drop on the samples that judge is above the promise, and above 1.5 times of it; ``bytes``, the geometric mean
    of the bytes over those of the smallest stream that keeps the promise on all samples.
    """
    runs = list(runs)
    kept = [run for run in runs if run["met"]]
    drops = np.array([run["drop"] for run in kept])
    ratios = np.array([run["bytes"] / run["smallest"] for run in runs])
    return {
        "runs": len(runs),
        "met": len(kept) / len(runs),
        "exceeded": float((drops > 1 + 1e-9).mean()) if kept else 0.0,
        "by_half": float((drops > 1.5 + 1e-9).mean()) if kept else 0.0,
        "bytes": float(np.exp(np.log(ratios).mean())),
    }


def cells(found: Mapping[str, float]) -> list[str]:
    """Return the columns of one rule."""
    return [f"{100 * found['exceeded']:.0f} %", f"{100 * found['by_half']:.0f} %", f"{found['bytes']:.2f}"]


def last(found: list[dict[str, float]]) -> list[str]:
    """Return the columns of what the search says of itself, and of the known curve."""
    return [f"{100 * found[1]['met']:.0f} %", f"{found[2]['bytes']:.2f}"]


def summary_table(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the table of all tasks."""
    rows = []
    for name, task in tasks.items():
        if not task["runs"]["now"]:
            continue
        both = [figures(task["runs"][rule]) for rule in RULES]
        rows.append([name, str(task["samples"]), *cells(both[0]), *cells(both[1]), *last(both)])
    all_runs = {rule: [run for task in tasks.values() for run in task["runs"][rule]] for rule in RULES}
    both = [figures(all_runs[rule]) for rule in RULES]
    rows.append(["**all**", "", *cells(both[0]), *cells(both[1]), *last(both)])
    for promise in sorted({run["promise"] for run in all_runs["now"]}):
        both = [figures(run for run in all_runs[rule] if run["promise"] == promise) for rule in RULES]
        name = f"all, promise of {100 * promise:g} %"
        rows.append([name, "", *cells(both[0]), *cells(both[1]), *last(both)])
    head = "| network | samples | before: exceeded | by half | bytes | now: exceeded | by half | bytes | met | known |"
    return table_lines(head, "lrrrrrrrrr", rows)


def promise_page() -> str:
    """Return the page."""
    all_tasks = load("promise")["tasks"]
    tasks = {name: task for name, task in all_tasks.items() if task["runs"]["now"]}
    without = ", ".join(name for name in all_tasks if name not in tasks)
    runs = {rule: [run for task in tasks.values() for run in task["runs"][rule]] for rule in RULES}
    before, now, known = (figures(runs[rule]) for rule in RULES)
    saved = float(
        np.exp(np.mean([np.log(n["bytes"] / b["bytes"]) for b, n in zip(runs["before"], runs["now"], strict=True)]))
    )
    splits = len({run["split"] for run in runs["now"]})
    lines = [
        "# Promises on samples that the search has not seen",
        "",
        "Written by `benchmarks/write_pages.py` from promise.json, which `python benchmarks/promise.py` wrote.",
        "",
        f"{len(tasks)} networks of the zoo, none of which had a part in choosing the settings of the method;",
        f"promises of 0.5, 1 and 2 % of the float metric; {splits} random splits of the samples of each: a quarter",
        "is what `evaluate` gives the search, the others judge what it chose. Confidence 0.8, 12 evaluations,",
        "calibrated, effort 8. The search is that of `netpress.compress`; so that it can run so often, it takes",
        "streams, scores and changes of outputs from a table that was made once, for all qps. Promises that no stream",
        f"of the table keeps on all samples are left out{f': all of {without}' if without else ''}.",
        "",
        "*Exceeded*: share of the runs that say they keep the promise in which the drop on the judging samples is",
        "above it; *by half*: above 1.5 times of it. *Bytes*: of what was chosen over those of the smallest stream",
        "that keeps the promise on all samples, geometric mean; that stream is a lucky one among all qps. *Before*:",
        "each trial judged by itself, and the smallest that is kept taken. *Known*: bytes of one who knows the",
        "curve through all streams on all samples, takes the smallest within the promise and adds no margin. *Met*:",
        "share of the runs that say they keep it, now.",
        *summary_table(tasks),
        "",
        "| | goal | before | now | known | now: |",
        "|---|---:|---:|---:|---:|---|",
        *(
            f"| {what} | at most {goal:{form}} | {before[key]:{form}} | {now[key]:{form}} | {known[key]:{form}} "
            f"| {'reached' if now[key] <= goal else 'missed'} |"
            for what, key, goal, form in (
                ("exceeded", "exceeded", 0.2, ".1%"),
                ("exceeded by more than half", "by_half", 0.03, ".1%"),
                ("bytes over those of the smallest", "bytes", 1.1, ".3f"),
            )
        ),
        "",
        f"On the same splits the bytes change by {100 * (saved - 1):+.1f} % from before to now, geometric mean.",
        "",
        f"One who knows the curve takes {known['bytes']:.3f} times the bytes of the smallest, which owes its place to",
        f"the noise of all samples; now it is {now['bytes'] / known['bytes']:.3f} times those of one who knows, margin",
        "included. The judging samples have a noise of their own: with the curve known, and no margin,",
        f"{known['by_half']:.1%} of the runs exceed the promise by more than half.",
    ]
    return "\n".join(lines) + "\n"
