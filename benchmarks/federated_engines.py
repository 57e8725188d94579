"""Runs the Flower app ``federated_app`` in Flower's simulation engine, or with processes that speak gRPC."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from federated_problems import Settings

__all__ = ["ENGINES"]

HERE = Path(__file__).resolve().parent
SCRIPTS = Path(sys.executable).parent
PATIENCE_SECONDS = 3600.0


def simulation(settings: Settings, arms: Sequence[str]) -> dict[str, Any]:
    """Run arms in Flower's simulation engine; return the figures of each."""
    with _home("--simulation") as home:
        options = f"num-supernodes={settings.clients} client-resources-num-cpus=1"
        return {arm: _run(home, settings, arm, ["--federation-config", options]) for arm in arms}


def processes(settings: Settings, arms: Sequence[str]) -> dict[str, Any]:
    """Run arms with a SuperLink and SuperNodes as processes; return the figures of each."""
    with _home() as home, contextlib.ExitStack() as stack:
        for i in range(settings.clients):
            node = f"partition-id={i} num-partitions={settings.clients}"
            port = str(_free_port())
            command = ["flower-supernode", "--insecure", "--superlink", home.address, "--port", port]
            stack.enter_context(_started([*command, "--node-config", node], home))
        return {arm: _run(home, settings, arm, []) for arm in arms}


ENGINES: dict[str, Callable[[Settings, Sequence[str]], dict[str, Any]]] = {
    "simulation": simulation,
    "processes": processes,
}


@dataclasses.dataclass(frozen=True)
class _Home:
    """Folder of a SuperLink, where it listens, and the environment of all its processes."""

    folder: Path
    address: str
    environment: dict[str, str]


@contextlib.contextmanager
def _home(*options: str) -> Iterator[_Home]:
    """Start a SuperLink that is independent of others on this machine."""
    if shutil.which("flower-superlink", path=str(SCRIPTS)) is None:
        raise SystemExit("this engine needs Flower: pip install 'netpress[flower]'")
    with tempfile.TemporaryDirectory() as folder:
        address = f"127.0.0.1:{_free_port()}"
        environment = {
            **os.environ,
            "FLWR_HOME": folder,
            "FLWR_TELEMETRY_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PATH": os.pathsep.join((str(SCRIPTS), os.environ["PATH"])),
            "PYTHONPATH": str(HERE),
            "PYTHONWARNINGS": "ignore",
        }
        home = _Home(Path(folder), address, environment)
        (home.folder / "config.toml").write_text(
            f'[superlink]\ndefault = "here"\n\n[superlink.here]\naddress = "{address}"\ninsecure = true\n'
        )
        command = ["flower-superlink", "--insecure", "--disable-runtime-dependency-installation"]
        with _started([*command, "--port", address.rpartition(":")[2], *options], home):
            _wait_for(lambda: "Uvicorn running" in (home.folder / "log").read_text())
            yield home


@contextlib.contextmanager
def _started(command: Sequence[str], home: _Home) -> Iterator[None]:
    with (home.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [str(SCRIPTS / command[0]), *command[1:]], env=home.environment, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def _run(home: _Home, settings: Settings, arm: str, options: Sequence[str]) -> dict[str, Any]:
    result = home.folder / f"{arm}.json"
    config = home.folder / "run.toml"
    values = {"settings": json.dumps(dataclasses.asdict(settings)), "arm": arm, "result": str(result)}
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items()))
    command = [str(SCRIPTS / "flwr"), "run", str(HERE / "federated_app"), "here", "--stream"]
    done = subprocess.run(
        [*command, "--run-config", str(config), *options],
        env=home.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    if not result.exists():
        raise SystemExit(f"the run failed:\n{done.stdout[-5000:]}{done.stderr[-2000:]}")
    figures: dict[str, Any] = json.loads(result.read_text())
    return figures


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("the SuperLink did not start")
        time.sleep(0.2)
