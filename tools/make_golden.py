"""Copies the golden subset of the conformance vectors into tests/golden/conformance.

The subset covers every tool and every family of names once, with as few bytes as a greedy choice finds. Vectors made
from trained networks are left out, and so is every vector of more than ``MAX_BYTES``.

Usage: python tools/make_golden.py SHARED/conformance
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

TARGET = Path(__file__).resolve().parents[1] / "tests" / "golden" / "conformance"
MAX_BYTES = 21_500
ALWAYS = ("codebook1-unary0", "nn-sparsity80-struct90", "torch-lsa-bnf")  # the only ones that a test has
FILES = ("stream.nnc", "meta.json", "input.safetensors", "expected.safetensors", "levels.safetensors")
README = """# Golden conformance vectors

A subset of the conformance vectors, chosen by `tools/make_golden.py`: every tool of the format once. The full set is
used where the environment variable `NETPRESS_SHARED` names the folder that holds it.

A folder holds the bitstream (`stream.nnc`), the tensors that were encoded (`input.safetensors`), what NNCodec decodes
(`expected.safetensors`), the integers in the stream (`levels.safetensors`, the small vectors only) and the settings and
checks (`meta.json`).

## Origin

The streams were written by NNCodec 2.1.3 (`v1-*`: NNCodec 1.0). All tensors are random numbers made for this set of
vectors; none comes from a trained network.
"""


def features(meta: dict[str, Any]) -> set[str]:
    """What a vector covers: its tools, its family, the ways in which its tensors are coded, the checks it allows."""
    family = re.match("[a-z]+|v1-[a-z]+", meta["name"])
    found = {f"tool {tool}" for tool in meta["covers"]} | {f"family {family.group() if family else ''}"}
    profile = meta["effective_options"]["general_profile_idc"]
    for coded in meta["levels"].values():
        found.add(f"profile {profile} {coded['method']} dq {coded['dq_flag']}")
        found.add(f"profile {profile} scan {coded['scan_order']}")
    found |= {f"chain {key} {value}" for key, value in meta.get("chain", {}).items() if key in ("role", "hdsp")}
    return found | {f"check {name} {value}" for name, value in meta["checks"].items()}


def choose(folder: Path) -> set[str]:
    """Return the names of the vectors to copy."""
    metas = {path.parent.name: json.loads(path.read_text()) for path in sorted(folder.glob("*/meta.json"))}
    sizes = {n: sum((folder / n / f).stat().st_size for f in FILES if (folder / n / f).exists()) for n in metas}
    small = {n for n, size in sizes.items() if size <= MAX_BYTES and "resnet" not in n and "minires" not in n}
    needs = {n: {n, *metas[n].get("chain", {}).get("earlier", [])} for n in small}
    covered_by = {n: features(metas[n]) for n in small}
    missing = set[str]().union(*covered_by.values())
    chosen: set[str] = set(ALWAYS)
    missing -= set[str]().union(*(features(metas[name]) for name in chosen))
    while missing:
        best = max(
            sorted(small),
            key=lambda n: len(covered_by[n] & missing) / (2000 + sum(sizes[m] for m in needs[n] - chosen)),
        )
        chosen |= needs[best]
        missing -= covered_by[best]
    return chosen


def main() -> None:
    """Replace the golden subset."""
    folder = Path(sys.argv[1])
    shutil.rmtree(TARGET, ignore_errors=True)
    TARGET.mkdir(parents=True)
    (TARGET / "README.md").write_text(README)
    chosen = choose(folder)
    for name in sorted(chosen):
        (TARGET / name).mkdir()
        for file in FILES:
            if (folder / name / file).exists():
                # Their contents without their read-only modes.
                (TARGET / name / file).write_bytes((folder / name / file).read_bytes())
    size = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    print(f"{len(chosen)} vectors, {size} bytes")


if __name__ == "__main__":
    main()
