"""The example app in Flower's simulation, and with a SuperLink and SuperNodes as processes of their own."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("flwr", reason="Flower is not installed")
pytest.importorskip("torch")
pytest.importorskip("sklearn")

APP = Path(__file__).resolve().parents[2] / "examples" / "flower_digits"
SCRIPTS = Path(sys.executable).parent
PATIENCE_SECONDS = 900.0  # for machines under load; nothing here is a measurement

pytestmark = pytest.mark.slow


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    home = tmp_path / "flower"
    home.mkdir()
    path = os.pathsep.join((str(SCRIPTS), os.environ["PATH"]))
    return {**os.environ, "FLWR_HOME": str(home), "PATH": path, "OMP_NUM_THREADS": "1", "FLWR_TELEMETRY_ENABLED": "0"}


def check_report(text: str, clients: int) -> None:
    """What the server of the example prints: all clients took part, and messages were small."""
    reports = re.findall(r"received (\d+) bytes from (\d+) clients: ([\d.]+)% saved", text)
    assert [int(count) for _, count, _ in reports] == [clients] * len(reports), text
    assert len(reports) >= 2, text
    assert float(reports[-1][2]) > 90, text
    found = re.search(r"accuracy ([\d.]+)", text)
    assert found is not None, text
    assert float(found[1]) > 0.3, text


def test_simulation(environment: dict[str, str]) -> None:
    pytest.importorskip("ray", reason="Flower's simulation needs ray")
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from flwr.simulation import run_simulation\n"
        "from digits.client import app as client\n"
        "from digits.server import app as server\n"
        "run_simulation(server_app=server, client_app=client, num_supernodes=2)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    environment["PYTHONPATH"] = str(APP)
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stderr[-3000:]
    check_report(done.stdout, 2)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


@pytest.fixture
def link(environment: dict[str, str], tmp_path: Path) -> Iterator[str]:
    """Address of a SuperLink with two SuperNodes."""
    if shutil.which("flower-superlink", path=environment["PATH"]) is None:
        pytest.skip("Flower's programs are not installed")
    ports = free_ports(3)
    address = f"127.0.0.1:{ports[0]}"
    (Path(environment["FLWR_HOME"]) / "config.toml").write_text(
        f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{address}"\ninsecure = true\n'
    )
    log = tmp_path / "link.log"
    commands = [
        ["flower-superlink", "--insecure", "--disable-runtime-dependency-installation", "--port", str(ports[0])]
    ]
    for i, port in enumerate(ports[1:]):
        node = f"partition-id={i} num-partitions=2"
        options = ["--insecure", "--superlink", address, "--port", str(port), "--node-config", node]
        commands.append(["flower-supernode", *options])
    started: list[subprocess.Popen[bytes]] = []
    try:
        with log.open("wb") as file:
            for command in commands:
                program = str(SCRIPTS / command[0])
                started.append(subprocess.Popen([program, *command[1:]], env=environment, stdout=file, stderr=file))
                if len(started) == 1:
                    wait_for(lambda: b"Uvicorn running" in log.read_bytes())
            yield address
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            process.wait(60)


def wait_for(condition: object) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.2)


def test_processes(link: str, environment: dict[str, str]) -> None:
    command = [str(SCRIPTS / "flwr"), "run", str(APP), "here", "--stream", "--run-config", "clients=2 rounds=2"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    check_report(done.stdout + done.stderr, 2)
