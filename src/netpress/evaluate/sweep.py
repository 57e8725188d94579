"""The sweep of one task: every tool over its settings, each measured once and stored at once."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
import math
from collections.abc import Callable

import numpy as np

import netpress
from netpress import Calibration, InvalidConfig, NetpressError, Task
from netpress.evaluate import peers
from netpress.evaluate.details import tensor_details
from netpress.evaluate.environment import environment
from netpress.evaluate.judge import Judge, State
from netpress.evaluate.netpress_tools import NetpressTools
from netpress.evaluate.nncodec import Peer, PeerFailed, nncodec_tools
from netpress.evaluate.plans import FULL, Plan
from netpress.evaluate.results import Measurement, TaskResults, TaskSummary
from netpress.evaluate.sampler import (
    COARSEST_QP,
    FINEST_QP,
    LOGITS_SPAN,
    CurveSampler,
    Sample,
    is_weight,
    shift_of_size,
)
from netpress.evaluate.store import Store, content_key
from netpress.evaluate.tools import Tool, roundings
from netpress.evaluate.transparency import coarsest_that_passes
from netpress.evaluate.use_cases import UseCase, counted_loss, tolerance, use_case_of

__all__ = ["Report", "sweep"]

_LOG = logging.getLogger(__name__)
_LARGE_NETWORK = 1_000_000
"""Values of a network from which on a plan has less effort."""

Report = Callable[[Measurement], None]
"""Called after each measurement, also after one that was found in the store."""


def sweep(
    task: Task, store: Store, *, plan: Plan = FULL, peer: Peer | None = None, report: Report | None = None
) -> TaskResults:
    """Measure every tool on a task, and store each result as soon as it is there.

    What the store has from an earlier run with the same weights, data, settings and version is not measured again. A
    tool that fails leaves a measurement that says why, and the sweep goes on.

    Args:
        task: with ``model`` and ``evaluate``; with calibration batches, netpress is measured with them too.
        store: where results go.
        plan: what to measure.
        peer: NNCodec; None leaves its rows out.
        report: called with each measurement.

    Returns:
        Everything that the store has about the task now.

    Raises:
        InvalidConfig: the task lacks something, or the metric of its float network is not a number.
    """
    return _Sweep(task, store, plan, peer, report).run()


class _Sweep:
    def __init__(self, task: Task, store: Store, plan: Plan, peer: Peer | None, report: Report | None) -> None:
        self.task, self.store, self.report = task, store, report
        self.judge = Judge(task, plan.resamples)
        self.state: State = {n: v.detach().cpu().numpy() for n, v in self.judge.module.state_dict().items()}
        self.parameters = sum(value.size for value in self.state.values() if value.dtype.kind == "f")
        self.plan = plan.for_size(self.parameters)
        self.tolerance = tolerance(task, self.judge.float_metric)
        rivals = [] if peer is None else nncodec_tools(peer, self.judge.module)
        self.rivals = [tool for tool in rivals if self.plan.wants(tool)]
        self.peer_version = _version(peer) if peer is not None and self.rivals else None
        self.key = self._run_key()
        self.sampler = CurveSampler(
            self._sample,
            points=self.plan.points,
            approaches=self.plan.approaches,
            span=LOGITS_SPAN if task.outputs == "logits" and task.evaluation_batches is not None else None,
            shift=shift_of_size(self.state),
            divergence_without_weights=self._divergence_without_weights,
        )
        self.points: dict[str, dict[int, Measurement]] = {}
        self.transparent: dict[str, int] = {}
        self.streams: dict[tuple[str, int], bytes] = {}

    def run(self) -> TaskResults:
        """Measure everything."""
        results = self._start()
        ours = self._netpress()
        tools = [*ours.tools(), *self.rivals, *roundings(self.state)]
        tools = [tool for tool in tools if self.plan.wants(tool)]
        for tool in tools:
            self._curve(tool)
        for tool in tools:
            if not tool.words:
                self._transparent(tool, self.plan.tries if self.plan.searches_transparent(tool) else 0)
        best = ours.tools()[-1]
        if self.points.get(best.name):
            self._around_the_middle(ours, best)
            self._details(best, results)
        found = self.store.run(self.key)
        if found is None:
            raise InvalidConfig(f"task {self.task.name!r} was taken out of the store during its sweep")
        return found

    def _start(self) -> TaskResults:
        """Tell the store about the run; what an earlier part of it found out is kept."""
        known = self.store.run(self.key)
        results = TaskResults(summary=self._summary(), environment=environment(self.peer_version))
        if known is not None:
            peer = {} if self.peer_version else {"NNCodec": known.environment.get("NNCodec", "")}
            kept = {**results.environment, **peer}
            results = dataclasses.replace(results, details=known.details, environment=kept)
        self.store.put(self.key, results)
        return results

    def _run_key(self) -> str:
        digest = hashlib.sha256()
        for name, value in self.state.items():
            digest.update(f"{name} {value.dtype} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        task, judge = self.task, self.judge
        about = (task.name, task.metric, task.unit, task.direction, task.outputs)
        # The float metric stands for labels, which only evaluate knows.
        data = (judge.input_hash, len(judge.scores.samples), f"{judge.float_metric:.4g}")
        return content_key(about, digest.hexdigest(), data, netpress.__version__)

    def _summary(self) -> TaskSummary:
        case = use_case_of(self.task) or UseCase(name="")
        return TaskSummary(
            name=self.task.name,
            description=dict(self.task.description),
            metric=self.task.metric,
            unit=self.task.unit,
            direction=self.task.direction,
            samples=len(self.judge.scores.samples),
            float_metric=self.judge.float_metric,
            float_interval=self.judge.float_interval,
            original_bytes=sum(value.nbytes for value in self.state.values() if value.dtype.kind == "f"),
            parameters=self.parameters,
            tolerance=self.tolerance,
            reported_rate=case.rate,
            reported_model=case.model,
            reported_range=case.range,
            use_case=case.name,
        )

    def _netpress(self) -> NetpressTools:
        effort = self.plan.effort[self.parameters > _LARGE_NETWORK]
        if self.task.calibration_batches is None:
            return NetpressTools(self.judge.module, effort)
        about = {"calibration_batches": self.plan.calibration_batches}
        return NetpressTools(self.judge.module, effort, self._calibration, about)

    def _calibration(self) -> Calibration:
        batches = itertools.islice(self.task.batches("calibration"), self.plan.calibration_batches)
        module, task = self.judge.module, self.task
        return netpress.calibrate(module, list(batches), forward=task.output, outputs=task.outputs)

    def _keep(self, key: str, measurement: Measurement) -> None:
        self.store.add(self.key, key, measurement)
        if measurement.error is not None:
            _LOG.warning("%s: %s, %s: %s", self.task.name, measurement.tool, measurement.setting, measurement.error)
        if self.report is not None:
            self.report(measurement)

    def _measure(self, tool: Tool, qp: int) -> Measurement:
        """Return the measurement of a tool at a quantisation parameter, made now or before."""
        points = self.points.setdefault(tool.name, {})
        if qp in points:
            return points[qp]
        version = self.peer_version if tool.name.startswith("NNCodec") else None
        key = content_key(tool.group, tool.name, dict(tool.options), version, qp)
        found = self.store.find(self.key, key)
        if found is None:
            found = self._made(tool, qp)
            self._keep(key, found)
        elif self.report is not None:
            self.report(found)
        if found.error is None:
            points[qp] = found
        return found

    def _made(self, tool: Tool, qp: int) -> Measurement:
        """Compress, decode and judge."""
        about = Measurement(
            group=tool.group,
            tool=tool.name,
            setting=tool.words or f"qp {qp}",
            options=dict(tool.options) if tool.words else {**tool.options, "qp": qp},
            keeps_topology=tool.keeps_topology,
        )
        try:
            result = tool.make(qp)
            judgement = self.judge.judge(result.state)
        except Exception as error:  # evaluate is the user's, and the peer may do anything
            return dataclasses.replace(about, error=_words(error))
        if result.stream is not None:
            self.streams[tool.name, qp] = result.stream
        return dataclasses.replace(
            about,
            size=result.size,
            encode_seconds=result.encode_seconds,
            decode_seconds=result.decode_seconds,
            memory=sum(value.nbytes for value in result.state.values()),
            metric=judgement.metric,
            metric_interval=judgement.metric_interval,
            loss=judgement.loss,
            loss_interval=judgement.loss_interval,
            divergence=judgement.divergence,
        )

    def _curve(self, tool: Tool) -> None:
        """Measure a tool at divergences in equal ratios over the span of interest."""
        if tool.words:
            self._measure(tool, 0)
            return
        self.sampler.sample(tool)

    def _sample(self, tool: Tool, qp: int) -> Sample | None:
        """A measurement as the sampler wants it."""
        found = self._measure(tool, qp)
        return None if found.error is not None else Sample(self._distance(found), self._noise(found))

    def _distance(self, point: Measurement) -> float:
        """The divergence of a measurement; without evaluation batches, its error as the metric tells."""
        if point.divergence is not None:
            return max(point.divergence, 1e-12)
        return self._noise(point)

    def _noise(self, point: Measurement) -> float:
        """The error of a network, as its loss tells, where 1 is that at the tolerance; at least 1/64."""
        loss, limit = counted_loss(self.task, point.loss or 0.0), max(self.tolerance, 1e-12)
        if self.task.unit == "dB":  # errors add up where their logarithms do not
            loss, limit = (math.expm1(value * math.log(10) / 10) for value in (loss, limit))
        return max(loss / limit, 1 / 64)

    def _divergence_without_weights(self) -> float:
        """What no tool exceeds for long; infinite if it cannot be known."""
        nothing = {name: np.zeros_like(value) if is_weight(value) else value for name, value in self.state.items()}
        try:
            most = self.judge.judge(nothing).divergence
        except Exception:  # evaluate is the user's; a network without weights may be too much for it
            return math.inf
        return most if most is not None and most > 0 else math.inf

    def _transparent(self, tool: Tool, tries: int) -> None:
        """Find the coarsest parameter within the tolerance, with a number of further measurements."""
        points = self.points.get(tool.name, {})
        if not points:
            return

        def passes(qp: int) -> bool:
            found = self._measure(tool, qp)
            return found.loss is not None and counted_loss(self.task, found.loss) <= self.tolerance

        known = {qp: passes(qp) for qp in points}
        best = coarsest_that_passes(passes, known, finest=FINEST_QP, coarsest=COARSEST_QP, tries=tries)
        if best is None:
            what = f"every setting that was tried, down to qp {min(points)}, loses more than the tolerance"
            found = Measurement(group="transparent", tool=tool.name, setting="", error=what)
        else:
            self.transparent[tool.name] = best
            found = dataclasses.replace(points[best], group="transparent")
        self.store.add(self.key, content_key("transparent", tool.name), found)

    def _around_the_middle(self, ours: NetpressTools, best: Tool) -> None:
        """At one representative setting of netpress: its parts off one at a time, and general coders."""
        points = self.points[best.name]
        qp = min(points, key=lambda qp: abs(math.log(self._distance(points[qp]) / self.sampler.middle)))
        for tool in ours.ablations():
            if self.plan.wants(tool):
                self._measure(tool, qp)
        if self.plan.wants_group("coder"):
            self._coders(ours, best, qp)

    def _coders(self, ours: NetpressTools, best: Tool, qp: int) -> None:
        """The integers of the weights in the hands of general coders, and of netpress."""
        names = ["netpress", *peers.CODERS]
        keys = {name: content_key("coder", name, best.name, dict(best.options), qp) for name in names}
        if all(self.store.find(self.key, key) is not None for key in keys.values()):
            return
        try:
            levels, own = ours.integers(qp)
            sizes = {"netpress": own, **peers.sizes(levels)}
        except NetpressError as error:
            failed = Measurement(group="coder", tool="netpress", setting=f"qp {qp}", error=_words(error))
            self._keep(keys["netpress"], failed)
            return
        values = sum(array.size for array in levels.values())
        for name, size in sizes.items():
            about = {"qp": qp, "integers_of": best.name, "values": values}
            setting = f"uniform integers of the weights, qp {qp}"
            self._keep(keys[name], Measurement(group="coder", tool=name, setting=setting, options=about, size=size))

    def _details(self, best: Tool, results: TaskResults) -> None:
        """Keep the tensors of the stream at the transparent point of netpress, or of its finest one."""
        points = self.points[best.name]
        qp = self.transparent.get(best.name, min(points))
        stream = self.streams.get((best.name, qp))
        if stream is None:
            if results.details:
                return
            stream = best.make(qp).stream
        if stream is None:
            return
        details = tensor_details(stream, self.state, netpress.decode(stream, reconstruct=True))
        self.store.put(self.key, dataclasses.replace(results, details=details))


def _version(peer: Peer) -> str:
    """Version of a peer; where it does not run, the measurements say why."""
    try:
        return peer.version()
    except PeerFailed:
        return "unknown: it does not run"


def _words(error: Exception) -> str:
    """One line that says what went wrong."""
    text = " ".join(str(error).split())
    return text if isinstance(error, NetpressError) and text else f"{type(error).__name__}: {text}"
