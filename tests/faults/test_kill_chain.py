"""Processes that are killed while they write to a chain: it has the versions of before, or one more."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import PATIENCE_SECONDS

from netpress import UpdateChain

WRITER = """
import sys
import netpress
sys.path.insert(0, {tests!r})
from test_kill_chain import model
chain = netpress.UpdateChain.open({path!r})
print("ready", flush=True)
while True:
    version = chain.append(model(chain.versions[-1] + 1))
    print("version", version, flush=True)
    if version % 3 == 0:
        chain.squash(-2, -1)
        print("squashed", version, flush=True)
"""
QP = -24
TOLERANCE = 2.5 * 2.0 ** (QP / 4)


def model(version: int) -> dict[str, np.ndarray]:
    """A model that tells its version."""
    weight = np.random.default_rng(3).normal(0, 0.2, (48, 48)) + 0.05 * version
    return {"w": weight.astype(np.float32), "version": np.array(version)}


def check(path: Path, acknowledged: list[list[str]], before: list[int]) -> list[int]:
    """Check a chain whose writer was killed, against what that had said; returns the versions."""
    chain = UpdateChain.open(path)
    chain.verify()
    last = max([int(version) for word, version in acknowledged if word == "version"], default=before[-1])
    assert chain.versions[-1] in (last, last + 1)
    for word, version in acknowledged:
        if word == "squashed":
            assert int(version) - 1 not in chain.versions
    assert set(before) - set(chain.versions) <= {int(v) - 1 for v in range(1, last + 2) if v % 3 == 0}
    for version in chain.versions:
        restored = chain.load(version)
        assert restored["version"] == version
        # A version is quantised again at most once: by its own squash.
        assert np.abs(restored["w"] - model(version)["w"]).max() < 2 * TOLERANCE
    return chain.versions


def kill_often(path: Path, times: int, seed: int) -> None:
    """Let a writer work on a chain and kill it, some times."""
    generator = random.Random(seed)
    UpdateChain.create(path, model(0), qp=QP)
    versions = [0]
    code = WRITER.format(tests=str(Path(__file__).parent), path=str(path))
    for _ in range(times):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(generator.uniform(0, 0.12))
        process.send_signal(signal.SIGKILL)
        out, error = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == -signal.SIGKILL, error.decode()
        # The last line may have been cut off.
        lines = [line.decode().split() for line in out.splitlines(keepends=True) if line.endswith(b"\n")]
        versions = check(path, lines, versions)
    chain = UpdateChain.open(path)
    assert chain.append(model(versions[-1] + 1)) == versions[-1] + 1
    chain.squash(versions[0], -1)
    assert len(chain) == 1
    assert chain.load()["version"] == versions[-1] + 1


def test_kill_leaves_the_chain_in_order(tmp_path: Path) -> None:
    kill_often(tmp_path / "chain", 4, seed=1)


@pytest.mark.slow
def test_many_kills_leave_the_chain_in_order(tmp_path: Path) -> None:
    kill_often(tmp_path / "chain", 40, seed=2)


def test_writers_at_once(tmp_path: Path) -> None:
    """Two processes add versions as fast as they can: each version is there once, and nothing is lost."""
    path = tmp_path / "chain"
    UpdateChain.create(path, model(0), qp=QP)
    code = """
import sys, numpy, netpress
done = 0
while done < 8:
    chain = netpress.UpdateChain.open(sys.argv[1])
    try:
        chain.append({"w": numpy.full((8, 8), 0.1 * done, "f4"), "who": numpy.array([int(sys.argv[2]), done])})
        done += 1
    except netpress.BaseMismatch as error:
        assert "changed by somebody else" in str(error), error
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(i)]) for i in range(2)]
    assert [writer.wait(timeout=PATIENCE_SECONDS) for writer in writers] == [0, 0]
    chain = UpdateChain.open(path)
    assert chain.verify() == []
    assert chain.versions == list(range(17))
    who = [chain.load(version)["who"].tolist() for version in range(1, 17)]
    assert sorted(who) == [[i, done] for i in range(2) for done in range(8)]
