"""netpress evaluate."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runner import Run, one_line

pytest.importorskip("torch")
pytest.importorskip("sqlite_utils")
pytest.importorskip("sklearn")

from netpress.evaluate.store import Store

FILES = Path(__file__).parents[1] / "evaluate" / "data"
DIGITS = f"{FILES / 'digits_task.py'}:task"
FAKE = shlex.join([sys.executable, str(FILES / "fake_peer.py")])
QUICK = ("--quick", "--limit", 100)


@pytest.fixture(autouse=True)
def _no_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NETPRESS_PEER", raising=False)


def test_table_json_and_csv(run: Run, tmp_path: Path) -> None:
    """A second run measures nothing, and says the same."""
    store, table = tmp_path / "results.db", tmp_path / "results.csv"
    tools = "netpress,NNCodec DQ,NNCodec DQ, norms folded,int8"
    options = (DIGITS, *QUICK, "--store", store, "--peer", FAKE, "--tools", tools)
    result = run("evaluate", *options, "--csv", table)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.startswith("digits: top-1 accuracy ")
    assert "100 samples" in result.stdout
    assert "transparent, qp" in result.stdout
    assert "of the bytes of NNCodec's best" in result.stdout
    assert "verification report: 3-12 %" in result.stdout
    with Store(store) as opened:
        count = opened.count()
        assert len(opened.results()[0].measurements) == count > 8
    again = run("evaluate", *options, "--json")
    (found,) = again.json
    assert found["summary"]["name"] == "digits"
    assert {m["tool"] for m in found["measurements"]} == {"netpress", "NNCodec DQ", "NNCodec DQ, norms folded", "int8"}
    assert len(found["measurements"]) == count
    with Store(store) as opened:
        assert opened.count() == count
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count
    assert [row["size"] for row in rows] == [str(m["size"]) for m in found["measurements"]]
    assert float(rows[0]["share"]) == pytest.approx(int(rows[0]["size"]) / found["summary"]["original_bytes"])


def test_without_the_peer(run: Run, tmp_path: Path) -> None:
    result = run("evaluate", DIGITS, *QUICK, "--store", tmp_path / "r.db", "--tools", "int8,NNCodec*")
    assert result.exit_code == 0
    assert result.stderr == "NNCodec is left out: give --peer, or set NETPRESS_PEER\n"
    assert "NNCodec" not in result.stdout


def test_a_peer_that_crashes(run: Run, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "r.db", "--peer", f"{FAKE} crash", "--tools", "int8,NNCodec DQ")
    result = run("evaluate", DIGITS, *QUICK, *store)
    assert result.exit_code == 0
    assert re.search(r"NNCodec DQ, qp -\d+: the peer crashed: no more memory on this planet", result.stdout)
    assert "int8" in result.stdout


def test_missing_data(run: Run, tmp_path: Path) -> None:
    """Says which folder it looked in and what it wants; other tasks are measured."""
    pytest.importorskip("netpress_zoo")
    store = ("--store", tmp_path / "r.db", "--tools", "int8", "--data", tmp_path)
    result = run("evaluate", "inr-siren-kodim23", "--quick", *store)
    assert result.exit_code == 1
    assert f"no siren_kodim23.safetensors in {tmp_path / 'inr-siren'}; wanted in" in result.stderr
    text = (FILES / "digits_task.py").read_text().replace("def task(limit=None)", "def task(data, limit=None)")
    (tmp_path / "data.py").write_text(
        text.replace("in data())", "in globals()['data']())").replace("[data()", "[globals()['data']()")
    )
    store = (*store, "--peer", FAKE)
    result = run("evaluate", "inr-siren-kodim23", f"{tmp_path / 'data.py'}:task", *store, "--json")
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert lines[0].startswith("inr-siren-kodim23: task 'inr-siren-kodim23': no siren_kodim23.safetensors in ")
    assert lines[1:] == ["netpress: error: 1 of 2 tasks could not run: inr-siren-kodim23"]
    assert {found["summary"]["name"]: found["error"] is None for found in result.json} == {
        "digits": True,
        "inr-siren-kodim23": False,
    }


def test_wrong_usage(run: Run, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "r.db")
    assert "give the names of tasks, or --all" in run("evaluate", *store).stderr
    assert run("evaluate", DIGITS, "--all", *store).exit_code == 2
    assert "names no tool" in run("evaluate", DIGITS, "--tools", ",", *store).stderr
    assert "there is no task 'mnist'" in run("evaluate", "mnist", *store).stderr
    (tmp_path / "text.db").write_text("not a database, but long enough to be taken for one" * 40)
    assert "is not a store of results" in one_line(run("evaluate", DIGITS, "-q", "--store", tmp_path / "text.db"))


def test_metric_that_is_nan(run: Run, tmp_path: Path) -> None:
    text = (FILES / "digits_task.py").read_text().replace("return 100.0 *", "return float('nan') *")
    (tmp_path / "nan.py").write_text(text)
    result = run("evaluate", f"{tmp_path / 'nan.py'}:task", "-q", "--store", tmp_path / "r.db")
    assert result.exit_code == 1
    assert "evaluate returned NaN" in result.stderr


@pytest.mark.slow
def test_jobs_and_interruption(tmp_path: Path) -> None:
    """Ctrl-C while two processes work: what is done is kept, and the same command goes on from there."""
    other = tmp_path / "other.py"
    other.write_text((FILES / "digits_task.py").read_text().replace('name="digits"', 'name="other"'))
    store = tmp_path / "r.db"
    command = [sys.executable, "-m", "netpress", "evaluate", DIGITS, f"{other}:task", "--jobs", "2", "--quick"]
    command += ["--store", str(store), "--json", "--tools", "netpress*,int*"]
    environment = {**os.environ, "NETPRESS_PEER": ""}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not (store.exists() and _count(store)):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert f"what was measured is in {store}; the same command goes on from there" in errors
    done = _count(store)
    assert done > 0
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    found = json.loads(finished.stdout)
    assert {results["summary"]["name"] for results in found} == {"digits", "other"}
    assert _count(store) == sum(len(results["measurements"]) for results in found) > done


def _count(path: Path) -> int:
    with Store(path) as store:
        return store.count()
