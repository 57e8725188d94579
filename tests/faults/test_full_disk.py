"""Disks that are full, and other writes that fail half-way: one clear line, exit code 1, nothing left behind."""

from __future__ import annotations

import functools
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import COMMAND, Material, run


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None:
        pytest.skip("there is no command mount")
    mounted = subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def limit_file_size(size: int) -> None:
    """Let every write beyond a file size fail, in the process that is about to start."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_disk_full(material: Material, small_disk: Path, verb: str) -> None:
    source, target = {
        "encode": (material.model, small_disk / "m.nnc"),
        "decode": (material.stream, small_disk / "m.safetensors"),
    }[verb]
    ended = run(verb, source, "-o", target)
    assert ended.code == 1
    assert "No space left on device" in ended.one_error_line()
    assert ended.stdout == b""
    assert list(small_disk.iterdir()) == []


def test_disk_full_keeps_the_old_file(material: Material, small_disk: Path) -> None:
    target = small_disk / "m.nnc"
    target.write_bytes(b"old")
    ended = run("encode", material.model, "-o", target, "--force")
    assert ended.code == 1
    ended.one_error_line()
    assert [path.name for path in small_disk.iterdir()] == ["m.nnc"]
    assert target.read_bytes() == b"old"


@pytest.mark.parametrize("size", [0, 300_000])
@pytest.mark.parametrize("extension", ["nnc", "safetensors", "npz"])
def test_write_that_fails_half_way(material: Material, tmp_path: Path, extension: str, size: int) -> None:
    verb, source = ("encode", material.model) if extension == "nnc" else ("decode", material.stream)
    ended = run(verb, source, "-o", tmp_path / f"m.{extension}", preexec_fn=functools.partial(limit_file_size, size))
    assert ended.code == 1
    assert "File too large" in ended.one_error_line()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_device_that_is_full(material: Material, verb: str) -> None:
    source = material.model if verb == "encode" else material.stream
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [*COMMAND, verb, str(source), "-o", "-"], stdout=full, stderr=subprocess.PIPE, timeout=120
        )
    assert process.returncode == 1
    lines = process.stderr.decode().splitlines()
    assert len(lines) == 1
    assert "No space left on device" in lines[0]
