"""Write streams of the current version and the values that they decode to, for all later versions to read.

Usage:
  python tools/make_golden_own.py [--version X.Y] [--overwrite] [CASE ...]
      writes tests/golden/own/X.Y/CASE: all cases, or those that are named; those that exist stay as they are, unless
      --overwrite is given. A version that was released is never written again.
  python tools/make_golden_own.py --bytes "WHAT CHANGED"
      pins the bytes that the encoder writes now (tests/golden/own/bytes.json), after a change that was wanted.

Recipes and calibrations need netpress[recipe]. The cases are in tools/golden_own, their models in
tests/conformance/own_models.py.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "conformance"))

import own_bytes  # noqa: E402
import own_past  # noqa: E402
from golden_own.case import Case  # noqa: E402

import netpress  # noqa: E402


class _FixedTime(datetime.datetime):
    """Chains note when a version was added."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime.datetime:
        return datetime.datetime(2026, 1, 1, tzinfo=tz)


@contextlib.contextmanager
def _repeatable() -> Iterator[None]:
    """Have the same time and the same name of a federation in every run."""
    with mock.patch("datetime.datetime", _FixedTime), mock.patch("secrets.token_bytes", lambda n: bytes(range(n))):
        yield


def make(case: Case, folder: Path) -> None:
    """Write one case."""
    folder.mkdir(parents=True)
    with _repeatable():
        config = {"about": case.about, **case.write(folder)}
    models: dict[str, own_past.Model] = {}
    for what, way, model in own_past.decoded(folder, config):
        wanted = models.setdefault(what, model)
        if (wrong := own_past.difference(model, wanted)) is not None:
            raise SystemExit(f"{folder.name}: {what} by way of {way}: {wrong}")
    # Whatever is needed to read the case; its test is skipped where that is not installed.
    config.setdefault("needs", [])
    config["facts"] = own_past.facts(folder, config)
    config["tensors"] = own_past.store(models, folder / "values.npz")
    (folder / "config.json").write_text(_text(config) + "\n", encoding="utf-8")


def _text(value: Any, indent: str = "") -> str:
    """JSON with one line for each object or list that holds no others."""
    inner = indent + " "
    if isinstance(value, dict) and any(isinstance(v, (dict, list)) and v for v in value.values()):
        lines = [f"{inner}{json.dumps(key)}: {_text(v, inner)}" for key, v in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, (dict, list)) and len(json.dumps(v)) > 20 for v in value):
        return "[\n" + ",\n".join(f"{inner}{json.dumps(v)}" for v in value) + f"\n{indent}]"
    return json.dumps(value)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    parser.add_argument("--version", default=".".join(netpress.__version__.split(".")[:2]))
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--bytes", metavar="WHAT CHANGED", dest="change")
    options = parser.parse_args()
    if options.change is not None:
        print(own_bytes.pin(options.change, netpress.__version__))
        return
    from golden_own import CASES

    np.seterr(all="ignore")  # casts of the models wrap on purpose
    target = own_past.GOLDEN / options.version
    if unknown := set(options.cases) - set(CASES):
        raise SystemExit(f"there is no case {min(unknown)!r}; known are {', '.join(CASES)}")
    there = [name for name in options.cases or CASES if (target / name).exists()]
    if there and not options.overwrite:
        print(f"{len(there)} cases exist and stay as they are; --overwrite writes them again")
    if there and options.overwrite and not own_bytes.is_unreleased(f"{options.version}.0", own_bytes.changelog()):
        raise SystemExit(
            f"{options.version} is no unreleased version in CHANGELOG.md: what it wrote is not written again"
        )
    for name in options.cases or CASES:
        if name in there and not options.overwrite:
            continue
        with tempfile.TemporaryDirectory() as place:  # a case that fails leaves the old one
            make(CASES[name], Path(place) / name)
            shutil.rmtree(target / name, ignore_errors=True)
            shutil.copytree(Path(place) / name, target / name)
    sizes = [path.stat().st_size for path in target.rglob("*") if path.is_file()]
    print(f"{len(list(target.iterdir()))} cases, {len(sizes)} files, {sum(sizes)} bytes in {target.name}")


if __name__ == "__main__":
    main()
