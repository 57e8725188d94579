"""Access to the conformance vectors: the golden subset, and the full set where NETPRESS_SHARED tells where it is."""

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

SHARED = Path(os.environ.get("NETPRESS_SHARED", Path(__file__).resolve().parents[3] / "shared"))
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "conformance"
FOLDERS = {
    path.parent.name: path.parent for root in (GOLDEN, SHARED / "conformance") for path in root.glob("*/meta.json")
}
NAMES = sorted(FOLDERS)
HAS_FULL_SET = (SHARED / "conformance").is_dir()
FULL_SET_SIZE = 428


@dataclasses.dataclass(frozen=True)
class Vector:
    """One vector; tensors are loaded on demand."""

    name: str
    folder: Path
    meta: Mapping[str, Any]

    @property
    def stream(self) -> bytes:
        return (self.folder / "stream.nnc").read_bytes()

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.meta["effective_options"])

    @property
    def is_first_edition_1_0(self) -> bool:
        return self.meta.get("payload_variant") == "first edition"

    @property
    def earlier(self) -> list["Vector"]:
        return [vector(name) for name in self.meta.get("chain", {}).get("earlier", [])]

    def inputs(self) -> dict[str, np.ndarray]:
        tensors = load_file(self.folder / self.meta["input"])
        return {name: tensors[name] for name in self.meta["input_order"]}

    def levels(self) -> dict[str, np.ndarray] | None:
        file = self.folder / "levels.safetensors"
        return load_file(file) if file.exists() else None

    def expected(self) -> dict[str, np.ndarray] | None:
        if self.meta["expected"] is None:
            return None
        return load_file(self.folder / self.meta["expected"])


@functools.cache
def vector(name: str) -> Vector:
    folder = FOLDERS[name]
    return Vector(name, folder, json.loads((folder / "meta.json").read_text()))
