"""Files that appear complete or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_writer"]


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open ``path`` for writing such that it appears complete or not at all.

    The bytes go to a temporary file in the same directory, which is flushed to the disk and renamed over ``path`` when
    the block ends. When the block raises (Ctrl-C included) the temporary file is removed and a file that was at
    ``path`` before stays as it was. The new file gets the permissions of any newly created file; a symbolic link is
    followed, so that the file it points to is the one replaced. Pipes and devices (``/dev/stdout``) cannot be replaced
    and are written directly.

    Args:
        path: the file to write; its directory must exist.

    Yields:
        A binary file that can be written, read back and sought in (a pipe can only be written).

    Raises:
        OSError: the file cannot be created, written or renamed.

    Example:
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_writer(os.path.join(folder, "a.bin")) as file:
        ...         _ = file.write(b"abc")
        ...     os.listdir(folder)
        ['a.bin']
    """
    target = Path(os.path.realpath(path))
    if _is_special(target, path):
        with target.open("wb") as device:
            yield device
        return
    temporary = target.with_name(f".netpress-{secrets.token_hex(8)}.part")
    try:
        with _create(temporary, path) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise
    _sync_directory(target.parent)


def _create(temporary: Path, path: str | os.PathLike[str]) -> BinaryIO:
    """Create the temporary file; an error names the file that the caller asked for."""
    try:
        return temporary.open("x+b")
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def _is_special(target: Path, path: str | os.PathLike[str]) -> bool:
    """Whether the target exists and is a pipe, a device or a socket; a directory raises ``IsADirectoryError``."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    return not stat.S_ISREG(mode)


def _sync_directory(folder: Path) -> None:
    """Make the new name durable, where the platform can open a directory."""
    if os.name != "posix":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # a directory that may be written but not read
        return
    try:
        os.fsync(handle)
    except OSError as error:  # file systems without this operation
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(handle)
