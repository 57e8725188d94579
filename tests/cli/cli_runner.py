"""What a run of the command line gives."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Result:
    """How a command ended."""

    exit_code: int
    stdout_bytes: bytes
    stderr: str

    @property
    def stdout(self) -> str:
        return self.stdout_bytes.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.stdout_bytes)


Run = Callable[..., Result]


def one_line(result: Result) -> str:
    """The one line of an error."""
    assert result.exit_code == 1
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("netpress: error: ")
    return lines[0]
