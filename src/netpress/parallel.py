"""The one place that turns "do this for every tensor" into work for an executor."""

from __future__ import annotations

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ordered_map"]

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, executor: Executor | None = None, window: int | None = None
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order, computing ahead on all cores.

    Args:
        function: pure; for an executor of processes or machines it and its items have to be picklable.
        items: taken one by one, never more than ``window`` ahead of what has been yielded.
        executor: any :class:`concurrent.futures.Executor`; None makes a pool of threads for this call, as many as there
            are cores (the environment variable ``NETPRESS_THREADS`` sets another number).
        window: items under way at once; twice the number of workers by default.

    An exception of ``function`` is raised at its place; what was not started yet is cancelled.
    """
    workers = _thread_count()
    if executor is None and workers == 1:
        yield from map(function, items)
        return
    own = ThreadPoolExecutor(workers, thread_name_prefix="netpress") if executor is None else None
    pool: Executor = executor or own  # type: ignore[assignment]
    limit = window or 2 * max(workers, int(getattr(pool, "_max_workers", 1) or 1))
    pending: collections.deque[Future[Result]] = collections.deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= limit:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        if own is not None:
            own.shutdown(wait=True, cancel_futures=True)


def _thread_count() -> int:
    requested = os.environ.get("NETPRESS_THREADS", "")
    if requested.isdigit() and int(requested) > 0:
        return int(requested)
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
