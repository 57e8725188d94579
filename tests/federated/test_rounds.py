"""Rounds of federated learning: the model learns, both ends hold the same bits, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from toy import OUTPUTS, SAMPLES, Task, assert_same, first_model, play, start

from netpress import BaseMismatch, InvalidBitstream, InvalidConfig, InvalidModel
from netpress.federated import Client, FederatedConfig, Server, Sparsification, coding
from netpress.federated.layout import Layout


def plain_rounds(task: Task, rounds: int) -> float:
    """Error after rounds without compression."""
    model = first_model()
    for _ in range(rounds):
        trained = [task.train({n: v.copy() for n, v in model.items()}, i) for i in range(len(task.inputs))]
        model = {name: np.mean([t[name] for t in trained], 0).astype(value.dtype) for name, value in model.items()}
    return task.error(model)


@pytest.mark.parametrize(
    "config",
    [
        FederatedConfig(carried=0.7),
        FederatedConfig(carried=0.7, temporal=True),
        FederatedConfig(carried=0.7, sparsification=Sparsification(share=0.5)),
        FederatedConfig(carried=0.9, sparsification=Sparsification(keep=0.3)),
        FederatedConfig(carried=0.9, sparsification=Sparsification(deviations=0.5, rows=0.5)),
    ],
    ids=["default", "temporal", "share", "keep", "deviations and rows"],
)
def test_the_model_learns_and_all_hold_the_same_bits(config: FederatedConfig) -> None:
    task, server, clients = start(config=config)
    assert task.error(server.model) == 1
    reports = [play(task, server, clients) for _ in range(15)]
    assert server.version == 15
    assert task.error(server.model) < 0.15
    assert plain_rounds(task, 15) < 0.1
    for client in clients:
        client.receive(server.broadcast(client.name))
        assert_same(client.model, server.model)
    assert server.model["bn.num_batches_tracked"] == 60  # integers are exact
    assert server.model["mask"].all()
    assert reports[-1].sent_bytes == sum(reports[-1].sent.values())
    assert 0 < reports[-1].saved < 1


def test_statistics_follow_their_mean() -> None:
    task, server, clients = start()
    for _ in range(12):
        play(task, server, clients)
    before = server.model
    trained = [task.train(client.receive(server.broadcast(client.name)), i) for i, client in enumerate(clients)]
    for client, model in zip(clients, trained, strict=True):
        server.collect(client.send(model, samples=1), client.name)
    server.aggregate()
    means = {name: np.mean([model[name] for model in trained], 0) for name in ("bn.running_mean", "bn.running_var")}
    deviation = np.sqrt(before["bn.running_var"])
    step = FederatedConfig().statistics_step
    # One step for the uploads, one for the broadcast, in the units that statistics are coded in.
    assert np.all(np.abs(server.model["bn.running_mean"] - means["bn.running_mean"]) <= 2.5 * step * deviation)
    assert np.all(np.abs(server.model["bn.running_var"] - means["bn.running_var"]) <= 2.5 * step * deviation**2)
    assert np.all(server.model["bn.running_var"] >= 0)


def test_a_variance_never_becomes_negative() -> None:
    _, server, (client, *_) = start(1)
    model = client.receive(server.broadcast(client.name))
    model["bn.running_var"] = np.zeros(OUTPUTS, np.float32)
    assert server.collect(client.send(model, samples=1), client.name) is None
    server.aggregate()
    assert np.all(server.model["bn.running_var"] >= 0)
    assert np.all(server.model["bn.running_var"] < 0.2)


def test_the_mean_is_weighted_and_in_any_order() -> None:
    models = []
    for order in ((0, 1), (1, 0)):
        server = Server(first_model())
        clients = [Client(f"client {i}", FederatedConfig(carried=0.9999)) for i in range(2)]
        uploads = []
        for i, client in enumerate(clients):
            model = client.receive(server.broadcast(client.name))
            model["fc.weight"] += np.float32(1 + i)
            uploads.append(client.send(model, samples=3 - 2 * i))
        for i in order:
            assert server.collect(uploads[i], clients[i].name) is None
        server.aggregate()
        models.append(server.wanted)
    assert_same(*models)
    assert np.allclose(models[0]["fc.weight"], (3 * 1 + 1 * 2) / 4, atol=0.05)


def test_an_update_without_any_change() -> None:
    _, server, clients = start()
    for client in clients:
        upload = client.send(client.receive(server.broadcast(client.name)), samples=5)
        assert len(upload) < 100
        assert server.collect(upload, client.name) is None
    report = server.aggregate()
    assert set(report.samples) == {client.name for client in clients}
    clients[0].receive(server.broadcast(clients[0].name))
    assert_same(clients[0].model, server.model)


def test_a_round_without_updates_changes_nothing() -> None:
    _, server, _ = start()
    before = server.model
    report = server.aggregate()
    assert (report.round, report.version, report.samples, report.saved) == (1, 0, {}, 0.0)
    assert_same(server.model, before)


def test_clients_that_miss_rounds_catch_up() -> None:
    task, server, clients = start()
    play(task, server, clients)
    for _ in range(3):
        play(task, server, clients, chosen=[0, 1])
    message = server.broadcast(clients[2].name)
    assert len(message) < len(server.broadcast("a new one"))
    clients[2].receive(message)
    assert_same(clients[2].model, server.model)
    newcomer = Client("a new one")
    newcomer.receive(server.broadcast(newcomer.name))
    assert_same(newcomer.model, server.model)
    play(task, server, [*clients[:2], clients[2]])


@pytest.mark.parametrize("temporal", [False, True])
def test_a_long_way_starts_anew_with_the_plain_model(temporal: bool) -> None:
    config = FederatedConfig(carried=0.9, temporal=temporal)
    task, server, clients = start(config=config)
    seen = set()
    for number in range(30):
        play(task, server, clients, chosen=[0, 1] if number % 7 else [0, 1, 2])
        whole = server.broadcast("nobody")
        seen.add(len(whole) > 2000)
        assert len(whole) < 3 * server.layout.float_bytes + 1000
        newcomer = Client("nobody")
        newcomer.receive(whole)
        assert_same(newcomer.model, server.model)
    assert server._versions.first_version > 0
    for client in clients:
        client.receive(server.broadcast(client.name))
        assert_same(client.model, server.model)


def test_what_is_left_out_is_carried_later() -> None:
    config = FederatedConfig(carried=0.3, memory=1.0)
    client = Client("a", config)
    server = Server(first_model(), FederatedConfig(carried=0.9999))
    wanted = np.random.default_rng(0).laplace(0, 1, (OUTPUTS, 24)).astype(np.float32)
    model = client.receive(server.broadcast("a"))
    model["fc.weight"] += wanted
    errors = []
    for _ in range(12):
        server.collect(client.send(model, samples=1), "a")
        server.aggregate()
        errors.append(float(np.square(server.wanted["fc.weight"] - wanted).sum()))
        model = client.receive(server.broadcast("a"))  # not trained any further
    assert errors[0] > 0.5 * np.square(wanted).sum()
    assert errors[-1] < 0.05 * np.square(wanted).sum()
    forgetful = Client("b", FederatedConfig(carried=0.3, accumulate=False))
    model = forgetful.receive(server.broadcast("b"))
    model["fc.weight"] += wanted
    forgetful.send(model, samples=1)
    server.aggregate()
    forgetful.receive(server.broadcast("b"))
    assert not forgetful.accumulator.residuals


def test_a_share_of_what_is_left_out_is_forgotten() -> None:
    wanted = np.random.default_rng(0).laplace(0, 1, (OUTPUTS, 24)).astype(np.float32)
    owed = {}
    for memory in (1.0, 0.5, 0.0):
        client, server = Client("a", FederatedConfig(carried=0.3, memory=memory)), Server(first_model())
        model = client.receive(server.broadcast("a"))
        model["fc.weight"] += wanted
        client.send(model, samples=1)
        client.receive(server.broadcast("a"))  # the upload got lost
        assert np.array_equal(client.accumulator.residuals["fc.weight"], model["fc.weight"] - client.model["fc.weight"])
        server.accept(client.send(model, samples=1), "a")
        server.aggregate()
        client.receive(server.broadcast("a"))
        owed[memory] = client.accumulator.residuals
    assert np.array_equal(owed[0.5]["fc.weight"], owed[1.0]["fc.weight"] / 2)
    assert not owed[0.0]


@pytest.mark.parametrize("rows", [range(600), range(0, 600, 97), [3], [0, *range(1, 600, 30)]])
def test_a_sample_finds_about_the_step_that_all_values_find(
    rows: Iterable[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where few rows change, which the sample may miss, or not at all like the others."""
    random = np.random.default_rng(0)
    held = {"w": np.zeros((600, 512), np.float32)}
    change = np.zeros_like(held["w"])
    for row in rows:
        change[row] = random.laplace(0, 1 + 99 * (row == 3), 512)
    layout, config = Layout(held), FederatedConfig(size=0.01)
    found = {}
    for sample in (coding._SAMPLED_VALUES, 1 << 30):
        monkeypatch.setattr(coding, "_SAMPLED_VALUES", sample)
        coded = coding.encode_change(layout, {"w": change}, held, config)
        carried = 1 - float(np.square(change - coded.changes["w"]).sum() / np.square(change).sum())
        found[sample] = carried
        assert len(coded.data) < config.size * layout.float_bytes + 200 or carried < 2 * config.carried
        assert carried > config.carried
    sampled, searched = found.values()
    assert sampled == pytest.approx(searched, rel=0.3)


def test_types_of_all_widths() -> None:
    generator = np.random.default_rng(0)
    model = {
        "half": generator.normal(0, 1, (8, 8)).astype(np.float16),
        "brain": generator.normal(0, 1, (8, 8)).astype(ml_dtypes.bfloat16),
        "double": generator.normal(0, 1, (8, 8)),
        "wide": np.array([2**40, -(2**50), 7], np.int64),
        "unsigned": np.array([2**64 - 1, 5], np.uint64),
        "word": np.array([2**32 - 1, 0], np.uint32),
        "byte": np.array([0, 255], np.uint8),
    }
    server, client = Server(model), Client("a")
    got = client.receive(server.broadcast("a"))
    got["wide"] += np.array([2**45, -3, 1])
    got["unsigned"] = np.array([4, 2**63], np.uint64)
    got["word"] = np.array([1, 2**31], np.uint32)
    got["byte"] = np.array([255, 0], np.uint8)
    assert server.collect(client.send(got, samples=1), "a") is None
    server.aggregate()
    client.receive(server.broadcast("a"))
    assert_same(client.model, server.model)
    for name in ("wide", "unsigned", "word", "byte"):
        assert np.array_equal(server.model[name], got[name])
        assert server.model[name].dtype == model[name].dtype


def test_server_and_clients_go_on_from_files(tmp_path: Path) -> None:
    task, server, clients = start(config=FederatedConfig(carried=0.5, temporal=True))
    twin_task, twin, twins = start(config=FederatedConfig(carried=0.5, temporal=True))
    twin._versions.session = server._versions.session
    for number in range(6):
        play(task, server, clients)
        play(twin_task, twin, twins)
        if number == 2:
            server.save(tmp_path / "server")
            server = Server.load(tmp_path / "server")
            for client in clients:
                client.save(tmp_path / client.name)
            clients = [Client.load(tmp_path / client.name) for client in clients]
    assert_same(server.model, twin.model)
    assert_same(server.wanted, twin.wanted)
    assert server.broadcast(clients[0].name) == twin.broadcast(clients[0].name)
    (tmp_path / "server").write_bytes((tmp_path / "server").read_bytes()[:-100])
    with pytest.raises(InvalidBitstream):
        Server.load(tmp_path / "server")
    with pytest.raises(InvalidBitstream):
        Client.from_bytes(b"nothing")


def test_a_scalar_that_is_owed_can_be_saved() -> None:
    client, server = Client("a"), Server({"w": np.zeros((8, 8), np.float32), "scale": np.array(1, np.float32)})
    for _ in range(2):
        model = client.receive(server.broadcast("a"))
        model["scale"] = model["scale"] + np.float32(0.3)
        server.accept(client.send(model, samples=1), "a")
        server.aggregate()
    assert isinstance(client.accumulator.residuals["scale"], np.ndarray)
    again = Client.from_bytes(client.to_bytes())
    assert_same(again.receive(server.broadcast("a")), client.receive(server.broadcast("a")))


def test_models_that_do_not_fit() -> None:
    _, server, (client, *_) = start(1)
    with pytest.raises(BaseMismatch, match="no model yet"):
        client.send(first_model(), samples=1)
    model = client.receive(server.broadcast(client.name))
    with pytest.raises(InvalidConfig):
        client.send(model, samples=0)
    for change, message in (
        ({"fc.bias": np.zeros(3, np.float32)}, "fc.bias"),
        ({"fc.bias": np.full(OUTPUTS, np.nan, np.float32)}, "infinite or undefined"),
        ({"new": np.zeros(3, np.float32)}, "not in the model"),
    ):
        with pytest.raises(InvalidModel, match=message):
            client.send({**model, **change}, samples=1)
    with pytest.raises(InvalidModel, match="missing"):
        client.send({"fc.bias": model["fc.bias"]}, samples=1)
    with pytest.raises(InvalidModel, match="no tensors"):
        Server({})
    with pytest.raises(InvalidConfig):
        Client("")


def test_a_model_aggregated_elsewhere() -> None:
    task, server, clients = start()
    model = clients[0].receive(server.broadcast(clients[0].name))
    server.accept(clients[0].send(task.train(model, 0), samples=SAMPLES), clients[0].name)
    wanted = server.trained(clients[0].name)
    assert server.advance(wanted) == 1
    assert server.finish().version == 1
    assert_same(server.wanted, wanted)
    clients[0].receive(server.broadcast(clients[0].name))
    assert_same(clients[0].model, server.model)


def test_settings() -> None:
    config = FederatedConfig(carried=0.2, sparsification=Sparsification(keep=0.5))
    assert FederatedConfig.from_dict(config.to_dict()) == config
    for wrong in ({"carried": 0}, {"effort": 12}, {"unknown": 1}, {"model_qp": 0.5}, {"sparsification": {"keep": 2}}):
        with pytest.raises(InvalidConfig):
            FederatedConfig.from_dict(wrong)


@pytest.mark.parametrize("pull", [0.1, 0.5, 0.9])
def test_coarse_updates_converge_however_long_clients_train(pull: float) -> None:
    """Adding what is owed to the next update instead diverges here: it is learned once more before it arrives."""
    random = np.random.default_rng(0)
    wanted = random.laplace(0, 1, (48, 48)).astype(np.float32)
    own = [wanted + random.normal(0, 0.3, wanted.shape).astype(np.float32) for _ in range(4)]
    config = FederatedConfig(carried=0.3, memory=0.75)
    server, clients = Server({"w": np.zeros_like(wanted)}, config), [Client(str(i), config) for i in range(4)]
    errors = []
    for _ in range(30):
        for client, goal in zip(clients, own, strict=True):
            model = client.receive(server.broadcast(client.name))
            model["w"] += np.float32(pull) * (goal - model["w"])
            assert server.collect(client.send(model, samples=1), client.name) is None
        server.aggregate()
        errors.append(float(np.square(server.model["w"] - np.mean(own, 0)).mean() / np.square(wanted).mean()))
    assert max(errors) < 1.05
    assert max(errors[-5:]) < 0.2
