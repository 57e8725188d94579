"""The bytes that the encoder writes today, and the list of their changes.

``tests/golden/own/bytes.json`` holds size and hash of each stream below, and a numbered sentence for each time that
some of them changed. Each sentence has to stand in ``CHANGELOG.md``, in the section of its version, under "Changed".
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import own_models as models

import netpress

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = ROOT / "tests" / "golden" / "own" / "bytes.json"
COMMAND = 'python tools/make_golden_own.py --bytes "WHAT CHANGED"'


def _encoded(model: Callable[[], models.Model], **options: Any) -> Callable[[], bytes]:
    return lambda: netpress.encode(model(), **options)


def _some_types() -> models.Model:
    """So few types that the record stays plain: what zlib makes of a longer one differs between its versions."""
    names = ("bool", "int16", "uint64", "float16", "bfloat16")
    return {name: value for name, value in models.all_types().items() if name in names}


def _update(**options: Any) -> bytes:
    old = models.network()
    # As plain floats, so that the update does not depend on how its base was quantised.
    base = netpress.encode(old, raw_float=[name for name, value in old.items() if value.dtype == "f4"])
    return netpress.encode(models.changed(old, 200), base=netpress.decode(base), **options)


STREAMS: Mapping[str, Callable[[], bytes]] = {
    "default": _encoded(models.network),
    "default, effort 1": _encoded(models.network, effort=1),
    "default, effort 9": _encoded(models.network, effort=9),
    "qp -20": _encoded(models.network, qp=-20),
    "qp -20, effort 1": _encoded(models.network, qp=-20, effort=1),
    "qp -20, effort 7": _encoded(models.network, qp=-20, effort=7),
    "qp -20, effort 9": _encoded(models.network, qp=-20, effort=9),
    "qp -20, nonweight_qp -36": _encoded(models.network, qp=-20, nonweight_qp=-36),
    "qp -20, uniform": _encoded(models.network, qp=-20, use_dq=False),
    "qp -20, by size": _encoded(models.network, qp=-20, allocation="size"),
    "default, folded": _encoded(models.network, fold_batch_norm=True, batch_norm_epsilon=1e-3),
    "few values, effort 8": _encoded(models.few_values, effort=8),
    "rows of zeros": _encoded(models.rows, qp=-20),
    "types": _encoded(_some_types),
    "shapes": _encoded(models.odd_shapes),
    "names": _encoded(models.odd_names, qp=-20),
    "update": _update,
    "update, qp -20": lambda: _update(qp=-20),
}


def measured() -> dict[str, list[Any]]:
    """Size and hash of every stream, as the encoder writes it now."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", netpress.NetpressWarning)  # some steps are coarse
        streams = {name: encode() for name, encode in STREAMS.items()}
    return {name: [len(data), hashlib.sha256(data).hexdigest()] for name, data in streams.items()}


def read() -> dict[str, Any]:
    expected: dict[str, Any] = json.loads(EXPECTED.read_text(encoding="utf-8"))
    return expected


def identifier(streams: Mapping[str, list[Any]]) -> str:
    """What a change is recorded under: a hash of all streams that hardly two states of the encoder share."""
    text = json.dumps([[name, *streams[name]] for name in sorted(streams)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differing(given: Mapping[str, list[Any]], wanted: Mapping[str, list[Any]]) -> list[str]:
    """The streams that have changed, with their sizes."""
    lines = []
    for name in [*wanted, *(name for name in given if name not in wanted)]:
        old, new = wanted.get(name), given.get(name)
        if old != new:
            sizes = [f"{entry[0]} bytes" if entry else "not there" for entry in (old, new)]
            lines.append(f"{name}: {' -> '.join(sizes)}")
    return lines


def entry_of(change: Mapping[str, Any]) -> str:
    """The line of the changelog that belongs to a change."""
    return f"Bytes {change['number']}: {change['what']}"


def is_listed(change: Mapping[str, Any], text: str) -> bool:
    """Whether the changelog names a change under "Changed", in the section of its version."""
    section = re.search(rf"^## \[{re.escape(change['version'])}\].*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    changed = section and re.search(r"^### Changed$(.*?)(?=^### |\Z)", section.group(), re.MULTILINE | re.DOTALL)
    return bool(changed) and entry_of(change) in " ".join(changed.group(1).split())


def changelog() -> str:
    return (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def is_unreleased(version: str, text: str) -> bool:
    return re.search(rf"^## \[{re.escape(version)}\] - unreleased$", text, re.MULTILINE) is not None


def pin(what: str, version: str) -> str:
    """Record that the bytes have changed in a version; returns what is left to do, or raises SystemExit."""
    expected = read() if EXPECTED.exists() else {"changes": [], "streams": {}}
    changes, streams = expected["changes"], measured()
    if changes and all(streams.get(name) == entry for name, entry in expected["streams"].items()):
        changes[-1]["identifier"] = identifier(streams)
        _write(changes, streams)
        return "no stream that is pinned has changed; those that are new are pinned too"
    if not version.endswith(".0"):
        raise SystemExit(
            f"{version} is a patch; a change of bytes is a minor version: raise it in pyproject.toml first"
        )
    if not is_unreleased(version, changelog()):
        raise SystemExit(f"{version} is released; raise the minor version, and begin its section in CHANGELOG.md")
    change = {"number": len(changes) + 1, "version": version, "what": what, "identifier": identifier(streams)}
    _write([*changes, change], streams)
    return f'now write into CHANGELOG.md, {version}, under "Changed":\n- {entry_of(change)}'


def _write(changes: list[Any], streams: Mapping[str, list[Any]]) -> None:
    """Write the expected file, with a line for each change and each stream."""
    rows = ",\n".join(f"  {json.dumps(change)}" for change in changes)
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in streams.items())
    text = f'{{\n "changes": [\n{rows}\n ],\n "streams": {{\n{lines}\n }}\n}}\n'
    EXPECTED.write_text(text, encoding="utf-8")
