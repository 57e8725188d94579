"""What goes wrong in a federation: each fault has its error, the round goes on, and nothing is lost."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy import SAMPLES, assert_same, first_model, play, start

import netpress
from netpress import BaseMismatch, InvalidBitstream, LimitExceeded, NetpressError, UnsupportedBitstream
from netpress.federated import Client, FederatedConfig, Server
from netpress.federated.message import Broadcast, Part, PartKind, Upload

EXACT = FederatedConfig(carried=0.9999, vectors_carried=0.9999)


def upload_of(client: Client, server: Server, amount: float = 1.0) -> bytes:
    model = client.receive(server.broadcast(client.name))
    model["fc.weight"] += np.float32(amount)
    return client.send(model, samples=SAMPLES)


def forged(upload: bytes, **changes: object) -> bytes:
    """An upload with other fields and a checksum that fits."""
    known = Upload.from_bytes(upload)
    values = {name: getattr(known, name) for name in Upload.__slots__}
    return Upload(**{**values, **changes}).to_bytes()


def test_truncated_and_damaged_uploads() -> None:
    _, server, (client, *_) = start()
    upload = upload_of(client, server)
    before = server.model
    for cut in range(len(upload)):
        with pytest.raises(InvalidBitstream):
            server.accept(upload[:cut], client.name)
    for place in range(0, len(upload), 3):
        damaged = bytearray(upload)
        damaged[place] ^= 0x40
        error = server.collect(bytes(damaged), client.name)
        assert isinstance(error, (InvalidBitstream, UnsupportedBitstream))
    assert_same(server.model, before)
    assert server.collect(upload, client.name) is None  # the true one is still taken
    assert list(server.aggregate().samples) == [client.name]


def test_truncated_and_damaged_broadcasts() -> None:
    task, server, clients = start(1)
    client = clients[0]
    play(task, server, clients)
    message = server.broadcast(client.name)
    held = client.model
    for cut in range(0, len(message), 7):
        with pytest.raises(InvalidBitstream):
            client.receive(message[:cut])
    damaged = bytearray(message)
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(InvalidBitstream):
        client.receive(bytes(damaged))
    assert_same(client.model, held)
    client.receive(message)
    assert_same(client.model, server.model)


def test_wrong_base() -> None:
    task, server, clients = start()
    late = upload_of(clients[2], server)
    play(task, server, clients, chosen=[0, 1])
    error = server.collect(late, clients[2].name)
    assert isinstance(error, BaseMismatch)
    assert "version 0" in str(error)
    other = Server(first_model())
    stranger = Client(clients[0].name)
    with pytest.raises(BaseMismatch, match="another federation"):
        server.accept(upload_of(stranger, other), stranger.name)
    with pytest.raises(BaseMismatch, match="another federation"):
        clients[0].receive(_step(other, play(task, other, [stranger])))
    nobody = Client("nobody")
    with pytest.raises(BaseMismatch, match="no model yet"):
        nobody.receive(server.broadcast(clients[0].name))


def _step(server: Server, _: object) -> bytes:
    """A broadcast to a client that the server knows."""
    return server.broadcast("client 0")


def test_replayed_old_update() -> None:
    task, server, clients = start()
    old = upload_of(clients[0], server)
    assert server.collect(old, clients[0].name) is None
    server.aggregate()
    after = server.model
    with pytest.raises(BaseMismatch, match="replay"):
        server.accept(old, clients[0].name)
    first = server.broadcast(clients[0].name)
    clients[0].receive(first)
    play(task, server, clients)
    clients[0].receive(server.broadcast(clients[0].name))
    with pytest.raises(BaseMismatch, match="replay"):
        clients[0].receive(first)
    assert not np.array_equal(server.model["fc.weight"], after["fc.weight"])


def test_duplicate_update() -> None:
    _, server, clients = start(config=EXACT)
    upload = upload_of(clients[0], server)
    assert server.collect(upload, clients[0].name) is None
    with pytest.raises(BaseMismatch, match="duplicate"):
        server.accept(upload, clients[0].name)
    server.aggregate()
    assert np.allclose(server.model["fc.weight"], 1, atol=0.02)  # counted once
    # A second upload of a round replaces the first.
    model = clients[0].receive(server.broadcast(clients[0].name))
    model["fc.weight"] += 1
    server.accept(clients[0].send(model, samples=1), clients[0].name)
    model["fc.weight"] += 1
    server.accept(clients[0].send(model, samples=1), clients[0].name)
    server.aggregate()
    assert np.allclose(server.model["fc.weight"], 3, atol=0.05)


def test_an_update_that_was_lost_is_due_again() -> None:
    _, server, clients = start(config=EXACT)
    upload_of(clients[0], server)  # never arrives
    assert server.collect(upload_of(clients[1], server), clients[1].name) is None
    server.aggregate()
    assert np.allclose(server.model["fc.weight"], 1, atol=0.02)
    assert server.collect(upload_of(clients[0], server, 0.0), clients[0].name) is None
    server.aggregate()
    assert np.allclose(server.model["fc.weight"], 2, atol=0.05)


def test_a_dropped_client_is_logged_and_the_round_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    task, server, clients = start()
    with caplog.at_level(logging.WARNING, "netpress.federated"):
        upload = upload_of(clients[0], server)
        assert isinstance(server.collect(b"rubbish", clients[0].name), InvalidBitstream)
        assert isinstance(server.collect(upload, clients[1].name), BaseMismatch)
        assert isinstance(server.collect(forged(upload, samples=1e300), clients[0].name), BaseMismatch)
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert "round 1: update of client 'client 0' dropped: the message is truncated" in caplog.text
    report = play(task, server, clients, chosen=[2])
    assert set(report.samples) == {"client 2"}
    assert set(report.dropped) == {"client 0", "client 1"}
    assert "claims 1e+300 samples" in report.dropped["client 0"]


def test_shapes_and_sizes_are_checked_before_decoding() -> None:
    _, server, (client, *_) = start()
    upload = upload_of(client, server)
    options = {"qp": -8, "differences": True, "topology_storage_format": None}
    huge = netpress.Encoder(**options).encode({"0": np.ones((256, 256), np.float32)})
    for tensors, error in (
        ({"99": np.ones((4, 4), np.float32)}, InvalidBitstream),
        ({"0": np.ones((4, 4), np.float32)}, InvalidBitstream),
        ({"0": np.ones((16, 24), np.int32)}, InvalidBitstream),
        ({str(i): np.ones(1, np.float32) for i in range(99)}, LimitExceeded),
    ):
        data = netpress.Encoder(**options).encode(tensors)
        with pytest.raises(error):
            server.accept(forged(upload, data=data), client.name)
    assert len(huge) < 2000
    with pytest.raises(LimitExceeded):
        server.accept(forged(upload, data=huge), client.name)
    with pytest.raises(InvalidBitstream):
        server.accept(forged(upload, data=Upload.from_bytes(upload).data[:-4]), client.name)
    assert server.collect(upload, client.name) is None


def test_damaged_streams_behind_a_good_checksum() -> None:
    """Whatever a client puts into its stream, the server answers with its own errors or takes finite values."""
    _, server, (client, *_) = start(config=FederatedConfig(temporal=True))
    random = np.random.default_rng(0)
    for _ in range(2):
        server.collect(upload_of(client, server), client.name)
        server.aggregate()
    upload = upload_of(client, server)
    stream = Upload.from_bytes(upload).data
    refused = 0
    for number in range(200):
        damaged = bytearray(stream)
        for place in random.integers(0, len(stream), 1 + number % 4):
            damaged[place] = random.integers(0, 256)
        error = server.collect(forged(upload, data=bytes(damaged), number=3 + number), client.name)
        assert error is None or isinstance(error, NetpressError)
        refused += error is not None
    assert refused > 50
    server.aggregate()
    assert all(np.isfinite(value).all() for value in server.model.values())


@pytest.mark.parametrize("value", [1e4, 1e12, 1e20, 3e38, -3e38])
@pytest.mark.parametrize("name", ["fc.weight", "bn.running_var", "bn.running_mean", "half", "count"])
def test_enormous_values_do_not_crash_a_round(name: str, value: float) -> None:
    model = {**first_model(), "half": np.ones((4, 4), np.float16), "count": np.zeros(4, np.int64)}
    model["bn.running_var"] *= np.float32(0)
    server, good, bad = Server(model), Client("good"), Client("bad", EXACT)
    for _ in range(3):
        start = good.receive(server.broadcast("good"))
        start["fc.bias"] += 1
        assert server.collect(good.send(start, samples=1), "good") is None
        start = bad.receive(server.broadcast("bad"))
        with np.errstate(over="ignore"):
            kind = start[name].dtype
            hostile = (
                np.clip(value, -6e4, 6e4)
                if kind == np.float16
                else np.clip(value, -9e18, 9e18)
                if kind == np.int64
                else value
            )
            start[name][...] = np.asarray(hostile).astype(kind)
        try:
            upload = bad.send(start, samples=1e9)
        except NetpressError:
            continue  # an honest client notices by itself
        server.collect(upload, "bad")
        server.aggregate()
    assert all(np.isfinite(v.astype(np.float64)).all() for v in server.model.values())
    good.receive(server.broadcast("good"))
    assert_same(good.model, server.model)


def test_server_restarted_between_rounds(tmp_path: Path) -> None:
    task, server, clients = start(config=FederatedConfig(temporal=True))
    play(task, server, clients)
    server.save(tmp_path / "server")
    # A round that is under way when the server goes down: its uploads are promised to nobody.
    for i, client in enumerate(clients):
        model = client.receive(server.broadcast(client.name))
        assert server.collect(client.send(task.train(model, i), samples=SAMPLES), client.name) is None
    restarted = Server.load(tmp_path / "server")
    assert restarted.version == 1
    owed = []
    for client in clients:
        client.receive(restarted.broadcast(client.name))
        assert_same(client.model, restarted.model)
        owed.append(np.abs(client.accumulator.residuals["fc.weight"]).max())
    assert min(owed) > 0.01
    play(task, restarted, clients)
    assert restarted.version == 2


def test_a_client_that_lost_its_model_gets_all_of_it() -> None:
    task, server, clients = start()
    play(task, server, clients)
    clients[0] = Client(clients[0].name)
    with pytest.raises(BaseMismatch):
        clients[0].receive(server.broadcast(clients[0].name))
    clients[0].receive(server.broadcast(clients[0].name, full=True))
    assert_same(clients[0].model, server.model)
    play(task, server, clients)


def test_a_broadcast_that_lies_about_its_result() -> None:
    _, server, (client, *_) = start()
    message = Broadcast.from_bytes(server.broadcast(client.name))
    wrong = Broadcast(message.session, -1, 0, b"\0" * 8, 0, message.parts).to_bytes()
    with pytest.raises(InvalidBitstream, match="does not lead"):
        client.receive(wrong)
    client.receive(message.to_bytes())
    with pytest.raises(InvalidBitstream, match="do not lead to its version"):
        client.receive(Broadcast(message.session, 0, 2, message.model, 0, (Part(PartKind.UPDATE, b""),)).to_bytes())
    assert client.version == 0


_CLIENT = """
import pathlib, sys
from netpress.federated import Client, FederatedConfig
name, folder, die = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3] == "die"
saved = folder / (name + ".client")
client = Client.load(saved) if saved.exists() else Client(name, FederatedConfig(carried=0.9999))
model = client.receive((folder / (name + ".down")).read_bytes())
client.save(saved)
model["fc.weight"] += 1
if die:
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
upload = client.send(model, samples=10)
client.save(saved)
(folder / (name + ".up")).write_bytes(upload)
"""


@pytest.mark.slow
def test_a_client_killed_in_the_middle_of_a_round(tmp_path: Path) -> None:
    server = Server(first_model(), EXACT)

    def play_process(name: str, fate: str) -> bytes | None:
        (tmp_path / f"{name}.down").write_bytes(server.broadcast(name))
        (tmp_path / f"{name}.up").unlink(missing_ok=True)
        command = [sys.executable, "-c", _CLIENT, name, str(tmp_path), fate]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == (-9 if fate == "die" else 0), done.stderr
        path = tmp_path / f"{name}.up"
        return path.read_bytes() if path.exists() else None

    assert play_process("b", "die") is None
    upload = play_process("a", "live")
    assert upload is not None
    assert server.collect(upload, "a") is None
    assert list(server.aggregate().samples) == ["a"]
    # The killed client comes back with what it had saved; it gets what it missed.
    upload = play_process("b", "live")
    assert upload is not None
    assert server.collect(upload, "b") is None
    server.aggregate()
    assert np.allclose(server.model["fc.weight"], 2, rtol=0.15)
