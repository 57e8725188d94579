"""Runs the command line as a process of its own, and stops it."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netpress.cli import app

COMMAND = [sys.executable, "-m", "netpress"]
PATIENCE_SECONDS = 120.0  # for machines under load; nothing here is a measurement


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended; ``code`` is negative after a signal."""

    code: int
    stdout: bytes
    stderr: str

    def one_error_line(self) -> str:
        """The only line on stderr, checked to be an error message and no traceback."""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        assert lines[0].startswith("netpress: error: "), self.stderr
        return lines[0]


def run(*arguments: object, **options: Any) -> Ended:
    """Run ``netpress`` to its end."""
    process = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, timeout=PATIENCE_SECONDS, **options)
    return Ended(process.returncode, process.stdout, process.stderr.decode())


def run_here(capfd: pytest.CaptureFixture[str], *arguments: object) -> Ended:
    """Run ``netpress`` in this process, for tests that need no process of its own."""
    capfd.readouterr()
    with pytest.raises(SystemExit) as caught:
        app(list(map(str, arguments)), prog_name="netpress")
    captured = capfd.readouterr()
    code = caught.value.code
    return Ended(code if isinstance(code, int) else int(code is not None), captured.out.encode(), captured.err)


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """Start ``netpress`` in a group of its own."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )


def stop(process: subprocess.Popen[bytes], number: int) -> Ended:
    """Send a signal, if the process still runs, and wait for its end."""
    if process.poll() is None:
        process.send_signal(number)
    stdout, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    return Ended(process.returncode, stdout, stderr.decode())


def wait_for(condition: Callable[[], object], process: subprocess.Popen[bytes]) -> bool:
    """Wait until a condition holds; False if the process ended before."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        if condition():
            return True
        if process.poll() is not None:
            return bool(condition())
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    raise AssertionError("the process came to no end")


def temporaries(folder: Path) -> list[Path]:
    """Return the temporary files of unfinished writes, whose names no user would give."""
    return [path for path in folder.iterdir() if path.name.startswith(".netpress-") and path.name.endswith(".part")]


def finals(folder: Path) -> list[Path]:
    """Return everything else."""
    return sorted(set(folder.iterdir()) - set(temporaries(folder)))


def is_root() -> bool:
    """Whether permissions do not bind."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


@dataclasses.dataclass(frozen=True)
class Material:
    """A model file, its stream, and the file that decoding the stream gives."""

    model: Path
    stream: Path
    decoded: Path
    encode_seconds: float
    decode_seconds: float
