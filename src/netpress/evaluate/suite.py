"""Many tasks at once: each is a job for an executor and writes its results to the store."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context

from netpress import NetpressError, Task
from netpress.evaluate.nncodec import Peer
from netpress.evaluate.plans import FULL, Plan
from netpress.evaluate.registry import load
from netpress.evaluate.results import TaskResults, TaskSummary
from netpress.evaluate.store import Store, content_key
from netpress.evaluate.sweep import Report, sweep

__all__ = ["Job", "Outcome", "Peers", "evaluate_all", "evaluate_in_processes", "process_pool", "run_job"]

_LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """The sweep of one task, as plain data that any executor can carry.

    Attributes:
        task: name of an installed task, or ``my_file.py:attribute``.
        store: the file for the results.
        data: folder of the data, None if the task needs none.
        limit: samples to evaluate; None for those of the plan.
        plan: what to measure.
        peer: command of NNCodec; None leaves it out.
        threads: of torch, netpress and NNCodec; 0 for their own choice.
    """

    task: str
    store: str
    data: str | None = None
    limit: int | None = None
    plan: Plan = FULL
    peer: tuple[str, ...] | None = None
    threads: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        name: under which the store has the task.
        error: what went wrong; None if all is well.
        has_died: whether the process that ran it is gone.
    """

    name: str
    error: str | None = None
    has_died: bool = False


class Peers:
    """Running peers by their command: they take seconds to start, so that several jobs share one."""

    def __init__(self) -> None:
        self._running: dict[tuple[tuple[str, ...], int], Peer] = {}

    def of(self, job: Job) -> Peer | None:
        """Return the peer that a job asks for, None if it asks for none."""
        if job.peer is None:
            return None
        key = (job.peer, job.threads)
        if key not in self._running:
            self._running[key] = Peer(job.peer, threads=max(job.threads, 1))
        return self._running[key]

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, *_: object) -> None:
        for peer in self._running.values():
            peer.__exit__(None, None, None)
        self._running.clear()


_of_worker: Peers | None = None
"""In a process of :func:`process_pool`: its peers, which end with it."""


def run_job(job: Job, report: Report | None = None, peers: Peers | None = None) -> Outcome:
    """Sweep a task into the store; ``report`` is called with each measurement, ``peers`` are shared with other jobs.

    A task that cannot be loaded, or whose float network cannot be evaluated, is in the store with its error.
    """
    shared = peers or _of_worker
    own = Peers() if shared is None else contextlib.nullcontext(shared)
    with Store(job.store) as store, _threads(job.threads), own as running:
        try:
            task = _loaded(job)
            sweep(task, store, plan=job.plan, peer=running.of(job), report=report)
        except Exception as error:  # a file of the user may raise anything
            words = str(error) if isinstance(error, NetpressError) else f"{type(error).__name__}: {error}"
            store.put(content_key("failed", job.task), _failed(job.task, words))
            return Outcome(job.task, words)
        store.remove(content_key("failed", job.task))
    return Outcome(task.name)


def _loaded(job: Job) -> Task:
    limit = job.limit if job.limit is not None else job.plan.samples(job.task)
    return load(job.task, job.data, **({} if limit is None else {"limit": limit}))


def _failed(name: str, message: str) -> TaskResults:
    """Results of a task that could not run."""
    summary = TaskSummary(
        name=name,
        description={},
        metric="",
        unit="",
        direction="max",
        samples=0,
        float_metric=float("nan"),
        float_interval=(float("nan"), float("nan")),
        original_bytes=0,
        parameters=0,
        tolerance=0.0,
    )
    return TaskResults(summary=summary, error=message)


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let torch and netpress use a number of threads; their own choice for 0."""
    if not count:
        yield
        return
    import torch

    before, ours = torch.get_num_threads(), os.environ.get("NETPRESS_THREADS")
    torch.set_num_threads(count)
    os.environ["NETPRESS_THREADS"] = str(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if ours is None:
            del os.environ["NETPRESS_THREADS"]
        else:
            os.environ["NETPRESS_THREADS"] = ours


def evaluate_all(
    jobs: Sequence[Job],
    executor: Executor | None = None,
    *,
    on_done: Callable[[Job, Outcome], None] | None = None,
    on_wait: Callable[[], None] | None = None,
    report: Report | None = None,
) -> list[Outcome]:
    """Run jobs.

    Args:
        jobs: in the order in which they are started.
        executor: any :class:`concurrent.futures.Executor`, e.g. of threads, processes, or a Dask client's
            ``get_executor()``; its workers need the package and the files. None runs one after another here.
        on_done: called with each job and how it ended.
        on_wait: called about twice a second while jobs run in an executor.
        report: called with each measurement where there is no executor.

    Returns:
        How the jobs ended, in the order in which they did.

    Raises:
        KeyboardInterrupt: what is done is in the store; jobs that were not started are cancelled.
    """
    outcomes: list[Outcome] = []

    def finished(job: Job, outcome: Outcome) -> None:
        outcomes.append(outcome)
        if on_done is not None:
            on_done(job, outcome)

    if executor is None:
        with Peers() as peers:
            for job in jobs:
                finished(job, run_job(job, report, peers))
        return outcomes
    pending: dict[Future[Outcome], Job] = {executor.submit(run_job, job): job for job in jobs}
    try:
        while pending:
            done = wait(pending, timeout=_POLL_SECONDS, return_when=FIRST_COMPLETED).done
            for future in done:
                job = pending.pop(future)
                finished(job, _outcome(job, future))
            if on_wait is not None:
                on_wait()
    finally:
        for future in pending:
            future.cancel()
    return outcomes


def _outcome(job: Job, future: Future[Outcome]) -> Outcome:
    """Return how a job ended; where its worker died, the store gets it with that error."""
    error = future.exception()
    if error is None:
        return future.result()
    message = f"its process died: {type(error).__name__}: {error}"
    with Store(job.store) as store:
        store.put(content_key("failed", job.task), _failed(job.task, message))
    return Outcome(job.task, message, has_died=True)


def evaluate_in_processes(
    jobs: Sequence[Job],
    workers: int,
    *,
    on_done: Callable[[Job, Outcome], None] | None = None,
    on_wait: Callable[[], None] | None = None,
) -> list[Outcome]:
    """Run jobs in processes of this machine; a job whose process dies, of lack of memory say, ends no other.

    A pool breaks when one of its processes dies. The jobs that it still had get a process of their own each.

    Args:
        jobs, on_done, on_wait: as for :func:`evaluate_all`.
        workers: processes at a time.
    """
    outcomes: list[Outcome] = []
    again: list[Job] = []

    def finished(job: Job, outcome: Outcome, *, is_last: bool = False) -> None:
        if outcome.has_died and not is_last:
            again.append(job)
            return
        outcomes.append(outcome)
        if on_done is not None:
            on_done(job, outcome)

    with process_pool(min(workers, len(jobs))) as pool:
        evaluate_all(jobs, pool, on_done=finished, on_wait=on_wait)
    for job in again:
        with process_pool(1) as pool:
            evaluate_all([job], pool, on_done=functools.partial(finished, is_last=True), on_wait=on_wait)
    return outcomes


@contextlib.contextmanager
def process_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of fresh processes, which torch's threads need; on an interruption they are ended."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)
    try:
        yield pool
    except BaseException:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        raise
    pool.shutdown()


def _start_worker() -> None:
    """Ctrl-C is for the process that the user sees; it ends this one. Warnings would disturb its progress."""
    global _of_worker
    _of_worker = Peers()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    logging.getLogger("netpress").addHandler(logging.NullHandler())
