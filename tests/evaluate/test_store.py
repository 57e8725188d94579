"""Results in a file: what goes in comes out, also from several processes at once."""

from __future__ import annotations

import dataclasses
import multiprocessing
import sqlite3
from pathlib import Path

import pytest

pytest.importorskip("sqlite_utils")

from netpress import InvalidConfig
from netpress.evaluate.results import Measurement, TaskResults, TaskSummary, TensorDetail
from netpress.evaluate.store import Store, content_key, results_from_dict, results_to_dict

SUMMARY = TaskSummary(
    name="digits",
    description={"use case": "digits"},
    metric="top-1 accuracy",
    unit="%",
    direction="max",
    samples=100,
    float_metric=97.0,
    float_interval=(95.0, 99.0),
    original_bytes=4000,
    parameters=1000,
    tolerance=0.5,
    reported_range=(0.03, 0.12),
)
RESULTS = TaskResults(
    summary=SUMMARY,
    details=(TensorDetail(name="w", shape=(3, 2), size=7, edges=(0.0, 1.0), before=(6,), after=(6,)),),
    environment={"netpress": "1"},
)


def measured(qp: int) -> Measurement:
    return Measurement(
        group="sweep",
        tool="netpress",
        setting=f"qp {qp}",
        options={"qp": qp},
        size=1000 + qp,
        metric=97.0,
        metric_interval=(95.0, 98.0),
        loss=float("inf"),
    )


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "results.db"
    with Store(path) as store:
        store.put("run", RESULTS)
        store.add("run", "first", measured(-20))
        store.add("run", "second", measured(-30))
        store.add("run", "first", measured(-21))
        store.add("other", "first", measured(-22))
    with Store(path) as store:
        assert store.results() == [dataclasses.replace(RESULTS, measurements=(measured(-21), measured(-30)))]
        assert store.run("run") == store.results()[0]
        assert store.run("absent") is None
        assert store.find("run", "second") == measured(-30)
        assert store.find("run", "third") is None
        assert store.count() == 3


def test_failures_are_tried_again(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as store:
        store.put("run", RESULTS)
        store.add("run", "key", Measurement(group="sweep", tool="peer", setting="qp -20", error="it crashed"))
        assert store.find("run", "key") is None
        assert [m.error for m in store.results()[0].measurements] == ["it crashed"]
        store.add("run", "key", measured(-20))
        assert store.results()[0].measurements == (measured(-20),)


def test_newest_run_of_a_task(tmp_path: Path) -> None:
    with Store(tmp_path / "results.db") as store:
        store.put("old", RESULTS)
        store.put("new", dataclasses.replace(RESULTS, environment={"netpress": "2"}))
        other = dataclasses.replace(RESULTS, summary=dataclasses.replace(SUMMARY, name="a"))
        store.put("other", other)
        assert [results.summary.name for results in store.results()] == ["a", "digits"]
        assert store.results()[1].environment == {"netpress": "2"}
        store.put("old", RESULTS)
        assert store.results()[1].environment == {"netpress": "1"}


def test_dictionaries() -> None:
    results = dataclasses.replace(RESULTS, measurements=(measured(-20),))
    assert results_from_dict(results_to_dict(results)) == results


def test_keys() -> None:
    assert content_key("a", {"x": 1, "y": 2}) == content_key("a", {"y": 2, "x": 1})
    assert len({content_key("a", 1), content_key("a", "1"), content_key("a1"), content_key("a", [1])}) == 4


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="is a folder"):
        Store(tmp_path)
    (tmp_path / "text.db").write_text("no database at all, but long enough to be read as one" * 40)
    with pytest.raises(InvalidConfig, match="is not a store of results"):
        Store(tmp_path / "text.db")
    with Store(tmp_path / "results.db") as store:
        store.put("run", RESULTS)
    connection = sqlite3.connect(tmp_path / "results.db")
    connection.execute("update runs set format = 99")
    connection.commit()
    connection.close()
    with pytest.raises(InvalidConfig, match="made by another version"):
        Store(tmp_path / "results.db")


def write_some(path: Path, worker: int) -> None:
    with Store(path) as store:
        for number in range(20):
            store.add("run", f"{worker} {number}", measured(number))


def test_several_processes(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=write_some, args=(path, worker)) for worker in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with Store(path) as store:
        assert store.count() == 60
