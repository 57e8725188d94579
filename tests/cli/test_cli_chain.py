"""netpress chain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Run, one_line

import netpress
from netpress.formats import open_source, save_tensors


@pytest.fixture
def models(tmp_path: Path, state: dict[str, Any]) -> list[Path]:
    """Four versions of a model."""
    paths = []
    for i in range(4):
        path = tmp_path / f"epoch{i}.safetensors"
        new = {**state, "conv.weight": state["conv.weight"] + np.float32(0.002 * i), "steps": np.array(7 + i)}
        save_tensors(new, path)
        paths.append(path)
    return paths


@pytest.fixture
def chain(run: Run, models: list[Path], tmp_path: Path) -> Path:
    """The versions in a chain."""
    path = tmp_path / "chain"
    for i, model in enumerate(models):
        result = run("chain", "add", path, model, "-q", "-m", f"epoch {i}", *(["--qp", -32] if i == 0 else []))
        assert result.exit_code == 0, result.stderr
        assert result.stdout == ""
    return path


def test_add_says_what_it_did(run: Run, models: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "c"
    first = run("chain", "add", path, models[0], "--keyframe-every", 2)
    assert first.stdout.startswith(f"{path}: version 0, ")
    assert "a model of its own" in first.stdout
    second = run("chain", "add", path, models[1])
    assert "version 1, " in second.stdout
    assert "4 tensors changed" in second.stdout
    third = run("chain", "add", path, models[2], "--json").json
    assert third["version"] == 2
    assert third["is_update"] is False
    assert third["bytes"] == (path / "000002.nnc").stat().st_size
    assert run("chain", "add", path, models[3], "--keyframe", "--json").json["is_update"] is False
    assert run("chain", "add", path, models[3], "--keyframe-every", 2).exit_code == 2


def test_log(run: Run, chain: Path) -> None:
    links = run("chain", "log", chain, "--json").json
    assert [link["message"] for link in links] == ["epoch 0", "epoch 1", "epoch 2", "epoch 3"]
    assert [link["changed"] for link in links] == [4, 4, 2, 2]  # version 1 also refines what the base rounded
    lines = run("chain", "log", chain).stdout.splitlines()
    line = next(line for line in lines if "epoch 1" in line)
    assert line.split()[:5] == ["1", "update", str(links[1]["bytes"]), "4", links[0]["sha256"][:12]]
    assert lines[-1].startswith(f"{chain}: 4 versions, ")


def test_messages_cannot_move_the_cursor(run: Run, chain: Path, models: list[Path]) -> None:
    assert run("chain", "add", chain, models[0], "-q", "-m", "a\x1b[2Jb").exit_code == 0
    assert "a\\x1b[2Jb" in run("chain", "log", chain).stdout


@pytest.mark.parametrize("version", [0, 2, -1])
def test_export(run: Run, chain: Path, models: list[Path], tmp_path: Path, version: int) -> None:
    out = tmp_path / "out.safetensors"
    assert run("chain", "export", chain, "--version", version, "-o", out).exit_code == 0
    original, restored = open_source(models[version]), open_source(out)
    assert set(restored.names) == set(original.names)
    for name in original.names:
        np.testing.assert_allclose(restored.load(name), original.load(name), atol=2.5 * 2.0**-8)
    stream = tmp_path / "out.nnc"
    assert run("chain", "export", chain, "--version", version, "-o", stream, "--json").json == {
        "output": str(stream),
        "bytes": stream.stat().st_size,
    }
    np.testing.assert_array_equal(netpress.load(stream)["steps"], original.load("steps"))


def test_export_overwrites_nothing(run: Run, chain: Path, tmp_path: Path) -> None:
    out = tmp_path / "chain.safetensors"
    assert run("chain", "export", chain).exit_code == 0
    assert out.is_file()
    assert "exists already" in one_line(run("chain", "export", chain))
    assert run("chain", "export", chain, "--force", "-q").stdout == ""
    assert run("chain", "export", chain, "--force", "-o", chain / "base.nnc").exit_code == 2
    assert run("chain", "verify", chain, "-q").exit_code == 0
    assert "version 9 does not exist" in one_line(run("chain", "export", chain, "--version", 9, "-f"))


def test_apply(run: Run, chain: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    assert "version 0, " in run("chain", "apply", copy, chain / "base.nnc").stdout
    assert "4 tensors changed" in run("chain", "apply", copy, chain / "000001.nnc").stdout
    assert run("chain", "apply", copy, "-", "-q", stdin=(chain / "000002.nnc").read_bytes()).exit_code == 0
    for name, message in (("000001.nnc", "a replay of link 1"), ("base.nnc", "names no base")):
        assert message in one_line(run("chain", "apply", copy, chain / name))
    assert [link["sha256"] for link in run("chain", "log", copy, "--json").json] == [
        link["sha256"] for link in run("chain", "log", chain, "--json").json[:3]
    ]
    assert run("chain", "apply", copy, chain / "base.nnc", "--keyframe", "-q").exit_code == 0
    assert run("chain", "verify", copy).stdout == f"{copy}: 4 versions, all in order\n"


@pytest.mark.parametrize("last", [2, -1])
def test_squash(run: Run, chain: Path, last: int) -> None:
    result = run("chain", "squash", chain, 1, last, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.json["versions"] == ([0, 2, 3] if last == 2 else [0, 3])
    assert result.json["bytes"] == sum(path.stat().st_size for path in chain.glob("*.nnc"))
    assert run("chain", "verify", chain, "--json").json["versions"] == result.json["versions"]
    assert "was squashed" in one_line(run("chain", "squash", chain, 1, 3))
    assert run("chain", "squash", chain, 0, -1).stdout.startswith(f"{chain}: 1 version, ")


def test_verify(run: Run, chain: Path) -> None:
    (chain / "000009.nnc").write_bytes(b"")
    lines = run("chain", "verify", chain).stdout.splitlines()
    assert lines[0] == f"{chain}: 4 versions, all in order"
    assert lines[1].startswith("note: 000009.nnc belongs to no version")
    assert run("chain", "verify", chain, "--json").json == {
        "ok": True,
        "problems": [],
        "versions": [0, 1, 2, 3],
        "unused": ["000009.nnc"],
    }
    (chain / "000002.nnc").write_bytes((chain / "000001.nnc").read_bytes())
    assert "link 2 (000002.nnc) holds the bytes of link 1 (000001.nnc)" in one_line(run("chain", "verify", chain))
    result = run("chain", "verify", chain, "--json")
    assert result.exit_code == 1
    assert result.json["ok"] is False
    (chain / "chain.json").write_bytes(b"{")
    for verb in ("verify", "log"):
        assert "chain.json is damaged" in one_line(run("chain", verb, chain))


def test_a_folder_that_is_no_chain(run: Run, model: Path, tmp_path: Path) -> None:
    for verb in ("verify", "log", "export"):
        assert "holds no chain.json" in one_line(run("chain", verb, tmp_path))
        assert "no such folder" in one_line(run("chain", verb, tmp_path / "nowhere"))
    assert "not empty" in one_line(run("chain", "add", tmp_path, model))
    one_line(run("chain", "apply", tmp_path / "c", "-", stdin=b""))
    assert not (tmp_path / "c").exists()
