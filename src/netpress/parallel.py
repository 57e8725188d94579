"""The one place that turns "do this for every tensor" into work for an executor."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Progress", "on_all_cores", "ordered_map"]

_VALUES_AHEAD = 1 << 24
_ITEMS_AHEAD = 32  # per worker; with four, workers would stand idle behind a large item that small ones follow

Progress = Callable[[int, int, str], None]
"""Called with values done, values in all, and the name of the tensor just finished."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    executor: Executor | None = None,
    size: Callable[[Item], int] | None = None,
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order, computing ahead on all cores.

    Args:
        function: pure; for an executor of processes or machines it and its items have to be picklable.
        items: taken one by one, as workers need them.
        executor: any :class:`concurrent.futures.Executor`; None makes a pool of threads for this call, as many as there
            are cores (the environment variable ``NETPRESS_THREADS`` sets another number).
        size: number of values in an item. Items are taken ahead up to 32 per worker, but no more than one per worker
            once they hold 2**24 values together, so that large items do not pile up in memory.

    An exception of ``function`` is raised at its place; what was not started yet is cancelled.
    """
    workers = _worker_count(executor)
    if executor is None and workers == 1:
        yield from map(function, items)
        return
    own_pool = ThreadPoolExecutor(workers, thread_name_prefix="netpress") if executor is None else None
    pool: Executor = executor or own_pool  # type: ignore[assignment]
    pending: collections.deque[tuple[Future[Result], int]] = collections.deque()
    values = 0
    try:
        for item in items:
            weight = size(item) if size is not None else 0
            pending.append((pool.submit(function, item), weight))
            values += weight
            del item
            while len(pending) >= _ITEMS_AHEAD * workers or (values > _VALUES_AHEAD and len(pending) > workers):
                future, weight = pending.popleft()
                values -= weight
                yield future.result()
        while pending:
            yield pending.popleft()[0].result()
    finally:
        for future, _ in pending:
            future.cancel()
        if own_pool is not None:
            own_pool.shutdown(wait=True, cancel_futures=True)


def on_all_cores(function: Callable[[], None]) -> None:
    """Call ``function`` once in each of as many threads as there are cores (``NETPRESS_THREADS``), this one included.

    Returns when all calls have; an exception of one of them is raised.
    """
    others = _thread_count() - 1
    if others < 1:
        function()
        return
    with ThreadPoolExecutor(others, thread_name_prefix="netpress") as pool:
        calls = [pool.submit(function) for _ in range(others)]
        function()
    for call in calls:
        call.result()


def _worker_count(executor: Executor | None) -> int:
    known = getattr(executor, "_max_workers", None)
    return known if isinstance(known, int) and known > 0 else _thread_count()


def _thread_count() -> int:
    requested = os.environ.get("NETPRESS_THREADS", "")
    if requested.isdigit() and int(requested) > 0:
        return int(requested)
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
