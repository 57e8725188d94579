"""The mod and the strategy wrapper of Flower, with client apps that are called in this process."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import SAMPLES, Task, assert_same, first_model

pytest.importorskip("flwr", reason="Flower is not installed")

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAdam, FedAvg
from flwr.supercore.task_identity import TaskIdentity

from netpress.federated import FederatedConfig
from netpress.federated.flower import Compressed, CompressedGrid, client_mod, make_client_mod

Model = dict[str, np.ndarray[Any, Any]]
PLAIN_BYTES = sum(value.nbytes for value in first_model().values())


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Flower sets in the processes that it starts."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


def to_record(model: Model) -> ArrayRecord:
    from flwr.app import Array

    return ArrayRecord(array_dict={name: Array(value) for name, value in model.items()})


def to_model(record: ArrayRecord) -> Model:
    return {name: value.numpy() for name, value in record.items()}


class Nodes(Grid):
    """A grid whose nodes live here. Messages go through Flower's serialisation, as over a wire."""

    def __init__(self, app: ClientApp, count: int) -> None:
        self.app = app
        self.contexts = {
            node: Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
            for node in range(1, count + 1)
        }
        self.sizes: list[int] = []
        self.broken: dict[int, Any] = {}

    run = property(lambda self: None)

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    def create_message(self, *args: Any, **options: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return ["pushed" for _ in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            arrived = self._carried(message, node)
            reply = self.app(arrived, self.contexts[node])
            reply = self._carried(reply, node)
            if node in self.broken:
                reply = self.broken[node](reply)
            if reply is not None:
                replies.append(reply)
        return replies

    def _carried(self, message: Message, node: int) -> Message:
        from flwr.common.serde import recorddict_from_proto, recorddict_to_proto

        wire = recorddict_to_proto(message.content).SerializeToString()
        self.sizes.append(len(wire))
        proto = recorddict_to_proto(message.content)
        message.content = recorddict_from_proto(proto)
        return message


TASK = Task(3)


def make_app(mods: list[Any]) -> ClientApp:
    app = ClientApp(mods=mods)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        model = TASK.train({n: v.copy() for n, v in to_model(message.content["arrays"]).items()}, context.node_id - 1)
        metrics = MetricRecord({"num-examples": SAMPLES})
        return Message(RecordDict({"arrays": to_record(model), "metrics": metrics}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        error = TASK.error(to_model(message.content["arrays"]))
        metrics = MetricRecord({"error": error, "num-examples": SAMPLES})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return app


def run(strategy: Any, nodes: Nodes, rounds: int) -> Any:
    return strategy.start(nodes, to_record(first_model()), num_rounds=rounds)


@pytest.mark.parametrize("kind", [FedAvg, FedAdam])
def test_any_strategy_learns_with_small_messages(kind: Any) -> None:
    options = {"min_train_nodes": 3, "min_available_nodes": 3, "min_evaluate_nodes": 3}
    if kind is FedAdam:
        options |= {"eta": 0.2, "tau": 0.1}
    plain = Nodes(make_app([]), 3)
    expected = run(kind(**options), plain, 8)
    nodes = Nodes(make_app([make_client_mod(FederatedConfig(carried=0.8))]), 3)
    strategy = Compressed(kind(**options), FederatedConfig(carried=0.8))
    result = run(strategy, nodes, 8)
    errors = [TASK.error(to_model(r.arrays)) for r in (expected, result)]
    assert errors[1] < 0.3 + 1.5 * errors[0]
    assert sum(nodes.sizes) < 0.6 * sum(plain.sizes)
    assert strategy.grid is not None
    assert len(strategy.grid.reports) == 16  # training and evaluation
    assert sum(report.sent_bytes + report.received_bytes for report in strategy.grid.reports) < sum(nodes.sizes)
    # The state of the nodes is what the server holds, to the last bit.
    held = strategy.grid._servers["arrays"].model
    from netpress.federated import Client

    for context in nodes.contexts.values():
        assert_same(Client.from_bytes(context.state["netpress.arrays"]["state"]).model, held)
    assert held["bn.num_batches_tracked"].dtype == np.int64


def test_a_node_that_lost_its_state_gets_the_whole_model() -> None:
    nodes = Nodes(make_app([client_mod]), 3)
    grid = CompressedGrid(nodes)
    strategy = FedAvg(min_train_nodes=3, min_available_nodes=3, fraction_evaluate=0.0)
    result = strategy.start(grid, to_record(first_model()), num_rounds=2)
    nodes.contexts[2].state = RecordDict()
    before = len(nodes.sizes)
    result = strategy.start(grid, result.arrays, num_rounds=1)
    assert len(nodes.sizes) - before == 8  # three messages, three replies, and one more of each
    assert grid.reports[-1].samples.keys() == {"1", "2", "3"}
    assert TASK.error(to_model(result.arrays)) < 1


def test_a_broken_client_is_an_error_for_the_strategy(caplog: pytest.LogCaptureFixture) -> None:
    nodes = Nodes(make_app([client_mod]), 3)

    def truncate(reply: Message) -> Message:
        data = reply.content["netpress"]["arrays"]
        reply.content["netpress"] = ConfigRecord({"arrays": data[: len(data) // 2]})
        return reply

    nodes.broken = {1: truncate, 2: lambda reply: None}  # the other one vanishes
    strategy = Compressed(FedAvg(min_train_nodes=3, min_available_nodes=3, fraction_evaluate=0.0))
    with caplog.at_level("WARNING", "netpress.federated"):
        result = run(strategy, nodes, 1)
    assert "update of client '1' dropped" in caplog.text
    report = strategy.grid.reports[0]
    assert report.samples.keys() == {"3"}
    assert report.dropped.keys() == {"1"}
    assert TASK.error(to_model(result.arrays)) < 1
    nodes.broken = {}
    result = strategy.strategy.start(strategy.grid, result.arrays, num_rounds=1)
    assert strategy.grid.reports[1].samples.keys() == {"1", "2", "3"}


def test_clients_without_the_mod_still_take_part() -> None:
    plain, compressed = make_app([]), make_app([make_client_mod(FederatedConfig(carried=0.9))])
    nodes = Nodes(compressed, 2)
    grid = CompressedGrid(nodes)
    content = RecordDict({"arrays": to_record(first_model()), "other": ConfigRecord({"rate": 0.5})})
    messages = [Message(content, dst_node_id=node, message_type="train") for node in (1, 2)]
    replies = list(grid.send_and_receive(messages, timeout=60))
    assert all(isinstance(reply.content["arrays"], ArrayRecord) for reply in replies)
    assert "arrays" in content  # what the caller gave is as it was
    # Records that differ from client to client go as they are, and so do those without arrays.
    own = [{**first_model(), "fc.bias": np.full(16, i, np.float32)} for i in range(2)]
    messages = [
        Message(RecordDict({"arrays": to_record(own[i])}), dst_node_id=i + 1, message_type="train") for i in range(2)
    ]
    reports = len(grid.reports)
    assert len(list(grid.send_and_receive(messages))) == 2
    assert len(grid.reports) == reports
    nodes.app = plain
    assert list(grid.push_messages(messages)) == ["pushed"] * 2
    assert list(grid.get_node_ids()) == [1, 2]


def test_readme(capsys: pytest.CaptureFixture[str]) -> None:
    """The app of the README; its client gets something to train."""
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    block = next(found for found in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "Compressed" in found)
    app = make_app([client_mod])
    names: dict[str, Any] = {"first_arrays": to_record(first_model())}
    exec(block, names)
    assert isinstance(names["client"], ClientApp)
    names["main"](Nodes(app, 3), None)
    saved = re.findall(r"\d\.\d+", capsys.readouterr().out)
    assert len(saved) == 40  # training and evaluation
    assert float(saved[-2]) > 0.5
