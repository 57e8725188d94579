"""Processes that are killed: a file is there complete, or as it was before, or not at all."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from processes import Material, finals, run, start, stop, temporaries, wait_for

OLD = b"what was there before"


def kill_at_random(material: Material, verb: str, folder: Path, generator: random.Random, *, overwrite: bool) -> str:
    """Kill one run of a verb at a random moment; returns what the target is then: absent, old or complete."""
    source, expected, seconds = {
        "encode": (material.model, material.stream, material.encode_seconds),
        "decode": (material.stream, material.decoded, material.decode_seconds),
    }[verb]
    target = folder / expected.name
    if overwrite:
        target.write_bytes(OLD)
    before = len(temporaries(folder))
    process = start(verb, source, "-o", target, "-q", *(["--force"] if overwrite else []))
    if generator.random() < 0.7:  # while the file is being written
        wait_for(lambda: len(temporaries(folder)) > before, process)
        time.sleep(generator.uniform(0, 0.5 if verb == "encode" else 0.05) * seconds)
    else:
        time.sleep(generator.uniform(0, 1.1) * seconds)
    ended = stop(process, signal.SIGKILL)
    assert ended.code in (0, -signal.SIGKILL), ended.stderr
    assert finals(folder) in ([], [target])
    if not target.exists():
        assert not overwrite
        return "absent"
    content = target.read_bytes()
    if overwrite and content == OLD:
        return "old"
    assert content == expected.read_bytes()
    return "complete"


def kill_often(material: Material, verb: str, folder: Path, times: int, seed: int) -> None:
    """Kill a verb some times in one folder, then run it to its end there."""
    generator = random.Random(seed)
    for i in range(times):
        overwrite = i % 2 == 1
        outcome = kill_at_random(material, verb, folder, generator, overwrite=overwrite)
        assert outcome in ({"old", "complete"} if overwrite else {"absent", "complete"})
        for path in finals(folder):
            path.unlink()
    # What is left of the killed runs does not disturb the next one, and is not touched by it.
    left = temporaries(folder)
    source, expected = (material.model, material.stream) if verb == "encode" else (material.stream, material.decoded)
    target = folder / expected.name
    assert run(verb, source, "-o", target, "-q").code == 0
    assert target.read_bytes() == expected.read_bytes()
    assert temporaries(folder) == left


@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_kill_leaves_no_partial_file(material: Material, tmp_path: Path, verb: str) -> None:
    kill_often(material, verb, tmp_path, 4, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["encode", "decode"])
def test_many_kills_leave_no_partial_file(material: Material, tmp_path: Path, verb: str) -> None:
    kill_often(material, verb, tmp_path, 25, seed=2)


@pytest.mark.parametrize("overwrite", [False, True])
def test_kill_while_writing(material: Material, tmp_path: Path, overwrite: bool) -> None:
    """The moment that matters: bytes are in the temporary file, the name is still free or old."""
    target = tmp_path / "m.nnc"
    if overwrite:
        target.write_bytes(OLD)
    process = start("encode", material.model, "-o", target, "-q", "--force")
    assert wait_for(lambda: any(path.stat().st_size > 0 for path in temporaries(tmp_path)), process)
    assert stop(process, signal.SIGKILL).code == -signal.SIGKILL
    assert temporaries(tmp_path)
    assert (target.read_bytes() if target.exists() else None) == (OLD if overwrite else None)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("overwrite", [False, True])
def test_interrupted_encode_leaves_nothing(
    material: Material, tmp_path: Path, number: int, code: int, overwrite: bool
) -> None:
    target = tmp_path / "m.nnc"
    if overwrite:
        target.write_bytes(OLD)
    process = start("encode", material.model, "-o", target, "--force")
    assert wait_for(lambda: temporaries(tmp_path), process)
    ended = stop(process, number)
    assert ended.code == code
    assert ended.stdout == b""
    assert ended.stderr.splitlines() == (["netpress: interrupted"] if number == signal.SIGINT else [])
    assert [path.name for path in tmp_path.iterdir()] == (["m.nnc"] if overwrite else [])
    assert not overwrite or target.read_bytes() == OLD


def test_interrupted_decode_leaves_nothing(material: Material, tmp_path: Path) -> None:
    process = start("decode", material.stream, "-o", tmp_path / "m.safetensors")
    if wait_for(lambda: temporaries(tmp_path), process):
        ended = stop(process, signal.SIGINT)
        assert ended.code in (0, 130), ended.stderr
        assert [path.name for path in tmp_path.iterdir()] == (["m.safetensors"] if ended.code == 0 else [])
