"""What all verbs have in common: help, version, errors, exit codes, progress, start time."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from cli_runner import Run, one_line

import netpress
from netpress.cli import _terminate
from netpress.cli.console import counted, human_bytes, printable

VERBS = ("encode", "decode", "info", "verify", "report", "demo")
COMMAND = [sys.executable, "-c", "from netpress.cli import main; main()"]


def test_version(run: Run) -> None:
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout == f"netpress {netpress.__version__}\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_verb(run: Run, flag: str) -> None:
    result = run(flag)
    assert result.exit_code == 0
    assert all(verb in result.stdout for verb in VERBS)
    for verb in VERBS:
        assert run(verb, flag).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["unknown"],
        ["encode"],
        ["encode", "m.npz", "--unknown"],
        ["decode", "a.nnc", "b.nnc"],
        ["info", "a.nnc", "--limit", "max_units"],
        ["info", "a.nnc", "--limit", "max_units=-1"],
        ["info", "a.nnc", "--limit", "max_units=1.5"],
        ["info", "a.nnc", "--limit", "max_units=inf"],
        ["info", "a.nnc", "--limit", "other=1"],
        ["info", "a.nnc", "--dimensions", "{]"],
        ["info", "a.nnc", "--dimensions", '{"a": [1.5]}'],
        ["info", "a.nnc", "--dimensions", '{"a": [-1]}'],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr
    assert not result.stdout


def test_without_arguments_shows_help(run: Run) -> None:
    result = run()
    assert "Start with: netpress demo" in result.stdout + result.stderr


@pytest.mark.parametrize("verb", ["encode", "decode", "info", "verify"])
def test_missing_file(run: Run, verb: str, tmp_path: Path) -> None:
    path = tmp_path / ("missing.safetensors" if verb == "encode" else "missing.nnc")
    line = one_line(run(verb, path))
    assert "No such file" in line
    assert path.name in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", ["decode", "info", "verify"])
@pytest.mark.parametrize("content", [b"", b"no stream", bytes(100)])
def test_files_that_are_no_stream(run: Run, verb: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.nnc"
    path.write_bytes(content)
    one_line(run(verb, path))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("verb", ["decode", "info", "verify"])
def test_truncated_stream(run: Run, verb: str, stream: Path) -> None:
    stream.write_bytes(stream.read_bytes()[:-20])
    before = sorted(stream.parent.iterdir())
    one_line(run(verb, stream, *(["--force"] if verb == "decode" else [])))
    assert sorted(stream.parent.iterdir()) == before


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "netpress: interrupted"),
        (MemoryError(), 1, "netpress: error: not enough memory"),
        (MemoryError("1 TB"), 1, "netpress: error: not enough memory (1 TB)"),
        (OSError(28, "No space left on device"), 1, "netpress: error: No space left on device"),
        (OSError(28, "No space left on device", "out"), 1, "netpress: error: out: No space left on device"),
        (
            netpress.InvalidModel("two\nlines \x1b[31m", tensor="t"),
            1,
            "netpress: error: tensor 't': two lines \\x1b[31m",
        ),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_errors_become_one_line(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(netpress, "save", fail)
    monkeypatch.setattr("netpress.cli.console._discard_stdout", lambda: None)
    result = run("encode", model)
    assert result.exit_code == code
    assert result.stderr.strip() == message
    assert "Traceback" not in result.stderr
    assert not model.with_suffix(".nnc").exists()


def test_verbose_shows_the_traceback(run: Run, tmp_path: Path) -> None:
    result = run("info", tmp_path / "missing.nnc", "-v")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("netpress: error: ")


@pytest.mark.parametrize("quiet", [True, False])
def test_warnings_become_lines(run: Run, stream: Path, monkeypatch: pytest.MonkeyPatch, quiet: bool) -> None:
    original = netpress.open

    def warn(*arguments: Any, **options: Any) -> Any:
        warnings.warn("a unit was skipped", stacklevel=1)
        return original(*arguments, **options)

    monkeypatch.setattr(netpress, "open", warn)
    result = run("decode", stream, "-o", stream.with_suffix(".npz"), *(["-q"] if quiet else []))
    assert result.exit_code == 0
    assert result.stderr == ("" if quiet else "netpress: warning: a unit was skipped\n")


def test_termination_ends_like_an_exception() -> None:
    with pytest.raises(SystemExit) as caught:
        _terminate(15, None)
    assert caught.value.code == 143


def test_limits_reach_the_decoder(run: Run, stream: Path) -> None:
    for verb in ("decode", "info", "verify"):
        force = ["--force"] if verb == "decode" else []
        assert "max_tensors" in one_line(run(verb, stream, "--limit", "max_tensors=1", *force))
    assert run("verify", stream, "--limit", "max_elements=1e6", "--limit", "max_tensors=100").exit_code == 0


def test_printable() -> None:
    assert printable("a\nb\x1b[0m\x07é名\u202e") == "a b\\x1b[0m\\x07é名\\u202e"


def test_human_numbers() -> None:
    sizes = [human_bytes(n) for n in (0, 999, 1000, 1234, 99_940, 123_456, 999_600, 5_400_000, 7e9, 8e12)]
    assert sizes == ["0 B", "999 B", "1 kB", "1.23 kB", "99.9 kB", "123 kB", "1 MB", "5.4 MB", "7 GB", "8 TB"]
    assert [counted(n, "unit") for n in (0, 1, 2)] == ["0 units", "1 unit", "2 units"]


def test_command_line_loads_no_framework() -> None:
    code = (
        "import sys, netpress\n"
        "print([m for m in ('torch', 'typer', 'rich') if m in sys.modules])\n"
        "import netpress.cli\n"
        "print([m for m in ('torch', 'sklearn', 'netpress.demo') if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n[]\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_progress_is_shown_on_terminals_only(model: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    arguments = [*COMMAND, "encode", str(model), "--json", "--force"]
    process = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=theirs, check=True)
    os.close(theirs)
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        shown = terminal.read(100_000)
    assert b"encoding" in shown
    assert process.stdout.startswith(b"{")
    piped = subprocess.run(arguments, capture_output=True, check=True)
    assert piped.stderr == b""


@pytest.mark.skipif(os.name != "posix", reason="needs pipes that break")
def test_reader_that_goes_away(stream: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "info", "--syntax", str(stream)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == b""
    process.stderr.close()
