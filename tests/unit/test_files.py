"""Files appear complete or not at all."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from netpress.files import atomic_writer

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions, links or pipes")


def test_writes_and_leaves_only_the_file(tmp_path: Path) -> None:
    with atomic_writer(tmp_path / "out.bin") as file:
        file.write(b"abc")
        assert not (tmp_path / "out.bin").exists()
    assert (tmp_path / "out.bin").read_bytes() == b"abc"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.bin"]


def test_can_be_read_back_and_sought(tmp_path: Path) -> None:
    with atomic_writer(str(tmp_path / "out.bin")) as file:
        file.write(b"abcdef")
        file.seek(1)
        assert file.read(2) == b"bc"
        file.seek(0)
        file.write(b"X")
    assert (tmp_path / "out.bin").read_bytes() == b"Xbcdef"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("before", [None, b"old"])
def test_error_leaves_everything_as_it_was(tmp_path: Path, error: type[BaseException], before: bytes | None) -> None:
    path = tmp_path / "out.bin"
    if before is not None:
        path.write_bytes(before)

    def write_and_fail() -> None:
        with atomic_writer(path) as file:
            file.write(b"new")
            raise error

    with pytest.raises(error):
        write_and_fail()
    assert sorted(path.name for path in tmp_path.iterdir()) == ([] if before is None else ["out.bin"])
    assert before is None or path.read_bytes() == before


def test_replaces_an_existing_file(tmp_path: Path) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"old and longer")
    with atomic_writer(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_error_at_rename_removes_the_temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError), atomic_writer(tmp_path / "out.bin") as file:
        file.write(b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_missing_directory_names_the_requested_file(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "out.bin"
    with pytest.raises(FileNotFoundError, match=r"out\.bin"), atomic_writer(path):
        pytest.fail("must not open")


def test_directory_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), atomic_writer(tmp_path):
        pytest.fail("must not open")


def test_longest_possible_name(tmp_path: Path) -> None:
    name = "n" * 255
    with atomic_writer(tmp_path / name) as file:
        file.write(b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


@posix
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_permissions_are_those_of_a_new_file(tmp_path: Path, umask: int) -> None:
    previous = os.umask(umask)
    try:
        with atomic_writer(tmp_path / "out.bin") as file:
            file.write(b"x")
        (tmp_path / "plain.bin").write_bytes(b"x")
    finally:
        os.umask(previous)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("out.bin", "plain.bin")]
    assert modes == [0o666 & ~umask] * 2


@posix
def test_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.bin").write_bytes(b"old")
    (tmp_path / "link.bin").symlink_to("real.bin")
    with atomic_writer(tmp_path / "link.bin") as file:
        file.write(b"new")
    assert (tmp_path / "link.bin").is_symlink()
    assert (tmp_path / "real.bin").read_bytes() == b"new"


@posix
def test_pipe_is_written_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(path.read_bytes()))
    reader.start()
    with atomic_writer(path) as file:
        file.write(b"abc")
    reader.join(10)
    assert received == [b"abc"]
    assert stat.S_ISFIFO(path.stat().st_mode)
