"""The bytes of the encoder are pinned; a change of them has a number, a minor version and a line in the changelog."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import own_bytes
import pytest

import netpress

CHANGELOG = own_bytes.changelog()


def test_bytes_of_the_encoder() -> None:
    lines = own_bytes.differing(own_bytes.measured(), own_bytes.read()["streams"])
    assert not lines, (
        "the encoder writes other bytes than before:\n  "
        + "\n  ".join(lines)
        + "\nIf that was not wanted, it is a fault. "
        f"If it was: give pyproject.toml the next minor version, unless it is unreleased, run\n  {own_bytes.COMMAND}\n"
        'and put the line that it prints into CHANGELOG.md under "Changed".'
    )


def test_every_change_of_bytes_is_in_the_changelog() -> None:
    expected = own_bytes.read()
    changes = expected["changes"]
    assert [change["number"] for change in changes] == list(range(1, len(changes) + 1))
    # Who edits the streams by hand has to say so too.
    assert own_bytes.identifier(expected["streams"]) == changes[-1]["identifier"], f"run {own_bytes.COMMAND}"
    for change in changes:
        assert change["version"].endswith(".0"), f"a change of bytes is a minor version, not {change['version']}"
        assert own_bytes.is_listed(change, CHANGELOG), (
            f'CHANGELOG.md lacks, in the section of {change["version"]} under "Changed": {own_bytes.entry_of(change)}'
        )


def test_a_changed_encoder_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = netpress.encode

    def other(source: Any, **options: Any) -> bytes:
        changes = {"lambda_scale": 1.0} if options == {"qp": -20, "effort": 7} else {}
        return encode(source, **options, **changes)

    monkeypatch.setattr(netpress, "encode", other)
    (line,) = own_bytes.differing(own_bytes.measured(), own_bytes.read()["streams"])
    assert line.startswith("qp -20, effort 7: ")


@pytest.fixture
def expected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An expected file of two small streams, the second of which is not pinned yet."""
    path = tmp_path / "bytes.json"
    monkeypatch.setattr(own_bytes, "EXPECTED", path)
    monkeypatch.setattr(own_bytes, "ROOT", tmp_path)
    (tmp_path / "CHANGELOG.md").write_text("## [0.3.0] - unreleased\n## [0.2.0] - 2027-01-01\n", encoding="utf-8")
    monkeypatch.setattr(own_bytes, "STREAMS", {"a": lambda: b"a"})
    own_bytes.pin("first.", "0.3.0")
    return path


def test_pinning_a_change(expected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_bytes, "STREAMS", {"a": lambda: b"aa"})
    assert "Bytes 2: longer." in own_bytes.pin("longer.", "0.3.0")
    assert own_bytes.differing(own_bytes.measured(), own_bytes.read()["streams"]) == []
    assert [change["what"] for change in own_bytes.read()["changes"]] == ["first.", "longer."]


def test_pinning_another_stream_is_no_change(expected: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_bytes, "STREAMS", {"a": lambda: b"a", "b": lambda: b"b"})
    own_bytes.pin("", "0.3.1")
    content = own_bytes.read()
    assert [change["what"] for change in content["changes"]] == ["first."]
    assert content["changes"][0]["identifier"] == own_bytes.identifier(content["streams"])


@pytest.mark.parametrize(("version", "words"), [("0.3.1", "is a patch"), ("0.2.0", "is released")])
def test_a_change_belongs_to_a_new_minor_version(
    expected: Path, monkeypatch: pytest.MonkeyPatch, version: str, words: str
) -> None:
    monkeypatch.setattr(own_bytes, "STREAMS", {"a": lambda: b"aa"})
    before = expected.read_bytes()
    with pytest.raises(SystemExit, match=words):
        own_bytes.pin("longer.", version)
    assert expected.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("## [0.2.0] - unreleased\n### Changed\n- Bytes 2: vectors\n  are finer.\n", True),
        ("## [0.2.0] - unreleased\n### Added\n- Bytes 2: vectors are finer.\n### Changed\n- Nothing.\n", False),
        ("## [0.2.0] - unreleased\n### Changed\n- Bytes 3: vectors are finer.\n", False),
        ("## [0.3.0]\n### Changed\n- Bytes 2: vectors are finer.\n## [0.2.0]\n### Changed\n- Nothing.\n", False),
        ("## [0.3.0]\n### Added\n- Nothing.\n", False),
    ],
)
def test_what_counts_as_listed(text: str, listed: bool) -> None:
    change = {"number": 2, "version": "0.2.0", "what": "vectors are finer.", "identifier": ""}
    assert own_bytes.is_listed(change, text) is listed
