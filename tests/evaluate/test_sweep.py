"""A user's task through the sweep: what is measured, stored, resumed, and what happens when something fails."""

from __future__ import annotations

import dataclasses
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sqlite_utils")
pytest.importorskip("sklearn")

import netpress  # noqa: E402
from netpress import InvalidConfig, Task, evaluate  # noqa: E402
from netpress.compare import network_with  # noqa: E402
from netpress.evaluate.judge import Judge  # noqa: E402
from netpress.evaluate.nncodec import Peer, PeerFailed, peer_command  # noqa: E402
from netpress.evaluate.plans import QUICK, Plan  # noqa: E402
from netpress.evaluate.results import Measurement, TaskResults  # noqa: E402
from netpress.evaluate.store import Store  # noqa: E402
from netpress.evaluate.suite import Job, evaluate_all, evaluate_in_processes, run_job  # noqa: E402
from netpress.evaluate.sweep import sweep  # noqa: E402

FILES = Path(__file__).parent / "data"
DIGITS = f"{FILES / 'digits_task.py'}:task"
FAKE = (sys.executable, str(FILES / "fake_peer.py"))
PLAN = Plan(points=2, approaches=1, tries=1, effort=(5, 5), resamples=100)
OURS = dataclasses.replace(PLAN, tools=("netpress*",))


@pytest.fixture(scope="module")
def digits() -> Task:
    return evaluate.load(DIGITS, limit=200)


@pytest.fixture(scope="module")
def results(digits: Task, tmp_path_factory: pytest.TempPathFactory) -> TaskResults:
    """Everything, with the stand-in for NNCodec."""
    with Store(tmp_path_factory.mktemp("sweep") / "results.db") as store, Peer(FAKE) as peer:
        found = sweep(digits, store, plan=PLAN, peer=peer)
        assert store.results() == [found]
    return found


def tools_of(results: TaskResults, group: str) -> set[str]:
    return {m.tool for m in results.measurements if m.group == group and m.error is None}


def test_the_task_is_short() -> None:
    assert len((FILES / "digits_task.py").read_text().splitlines()) <= 60


def test_groups_and_tools(results: TaskResults) -> None:
    rivals = {f"NNCodec DQ{opt}{norms}" for opt in ("", " + opt_qp") for norms in ("", ", norms folded")}
    assert {"netpress", "netpress, calibrated", "int8", "int4 + zstd", *rivals} <= tools_of(results, "sweep")
    assert {"netpress", "netpress, calibrated", *rivals} <= tools_of(results, "transparent")
    assert {"all tools", "no trellis", "no error feedback", "no batch-norm folding"} <= tools_of(results, "ablation")
    assert {"netpress", "entropy", "bzip2", "xz", "huffman"} <= tools_of(results, "coder")
    assert [m.error for m in results.measurements if m.error] == []


def test_measurements(results: TaskResults, digits: Task) -> None:
    assert results.summary.samples == 200
    assert results.summary.tolerance == 0.5
    assert results.summary.reported_rate == "3-12 %"
    assert results.summary.float_metric == digits.scores(digits.model()).value
    for m in results.measurements:
        if m.group == "coder":
            continue
        assert m.loss == pytest.approx(results.summary.float_metric - m.metric)
        assert m.metric_interval[0] <= m.metric <= m.metric_interval[1]
        assert m.loss_interval[0] <= m.loss <= m.loss_interval[1]
        assert m.divergence is not None
        assert m.memory == sum(v.numel() * v.element_size() for v in digits.model().state_dict().values())
        assert m.keeps_topology == (", norms" not in m.tool)


def test_a_measurement_can_be_repeated(results: TaskResults, digits: Task) -> None:
    """The options of a point lead to its bytes and its metric."""
    point = next(m for m in results.measurements if m.tool == "netpress" and m.group == "sweep")
    stream = netpress.encode(digits.model(), **point.options, fold_batch_norm=True)
    assert len(stream) == point.size
    module = digits.model()
    module.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in netpress.decode(stream).items()})
    assert digits.scores(module).value == point.metric
    found = evaluate.divergence(digits, digits.model(), module).value
    assert found == pytest.approx(point.divergence, rel=1e-6)


def test_curves_span_the_divergences(results: TaskResults) -> None:
    for tool in ("netpress", "netpress, calibrated"):
        points = sorted((m.divergence, m.size) for m in results.measurements if m.tool == tool and m.group == "sweep")
        assert points[0][0] < 0.02
        assert points[-1][0] > 0.04
        assert points[0][1] > points[-1][1]


def test_small_updates_of_a_network(tmp_path: Path) -> None:
    """Where coarse parameters leave nothing of the weights, and that hardly changes outputs, finer ones are found."""
    first, update = (0.3 * torch.randn(10, 32, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))

    class Updated(torch.nn.Linear):
        def forward(self, x: Any) -> Any:
            return x @ first.T + super().forward(x)

    def model() -> Any:
        module = Updated(32, 10, bias=False)
        module.load_state_dict({"weight": 2e-3 * update})
        return module

    inputs = torch.randn(200, 32, generator=torch.Generator().manual_seed(2))
    wanted = model()(inputs).detach()
    task = Task(
        name="updates",
        model=model,
        evaluation_batches=[inputs],
        evaluate=lambda module: (module(inputs) - wanted).abs().mean(1).detach(),
        direction="min",
        outputs="logits",
        description={"tolerance": "0.001"},
    )
    with Store(tmp_path / "results.db") as store:
        found = sweep(task, store, plan=dataclasses.replace(OURS, points=3))
    (point,) = [m for m in found.measurements if m.group == "transparent"]
    without = model()
    torch.nn.init.zeros_(without.weight)
    nothing = evaluate.divergence(task, model(), without)
    assert point.error is None
    assert 0 < point.divergence < nothing.value < 0.01


def test_transparent_points_are_within_the_tolerance(results: TaskResults) -> None:
    for m in results.measurements:
        if m.group == "transparent":
            assert m.loss <= results.summary.tolerance
            assert any(dataclasses.replace(m, group="sweep") == other for other in results.measurements)


def test_details(results: TaskResults) -> None:
    point = next(m for m in results.measurements if m.group == "transparent" and m.tool == "netpress, calibrated")
    assert 0.5 * point.size < sum(detail.size for detail in results.details) <= point.size
    weight = next(detail for detail in results.details if detail.name == "5.weight")
    assert weight.shape == (32, 256)
    assert sum(weight.before) == sum(weight.after) == 32 * 256
    assert len(weight.edges) == len(weight.before) + 1


class Stopped(BaseException):
    """As Ctrl-C does."""


def test_an_interrupted_sweep_goes_on(digits: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Measurement] = []
    judged: list[int] = []
    judge = Judge._judge

    def counted(self: Judge, state: Any) -> Any:
        judged.append(1)
        return judge(self, state)

    def stop(measurement: Measurement) -> None:
        seen.append(measurement)
        if len(seen) == 3:
            raise Stopped

    monkeypatch.setattr(Judge, "_judge", counted)
    with Store(tmp_path / "results.db") as store, pytest.raises(Stopped):
        sweep(digits, store, plan=OURS, report=stop)
    assert len(judged) == 3
    with Store(tmp_path / "results.db") as store:
        half = store.results()[0].measurements
        assert list(half) == seen
        judged.clear()
        found = sweep(digits, store, plan=OURS)
        assert found.measurements[:3] == half
        assert len(judged) == sum(m.group == "sweep" for m in found.measurements) - 3
        judged.clear()
        assert sweep(digits, store, plan=OURS).measurements == found.measurements
        assert judged == []


def test_other_weights_are_another_run(digits: Task, tmp_path: Path) -> None:
    def other() -> Any:
        module = digits.model()
        with torch.no_grad():
            module[7].bias += 0.001
        return module

    plan = dataclasses.replace(PLAN, tools=("int8",))
    with Store(tmp_path / "results.db") as store:
        sweep(digits, store, plan=plan)
        count = store.count()
        sweep(digits, store, plan=plan)
        assert store.count() == count
        sweep(dataclasses.replace(digits, model=other), store, plan=plan)
        assert store.count() == 2 * count
        assert len(store.results()) == 1


def test_filters(digits: Task, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, tools=("NNCodec*", "int8"), keeps_topology=True)
    with Store(tmp_path / "results.db") as store, Peer(FAKE) as peer:
        found = sweep(digits, store, plan=plan, peer=peer)
    assert {m.tool for m in found.measurements} == {"NNCodec DQ", "NNCodec DQ + opt_qp", "int8"}


def test_a_peer_that_crashes(digits: Task, tmp_path: Path) -> None:
    """Its rows say so, and the others are there; with a peer that works, its rows are made up for."""
    plan = dataclasses.replace(PLAN, tools=("NNCodec DQ", "int8"))
    with Store(tmp_path / "results.db") as store:
        with Peer((*FAKE, "crash")) as peer:
            found = sweep(digits, store, plan=plan, peer=peer)
        rows = {m.tool: m.error for m in found.measurements}
        assert rows == {"NNCodec DQ": "the peer crashed: no more memory on this planet", "int8": None}
        with Peer(FAKE) as peer:
            found = sweep(digits, store, plan=plan, peer=peer)
        assert {m.error for m in found.measurements} == {None}


def test_a_peer_that_cannot_be_started(digits: Task, tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, tools=("NNCodec DQ",))
    with Store(tmp_path / "results.db") as store, Peer([str(tmp_path / "absent")]) as peer:
        found = sweep(digits, store, plan=plan, peer=peer)
    assert "cannot be started" in found.measurements[0].error


def test_a_peer_that_hangs_or_babbles() -> None:
    """It is ended; the next request starts it anew."""
    with (
        Peer([sys.executable, "-c", "import time; time.sleep(600)"], timeout=0.2) as peer,
        pytest.raises(PeerFailed, match=r"took longer than 0\.2 seconds"),
    ):
        peer.request(verb="hello")
    with Peer([sys.executable, "-c", "print('hello there')"]) as peer:
        for _ in range(2):
            with pytest.raises(PeerFailed, match="crashed: hello there"):
                peer.request(verb="hello")


def test_command_of_the_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETPRESS_PEER", "/opt/peer/bin/python")
    assert peer_command(None)[:2] == ["/opt/peer/bin/python", "-I"]
    assert Path(peer_command(None)[2]).name == "nncodec_script.py"
    assert peer_command("'/my tools/run' --now") == ["/my tools/run", "--now"]
    monkeypatch.delenv("NETPRESS_PEER")
    assert peer_command(None) is None


def test_the_script_for_nncodec_answers_errors() -> None:
    """In an environment without NNCodec, it says so for each request."""
    with Peer(peer_command(sys.executable)) as peer:
        for _ in range(2):
            with pytest.raises(PeerFailed, match=r"the peer failed: PackageNotFoundError.*nncodec"):
                peer.request(verb="hello")


def test_large_networks_get_fewer_points() -> None:
    assert QUICK.for_size(1000) is QUICK
    assert QUICK.for_size(10**7).points < QUICK.points


def test_a_metric_that_becomes_nan(digits: Task, tmp_path: Path) -> None:
    """Of a decoded network: its row says so. Of the float network: the task cannot run."""
    wanted = digits.model()[5].weight

    def evaluate_exactly(module: Any) -> float:
        return 1.0 if torch.equal(module[5].weight, wanted) else math.nan

    task = dataclasses.replace(digits, evaluate=evaluate_exactly)
    with Store(tmp_path / "results.db") as store:
        found = sweep(task, store, plan=dataclasses.replace(PLAN, tools=("int*", "safetensors*")))
        errors = {m.tool: m.error for m in found.measurements}
        assert errors["int8"] == "task 'digits': evaluate returned NaN"
        assert errors["safetensors + zstd"] is None
        with pytest.raises(InvalidConfig, match="evaluate returned NaN"):
            sweep(dataclasses.replace(digits, evaluate=lambda _: math.nan), store)


def test_calibration_that_fails(digits: Task, tmp_path: Path) -> None:
    def batches() -> Any:
        raise RuntimeError("the microphone is off")

    task = dataclasses.replace(digits, calibration_batches=batches)
    with Store(tmp_path / "results.db") as store:
        found = sweep(task, store, plan=OURS)
    errors = {m.tool: m.error for m in found.measurements if m.group == "sweep"}
    assert errors == {"netpress": None, "netpress, calibrated": "RuntimeError: the microphone is off"}


def test_without_calibration_and_evaluation_batches(digits: Task, tmp_path: Path) -> None:
    """Then the loss tells where to measure."""
    task = dataclasses.replace(digits, calibration_batches=None, evaluation_batches=None)
    with Store(tmp_path / "results.db") as store:
        found = sweep(task, store, plan=dataclasses.replace(OURS, tools=("netpress*", "coder", "ablation")))
    assert tools_of(found, "sweep") == {"netpress"}
    assert {m.divergence for m in found.measurements} == {None}
    losses = [m.loss for m in found.measurements if m.group == "sweep"]
    assert min(losses) <= 0.5 < max(losses)
    assert "no error feedback" not in tools_of(found, "ablation")
    assert {"no trellis", "all tools"} <= tools_of(found, "ablation")
    assert "entropy" in tools_of(found, "coder")


def test_one_sample_has_no_interval(digits: Task, tmp_path: Path) -> None:
    task = evaluate.load(DIGITS, limit=1)
    with Store(tmp_path / "results.db") as store:
        found = sweep(task, store, plan=dataclasses.replace(PLAN, tools=("int8",)))
    assert {(m.metric_interval, m.loss_interval) for m in found.measurements} == {(None, None)}
    assert found.summary.float_interval == (found.summary.float_metric,) * 2


def test_jobs(tmp_path: Path) -> None:
    """On threads; a task that is not there is a result with its error, until it is there."""
    store = str(tmp_path / "results.db")
    plan = dataclasses.replace(PLAN, tools=("int8",))
    late = tmp_path / "late.py"
    jobs = [Job(task=name, store=store, plan=plan, limit=50) for name in (DIGITS, f"{late}:task")]
    with ThreadPoolExecutor(2) as pool:
        outcomes = evaluate_all(jobs, pool)
    assert {outcome.name: outcome.error is None for outcome in outcomes} == {"digits": True, f"{late}:task": False}
    with Store(store) as opened:
        found = {results.summary.name: results for results in opened.results()}
    assert found["digits"].error is None
    assert found["digits"].summary.samples == 50
    assert "there is no file" in found[f"{late}:task"].error
    text = (FILES / "digits_task.py").read_text().replace('name="digits"', 'name="late"')
    late.write_text(text)
    assert run_job(jobs[1]).error is None
    with Store(store) as opened:
        assert {results.summary.name for results in opened.results()} == {"digits", "late"}


@pytest.mark.slow
def test_a_process_that_dies(tmp_path: Path) -> None:
    """The task is a result with its error, and the others are measured."""
    store = str(tmp_path / "results.db")
    deadly = tmp_path / "deadly.py"
    deadly.write_text("import os\ndef task(limit=None):\n    os._exit(9)\n")
    plan = dataclasses.replace(PLAN, tools=("int8",))
    jobs = [Job(task=name, store=store, plan=plan, limit=50, threads=1) for name in (f"{deadly}:task", DIGITS)]
    outcomes = evaluate_in_processes(jobs, 1)
    assert {outcome.name: outcome.has_died for outcome in outcomes} == {f"{deadly}:task": True, "digits": False}
    with Store(store) as opened:
        found = {results.summary.name: results.error for results in opened.results()}
    assert found["digits"] is None
    assert "its process died" in found[f"{deadly}:task"]


@pytest.mark.slow
def test_jobs_on_dask(tmp_path: Path) -> None:
    """Two processes of a cluster write to one store."""
    distributed = pytest.importorskip("distributed")
    store = str(tmp_path / "results.db")
    plan = dataclasses.replace(PLAN, tools=("int8", "int4"))
    other = tmp_path / "other.py"
    other.write_text((FILES / "digits_task.py").read_text().replace('name="digits"', 'name="other"'))
    jobs = [Job(task=name, store=store, plan=plan, limit=50, threads=1) for name in (DIGITS, f"{other}:task")]
    with (
        distributed.LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
        client.get_executor() as executor,
    ):
        outcomes = evaluate_all(jobs, executor)
    assert {outcome.name: outcome.error for outcome in outcomes} == {"digits": None, "other": None}
    with Store(store) as opened:
        assert [len(results.measurements) for results in opened.results()] == [2, 2]


def test_judge_watches_or_runs_again(digits: Task) -> None:
    """A task that evaluates other inputs than its evaluation batches gets its divergence by a run of its own."""
    apart = dataclasses.replace(digits, evaluation_batches=[digits.evaluation_batches[0][:50]])
    module = digits.model()
    state = {
        n: v.numpy() * np.float32(0.9) if v.dtype.is_floating_point else v.numpy()
        for n, v in module.state_dict().items()
    }
    both = Judge(digits, 50), Judge(apart, 50)
    assert [judge._inputs is not None for judge in both] == [True, False]
    for judge in both:
        found = judge.judge(state)
        expected = evaluate.divergence(judge.task, judge.module, network_with(judge.module, state))
        assert found.divergence == pytest.approx(expected.value, rel=1e-6)
        assert found.metric == digits.scores(network_with(judge.module, state)).value
