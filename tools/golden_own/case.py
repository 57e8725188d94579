"""What a case is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import netpress

__all__ = ["Case", "stream_case"]


class Case(NamedTuple):
    """``write`` puts what netpress writes into a folder, and returns what ``config.json`` says: at least its kind."""

    about: str
    write: Callable[[Path], dict[str, Any]]


def stream_case(about: str, model: Callable[[], Any], /, **options: Any) -> Case:
    """One stream of one model, with settings of the encoder."""

    def write(folder: Path) -> dict[str, Any]:
        (folder / "stream.nnc").write_bytes(netpress.encode(model(), **options))
        return {"kind": "stream", "options": netpress.EncodeConfig(**options).to_dict()}

    return Case(about, write)
