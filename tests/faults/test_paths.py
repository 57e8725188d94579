"""Targets that cannot be written and sources that cannot be read: one clear line that names the file, exit code 1."""

from __future__ import annotations

from pathlib import Path

import pytest
from processes import Ended, Material, is_root, run_here


def expect_error(ended: Ended, *words: str) -> None:
    """Check exit code and message."""
    assert ended.code == 1, ended.stderr
    assert ended.stdout == b""
    line = ended.one_error_line()
    for word in words:
        assert word in line


@pytest.mark.skipif(is_root(), reason="permissions do not bind root")
@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_read_only_folder(capfd: pytest.CaptureFixture[str], material: Material, tmp_path: Path, verb: str) -> None:
    source, name = (material.model, "m.nnc") if verb == "encode" else (material.stream, "m.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    expect_error(run_here(capfd, verb, source, "-o", folder / name), name, "Permission denied")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("verb", ["encode", "decode"])
@pytest.mark.parametrize("place", ["file", "missing", "folder", "proc"])
def test_target_that_cannot_be_written(
    capfd: pytest.CaptureFixture[str], material: Material, tmp_path: Path, verb: str, place: str
) -> None:
    source, name = (material.model, "m.nnc") if verb == "encode" else (material.stream, "m.safetensors")
    (tmp_path / "file").write_bytes(b"a file, not a folder")
    (tmp_path / "folder" / name).mkdir(parents=True)
    target = Path("/proc") / name if place == "proc" else tmp_path / place / name
    if place == "proc" and not Path("/proc/self").exists():
        pytest.skip("there is no /proc here")
    expect_error(run_here(capfd, verb, source, "-o", target), name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
    assert list((tmp_path / "folder").iterdir()) == [tmp_path / "folder" / name]


@pytest.mark.skipif(is_root(), reason="permissions do not bind root")
@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_source_without_permission(
    capfd: pytest.CaptureFixture[str], material: Material, tmp_path: Path, verb: str
) -> None:
    original = material.model if verb == "encode" else material.stream
    source = tmp_path / f"source{original.suffix}"
    source.write_bytes(original.read_bytes())
    source.chmod(0)
    expect_error(
        run_here(capfd, verb, source, "-o", tmp_path / ("x.nnc" if verb == "encode" else "x.npz")), source.name
    )
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("extension", ["safetensors", "npz", "pt", "nnc"])
@pytest.mark.parametrize("kind", ["missing", "empty", "dangling", "folder", "unreadable"])
def test_source_that_cannot_be_read(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, extension: str, kind: str
) -> None:
    source = tmp_path / f"source.{extension}"
    if kind == "empty":
        source.touch()
    elif kind == "dangling":
        source.symlink_to(tmp_path / "nowhere")
    elif kind == "folder":
        source.mkdir()
    elif kind == "unreadable":  # opens, but reading its first bytes fails
        if not Path("/proc/self/mem").exists():
            pytest.skip("there is no /proc here")
        source.symlink_to("/proc/self/mem")
    verb, target = ("decode", tmp_path / "x.npz") if extension == "nnc" else ("encode", tmp_path / "x.nnc")
    before = sorted(tmp_path.iterdir())
    expect_error(run_here(capfd, verb, source, "-o", target))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("verb", ["encode", "decode"])
@pytest.mark.parametrize("share", [0.0001, 0.5, 0.999])
def test_source_that_was_cut_off(
    capfd: pytest.CaptureFixture[str], material: Material, tmp_path: Path, verb: str, share: float
) -> None:
    original = material.model if verb == "encode" else material.stream
    source = tmp_path / f"source{original.suffix}"
    content = original.read_bytes()
    source.write_bytes(content[: int(len(content) * share)])
    expect_error(run_here(capfd, verb, source, "-o", tmp_path / ("x.nnc" if verb == "encode" else "x.npz")))
    assert list(tmp_path.iterdir()) == [source]
