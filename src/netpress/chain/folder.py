"""The folder of a chain: a manifest that is written last, and a lock against two writers."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from netpress.chain.manifest import MANIFEST_NAME, file_name
from netpress.errors import InvalidBitstream
from netpress.files import atomic_writer

if sys.platform != "win32":
    import fcntl

__all__ = ["check_free", "locked", "read_manifest", "write_file"]


def check_free(folder: Path) -> None:
    """Refuse a folder with files in it, other than those of a creation that was interrupted."""
    if not folder.exists():
        return
    names = [path.name for path in folder.iterdir()]
    left = [name for name in names if name != file_name(0, 0) and not name.startswith(".netpress-")]
    if left:
        text = "there is a chain already" if MANIFEST_NAME in left else f"the folder is not empty ({min(left)})"
        raise FileExistsError(errno.EEXIST, text, os.fspath(folder))


def read_manifest(folder: Path) -> bytes:
    """Return the bytes of the manifest.

    Raises:
        InvalidBitstream: there is none.
        OSError: the folder is missing or cannot be read.
    """
    try:
        return (folder / MANIFEST_NAME).read_bytes()
    except FileNotFoundError:
        if not folder.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no such folder", os.fspath(folder)) from None
        raise InvalidBitstream(f"{folder} holds no {MANIFEST_NAME}: it is not a chain, or was not finished") from None


def write_file(path: Path, data: bytes) -> None:
    """Write a file that appears complete or not at all."""
    with atomic_writer(path) as file:
        file.write(data)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out; the lock goes with the process. Without such locks the manifest is still compared."""
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
