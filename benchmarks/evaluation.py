"""Takes what docs/results shows of a full evaluation out of its store.

Usage: python benchmarks/evaluation.py STORE [NOTE]

Writes docs/results/evaluation.json, a plot of all tasks, and a plot for each use case; benchmarks/write_pages.py makes
the page of them. The store is that of ``netpress evaluate --all`` with NNCodec beside it; the note says what else
there is to know about the run.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from netpress.evaluate.report.canvas import Drawing
from netpress.evaluate.report.curves import overview, rate_quality
from netpress.evaluate.report.findings import Findings
from netpress.evaluate.results import Measurement
from netpress.evaluate.store import Store
from netpress.evaluate.use_cases import USE_CASES
from places import RESULTS

PLOTS = RESULTS / "evaluation"


def point(found: Findings, measurement: Measurement | None) -> dict[str, Any] | None:
    """Return what the page says of a transparent point."""
    if measurement is None:
        return None
    names = ("tool", "setting", "size", "metric", "loss", "loss_interval", "divergence")
    return {"share": found.rate(measurement), **{name: getattr(measurement, name) for name in names}}


def entry(found: Findings) -> dict[str, Any]:
    """Return what the page says of a task."""
    summary = found.summary
    if found.results.error is not None:
        return {"task": summary.name, "error": found.results.error}
    ratios = {tool: found.compared(tool) for tool in found.tools if tool.startswith("netpress")}
    best = found.equal_divergence
    return {
        "task": summary.name,
        "use_case": found.use_case,
        "metric": summary.metric,
        "unit": summary.unit,
        "samples": summary.samples,
        "float_metric": summary.float_metric,
        "float_interval": summary.float_interval,
        "parameters": summary.parameters,
        "original_bytes": summary.original_bytes,
        "tolerance": summary.tolerance,
        "reported_rate": summary.reported_rate,
        "reported_range": summary.reported_range,
        "netpress": point(found, found.ours),
        "nncodec": point(found, found.theirs),
        "equal_divergence": None if best is None else dataclasses.asdict(best),
        "equal_divergence_by_tool": {tool: None if c is None else c.ratio for tool, c in ratios.items()},
        "reaches_reported": found.reaches_reported,
    }


def main() -> None:
    """Write the files."""
    with Store(sys.argv[1]) as store:
        tasks = [Findings(results) for results in store.results()]
    by_name = {found.summary.name: found for found in tasks}
    content = {
        "note": " ".join(sys.argv[2:]),
        "environment": dict(tasks[0].results.environment),
        "tasks": [entry(found) for found in tasks],
    }
    text = json.dumps(content, indent=1, allow_nan=False)
    (RESULTS / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    PLOTS.mkdir(exist_ok=True)
    for old in PLOTS.glob("*.svg"):
        old.unlink()
    drawn: dict[str, Drawing | None] = {"all": overview(tasks)}
    for case in USE_CASES:
        name = next((name for name in case.tasks if name in by_name), None)
        if name is not None:
            drawn[name] = rate_quality(by_name[name])
    for name, drawing in drawn.items():
        if drawing is not None:
            drawing.write(PLOTS / f"{name}.svg")


if __name__ == "__main__":
    main()
