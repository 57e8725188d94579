"""The runner of the benchmarks, on a small network."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import netpress  # noqa: E402
import runner  # noqa: E402
from netpress import Task  # noqa: E402
from netpress.evaluate.tools import Tool, stream_tool  # noqa: E402


@pytest.fixture
def task() -> Task:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)).eval()
    inputs = [torch.randn(40, 16), torch.randn(24, 16)]
    with torch.inference_mode():
        labels = [network(batch).argmax(1) for batch in inputs]

    def evaluate(module: Any) -> Any:
        with torch.inference_mode():
            hits = [module(batch).argmax(1) == wanted for batch, wanted in zip(inputs, labels, strict=True)]
        return 100 * torch.cat(hits).numpy().astype("float64")

    return Task(
        name="small", model=lambda: network, evaluation_batches=inputs, evaluate=evaluate, outputs="logits", unit="%"
    )


def tool(bench: runner.Bench) -> Tool:
    return stream_tool("without data", lambda qp: netpress.encode(bench.module, qp=qp, effort=1))


def test_a_row_spans_the_divergences(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NETPRESS_PEER", raising=False)
    bench = runner.Bench(task, (0.001, 0.05))
    row = bench.curve("netpress", tool(bench), 3, check=True)
    assert (row["codec"], row["label"]) == ("netpress", "without data")
    assert "decoded_alike" not in row  # there is no NNCodec
    divergences = [point["divergence"] for point in row["points"]]
    assert min(divergences) < 0.003
    assert max(divergences) > 0.01
    sizes = [point["bytes"] for point in row["points"]]
    assert sizes == sorted(sizes, reverse=True)
    assert all(0 < point["standard_error"] < point["divergence"] for point in row["points"])
    assert bench.evaluation_samples == 64
    assert bench.about()["baseline"] == 100
    middle = bench.at_divergence(tool(bench), 0.01)
    assert bench.point(tool(bench), middle)["divergence"] == pytest.approx(0.01, rel=0.6)


def test_rows_of_an_earlier_run_are_kept() -> None:
    old = {"rows": [{"label": "a", "points": "old"}, {"label": "gone", "points": "old"}]}
    rows = [(label, lambda label=label: {"label": label, "points": "new"}) for label in ("a", "b", "c")]
    assert [row["points"] for row in runner.merged(rows, "b", old)] == ["old", "new"]
    assert [row["label"] for row in runner.merged(rows, "*", old)] == ["a", "b", "c"]


def test_tasks_of_an_earlier_run_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    path.write_text(json.dumps({"tasks": {"second": {"rows": 1}}}), encoding="utf-8")
    arguments = runner.parser("what it does", ["first", "second"], path).parse_args(["--task", "first"])
    assert isinstance(arguments, argparse.Namespace)
    runner.run(arguments, ["first", "second"], lambda name, before: {"rows": 2, **before}, table=lambda tasks: [*tasks])
    tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    assert list(tasks) == ["first", "second"]
    assert tasks["second"] == {"rows": 1}
    assert tasks["first"]["rows"] == 2
    assert tasks["first"]["about"]["netpress"] == netpress.__version__
    assert capsys.readouterr().out == "first\nsecond\n"
