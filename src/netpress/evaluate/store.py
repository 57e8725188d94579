"""Results in a SQLite file: written after each measurement, so that what was measured once is not measured again.

A *run* is a task with its weights, its data and the version of netpress; its key is a hash of all of them. Within it,
a measurement is found by the hash of its tool and settings. Several threads, processes and machines may write to one
file at the same time, each with a :class:`Store` of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlite_utils import Database
from sqlite_utils.db import Table

from netpress import InvalidConfig
from netpress.evaluate.results import Measurement, TaskResults, TaskSummary, TensorDetail

__all__ = ["Store", "content_key", "results_from_dict", "results_to_dict"]

_TIMEOUT_SECONDS = 60
_FORMAT = 1


def content_key(*parts: Any) -> str:
    """Return the hash of some content, which may be anything that JSON holds, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class Store:
    """The file with the results of runs.

    Args:
        path: the file; made, with its folder, if there is none.

    Raises:
        InvalidConfig: the file is there, but no store of this version.

    Example:
        >>> import tempfile
        >>> with Store(tempfile.mkdtemp() + "/results.db") as store:
        ...     store.results()
        []
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if self.path.is_dir():
            raise InvalidConfig(f"{self.path} is a folder; the store is a file")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, timeout=_TIMEOUT_SECONDS, check_same_thread=False)
        self._database = Database(connection)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            connection.close()
            raise InvalidConfig(f"{self.path} is not a store of results: {error}") from None

    def _open(self) -> None:
        self._runs: Table = self._database.table("runs")
        self._measurements: Table = self._database.table("measurements")
        text = {"key": str, "content": str}
        about = {**text, "format": int, "name": str, "date": str}
        with self._writing():
            self._runs.create(about, pk="key", if_not_exists=True)
            self._measurements.create({**text, "run": str, "date": str}, pk="key", if_not_exists=True)
            self._measurements.create_index(["run"], if_not_exists=True)
        if any(row["format"] != _FORMAT for row in self._runs.rows):
            raise sqlite3.DatabaseError("it was made by another version of netpress")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """A transaction that waits for other writers before it starts; one that starts as a reader would fail."""
        self._database.conn.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.commit()
        finally:
            self._database.rollback()  # does nothing after the commit

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; everything that was added is in it already."""
        self._database.conn.close()

    def put(self, run: str, results: TaskResults) -> None:
        """Write what is known of a run apart from its measurements, in place of what was known before."""
        content = results_to_dict(dataclasses.replace(results, measurements=()))
        record = {"key": run, "format": _FORMAT, "name": results.summary.name, "date": _now()}
        with self._writing():
            self._runs.upsert({**record, "content": json.dumps(content)}, pk="key")

    def remove(self, run: str) -> None:
        """Forget a run, if there is one; its measurements stay."""
        with self._writing():
            self._runs.delete_where("key = ?", [run])

    def add(self, run: str, key: str, measurement: Measurement) -> None:
        """Write a measurement of a run, in place of an earlier one of the same key."""
        content = json.dumps(dataclasses.asdict(measurement))
        record = {"key": content_key(run, key), "run": run, "date": _now(), "content": content}
        with self._writing():
            self._measurements.upsert(record, pk="key")

    def find(self, run: str, key: str) -> Measurement | None:
        """Return a measurement of a run, None if it was not made or failed."""
        rows = list(self._measurements.rows_where("key = ?", [content_key(run, key)]))
        found = _measurement(json.loads(rows[0]["content"])) if rows else None
        return None if found is None or found.error is not None else found

    def count(self) -> int:
        """Return the number of measurements."""
        return int(self._measurements.count)

    def results(self) -> list[TaskResults]:
        """Return the results by name of the task; of several runs of a task, those that were written last."""
        newest: dict[str, Mapping[str, Any]] = {}
        for row in self._runs.rows_where(order_by="date, rowid"):
            newest[row["name"]] = row
        return [self._of_run(newest[name]) for name in sorted(newest)]

    def run(self, run: str) -> TaskResults | None:
        """Return the results of a run, None if no run has this key."""
        rows = list(self._runs.rows_where("key = ?", [run]))
        return self._of_run(rows[0]) if rows else None

    def _of_run(self, row: Mapping[str, Any]) -> TaskResults:
        results = results_from_dict(json.loads(row["content"]))
        rows = self._measurements.rows_where("run = ?", [row["key"]], order_by="rowid")
        made = tuple(_measurement(json.loads(found["content"])) for found in rows)
        return dataclasses.replace(results, measurements=made)


def results_to_dict(results: TaskResults) -> dict[str, Any]:
    """Return results in the types that JSON has, but for tuples and numbers that are not finite."""
    return dataclasses.asdict(results)


def results_from_dict(content: Mapping[str, Any]) -> TaskResults:
    """Inverse of :func:`results_to_dict`, also after a round trip through JSON."""
    return TaskResults(
        summary=TaskSummary(**_with_tuples(content["summary"])),
        measurements=tuple(_measurement(entry) for entry in content["measurements"]),
        details=tuple(TensorDetail(**_with_tuples(entry)) for entry in content["details"]),
        environment=content["environment"],
        error=content["error"],
    )


def _measurement(content: Mapping[str, Any]) -> Measurement:
    return Measurement(**_with_tuples(content))


def _with_tuples(content: Mapping[str, Any]) -> dict[str, Any]:
    """JSON knows lists only; the fields of results are tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")
