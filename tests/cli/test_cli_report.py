"""netpress report."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import report_samples as samples
from cli_runner import Run, one_line

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
pytest.importorskip("sqlite_utils")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Results of three tasks, one of which failed."""
    from netpress.evaluate.store import Store

    path = tmp_path / "results.sqlite"
    with Store(path) as opened:
        for results in (samples.sparse(), samples.failed(), samples.failed(samples.HOSTILE.replace("\ud800", ""))):
            opened.put(results.summary.name, results)
            for m in results.measurements:
                opened.add(results.summary.name, m.tool + m.setting + m.group, m)
    return path


def test_report(run: Run, store: Path, tmp_path: Path) -> None:
    result = run("report", "--store", store, "-o", tmp_path / "out")
    assert result.stderr == ""
    assert result.stdout == f"{tmp_path / 'out' / 'index.html'}: 3 tasks, 2 failed\n"
    assert "only-a-sweep" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert run("report", "--store", store, "-o", tmp_path / "out", "-q").stdout == ""  # again, over the first one


def test_one_task_with_files_of_plots(run: Run, store: Path, tmp_path: Path) -> None:
    result = run("report", "--store", store, "-o", tmp_path, "--task", "only-a-sweep", "--figures", "svg", "--force")
    assert result.stdout.endswith(": 1 task\n")
    assert len(list((tmp_path / "figures").glob("*.svg"))) == 2
    assert not list(tmp_path.glob("nerf*"))


def test_bad_input(run: Run, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "no file absent.sqlite with results" in one_line(run("report", "--store", "absent.sqlite", "-o", out))
    unknown = one_line(run("report", "--store", store, "-o", out, "--task", "x"))
    assert "no results of x; it has <script>" in unknown
    assert "files that are not a report" in one_line(run("report", "--store", store, "-o", tmp_path))
    assert "not 'pdf'" in one_line(run("report", "--store", store, "-o", out, "--figures", "pdf"))
    noise = tmp_path / "noise"
    noise.write_bytes(bytes(range(256)) * 20)
    assert "not a store of results" in one_line(run("report", "--store", noise, "-o", out))
    assert not out.exists()


def test_empty_store(run: Run, tmp_path: Path) -> None:
    from netpress.evaluate.store import Store

    Store(tmp_path / "empty.sqlite").close()
    assert "has no results yet" in one_line(run("report", "--store", tmp_path / "empty.sqlite", "-o", tmp_path / "out"))


@pytest.mark.slow
def test_a_task_of_a_user_from_sweep_to_page(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    task = Path(__file__).parents[1] / "evaluate" / "data" / "digits_task.py"
    store = tmp_path / "results.db"
    swept = run("evaluate", f"{task}:task", "--quick", "--tools", "netpress*,ablation,coder", "--store", store, "-q")
    assert swept.exit_code == 0, swept.stderr
    assert run("report", "--store", store, "-o", tmp_path / "out").stdout.endswith(": 1 task\n")
    content = (tmp_path / "out" / "digits.html").read_text(encoding="utf-8")
    assert content.count("<svg") >= 4
    assert "8x8 digits" in content


@pytest.mark.parametrize("package", ["sqlite_utils", "jinja2", "matplotlib"])
def test_missing_package(package: str, run: Run, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "netpress.evaluate.store", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    error = one_line(run("report", "--store", store, "-o", tmp_path / "out"))
    assert f"need the package '{package}'; pip install 'netpress[evaluate]'" in error


def test_everything_in_a_store_reaches_the_page(run: Run, tmp_path: Path) -> None:
    from netpress.evaluate.store import Store

    whole = samples.complete(tensors=1)
    with Store(tmp_path / "results.sqlite") as opened:
        opened.put("run", whole)
        for place, m in enumerate(whole.measurements):
            opened.add("run", str(place), m)
    assert run("report", "--store", tmp_path / "results.sqlite", "-o", tmp_path / "out").exit_code == 0
    content = (tmp_path / "out" / "cifar10-resnet20.html").read_text(encoding="utf-8")
    assert content.count("<svg") == 6
    assert "the peer ended with signal 11" in content
