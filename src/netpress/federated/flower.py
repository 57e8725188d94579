"""Flower apps with small messages: a mod for the clients and a wrapper for the strategy of the server.

Two lines of an app change::

    app = ClientApp(mods=[netpress.federated.flower.client_mod])  # in the client
    strategy = netpress.federated.flower.Compressed(FedAvg())  # in the server

Strategy and client code see the arrays that they always saw. Needs ``netpress[flower]``.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidConfig, InvalidModel, NetpressError
from netpress.federated.client import Client
from netpress.federated.config import FederatedConfig
from netpress.federated.server import RoundReport, Server

try:
    from flwr.app import (
        Array,
        ArrayRecord,
        ConfigRecord,
        Context,
        Error,
        Message,
        MessageType,
        MetricRecord,
        RecordDict,
    )
    from flwr.serverapp import Grid
    from flwr.serverapp.strategy import Strategy
except ImportError as error:
    raise ImportError("netpress.federated.flower needs Flower; install netpress[flower]") from error

__all__ = ["Compressed", "CompressedGrid", "client_mod", "make_client_mod"]

Model = dict[str, npt.NDArray[Any]]
Next = Callable[[Message, Context], Message]

_RECORD = "netpress"
_LACKS = "lacks"
_WEIGHT = "num-examples"
_BROKEN_UPDATE = 1001
_log = logging.getLogger("netpress.federated")


def make_client_mod(config: FederatedConfig | None = None) -> Callable[[Message, Context, Next], Message]:
    """Return a mod for ``ClientApp(mods=[...])`` with settings of its own; :data:`client_mod` has the defaults.

    It should be the first in the list, so that other mods see arrays. The state of a client stays in the context of
    its node.
    """

    def mod(message: Message, context: Context, call_next: Next) -> Message:
        if not message.has_content() or _RECORD not in message.content:
            return call_next(message, context)
        clients = {}
        for key, data in message.content.pop(_RECORD).items():
            client = _stored_client(context, key, str(message.metadata.dst_node_id), config)
            try:
                start = client.receive(data)
                # What is evaluated is the model of the server, what is trained has what this client owes.
                is_training = message.metadata.message_type.startswith(MessageType.TRAIN)
                message.content[key] = _array_record(start if is_training else client.model)
            except NetpressError as problem:
                _log.warning("the broadcast of %r was not taken, all of it is asked for: %s", key, problem)
                client.reset()
                _store_client(context, key, client)
                lacking = RecordDict({_RECORD: ConfigRecord({_LACKS: key})})
                return Message(lacking, reply_to=message)
            _store_client(context, key, client)
            clients[key] = client
        reply = call_next(message, context)
        if reply.has_content():
            _compress_reply(reply.content, clients)
            for key, client in clients.items():
                _store_client(context, key, client)
        return reply

    return mod


client_mod = make_client_mod()
"""The mod with the default settings."""


def _compress_reply(content: RecordDict, clients: dict[str, Client]) -> None:
    """Put uploads in the place of array records that hold a trained model."""
    uploads = {}
    for key, client in clients.items():
        if key in content.array_records:
            # A model of other tensors than the one received, or with NaN, is the app's own matter: it goes as it is.
            try:
                uploads[key] = client.send(_model(content[key]), samples=_weight(content))
            except InvalidModel as problem:
                _log.warning("the reply %r is sent without compression: %s", key, problem)
                continue
            del content[key]
    if uploads:
        content[_RECORD] = ConfigRecord(uploads)


def _weight(content: RecordDict) -> float:
    """Return what the reply says about its weight; strategies read it themselves."""
    for metrics in content.metric_records.values():
        value = metrics.get(_WEIGHT)
        if isinstance(value, (int, float)) and 0 < value < 1e9:
            return float(value)
    return 1.0


def _stored_client(context: Context, key: str, name: str, config: FederatedConfig | None) -> Client:
    record = context.state.get(f"{_RECORD}.{key}")
    if record is None:
        return Client(name, config)
    client = Client.from_bytes(record["state"])
    client.config = config or FederatedConfig()
    return client


def _store_client(context: Context, key: str, client: Client) -> None:
    context.state[f"{_RECORD}.{key}"] = ConfigRecord({"state": client.to_bytes()})


def _model(arrays: ArrayRecord) -> Model:
    return {str(name): np.asarray(array.numpy()) for name, array in arrays.items()}


def _array_record(model: Model) -> ArrayRecord:
    return ArrayRecord(array_dict={name: Array(value) for name, value in model.items()})


class CompressedGrid(Grid):
    """A grid that compresses what :meth:`send_and_receive` carries; everything else goes to the grid inside.

    Array records that are the same for all receivers travel as updates; the strategy gets the replies as if the clients
    had trained the very model that it sent. What the coding of a broadcast left out is made good by the next one.

    Attributes:
        reports: what each call of :meth:`send_and_receive` carried, by record, in order.

    Args:
        grid: the grid that Flower gave to the app.
        config: settings of the broadcasts; None for the defaults.
    """

    def __init__(self, grid: Grid, config: FederatedConfig | None = None) -> None:
        self._grid = grid
        self._config = config
        self._servers: dict[str, Server] = {}
        self.reports: list[RoundReport] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)

    @property
    def run(self) -> Any:
        """See the grid inside."""
        return self._grid.run

    def set_run(self, run: Any) -> None:
        """See the grid inside."""
        self._grid.set_run(run)

    def create_message(self, *args: Any, **options: Any) -> Message:
        """See the grid inside."""
        return self._grid.create_message(*args, **options)

    def get_node_ids(self) -> Iterable[int]:
        """See the grid inside."""
        ids: Iterable[int] = self._grid.get_node_ids()
        return ids

    def get_nodes(self) -> Iterable[Any]:
        """See the grid inside."""
        nodes: Iterable[Any] = self._grid.get_nodes()
        return nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See the grid inside; these messages are not compressed."""
        ids: Iterable[str] = self._grid.push_messages(messages)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See the grid inside; these messages are not compressed."""
        messages: Iterable[Message] = self._grid.pull_messages(message_ids)
        return messages

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Send messages and wait for the replies; see Flower's Grid."""
        end = None if timeout is None else time.monotonic() + timeout
        plain = list(messages)
        keys = self._prepare(plain)
        by_node = {message.metadata.dst_node_id: message for message in plain}
        replies = list(self._grid.send_and_receive([self._outgoing(m, keys) for m in plain], timeout=timeout))
        lacking = [reply for reply in replies if _lacks(reply)]
        if lacking:
            replies = [reply for reply in replies if not _lacks(reply)]
            again = [by_node[reply.metadata.src_node_id] for reply in lacking if reply.metadata.src_node_id in by_node]
            left = None if end is None else max(0.0, end - time.monotonic())
            whole = [self._outgoing(message, keys, full=True) for message in again]
            replies += [r for r in self._grid.send_and_receive(whole, timeout=left) if not _lacks(r)]
        replies = [self._incoming(reply, by_node) for reply in replies]
        for key in keys:
            report = self._servers[key].finish()
            self.reports.append(report)
            _log.info("%s", _describe(key, report))
        return replies

    def _prepare(self, messages: list[Message]) -> list[str]:
        """Make the next version of each record that is the same for all; return the keys of those records."""
        found: dict[str, list[ArrayRecord]] = {}
        for message in messages:
            for key, record in message.content.array_records.items():
                found.setdefault(key, []).append(record)
        keys = []
        for key, records in found.items():
            if len(records) != len(messages) or any(_differ(record, records[0]) for record in records):
                _log.warning("record %r is not the same for all clients: it is sent without compression", key)
                continue
            try:
                self._advance(key, _model(records[0]))
            except NetpressError as problem:
                _log.warning("record %r is sent without compression: %s", key, problem)
                continue
            keys.append(key)
        return keys

    def _advance(self, key: str, model: Model) -> None:
        server = self._servers.get(key)
        if server is None or {n: v.shape for n, v in model.items()} != server.layout.shapes:
            self._servers[key] = Server(model, self._config)
            return
        # Means of integers come back from strategies as floats.
        typed = {name: _as_type(model[name], dtype) for name, dtype in server.layout.dtypes.items()}
        if any(not np.array_equal(typed[name], value) for name, value in server.wanted.items()):
            server.advance(typed)

    def _outgoing(self, message: Message, keys: list[str], *, full: bool = False) -> Message:
        if not keys:
            return message
        node = message.metadata.dst_node_id
        records = {name: record for name, record in message.content.items() if name not in keys}
        updates = {key: self._servers[key].broadcast(str(node), full=full) for key in keys}
        return Message(
            content=RecordDict({**records, _RECORD: ConfigRecord(updates)}),
            dst_node_id=node,
            message_type=message.metadata.message_type,
            ttl=message.metadata.ttl,
            group_id=message.metadata.group_id,
        )

    def _incoming(self, reply: Message, sent: dict[int, Message]) -> Message:
        """Put the trained model in the place of an upload; a broken one becomes an error, which strategies know."""
        if not reply.has_content() or _RECORD not in reply.content:
            return reply
        node = reply.metadata.src_node_id
        for key, data in reply.content.pop(_RECORD).items():
            server = self._servers.get(key)
            problem = (
                InvalidConfig(f"record {key!r} was not sent") if server is None else server.collect(data, str(node))
            )
            if server is None or problem is not None:
                return Message(Error(code=_BROKEN_UPDATE, reason=str(problem)), reply_to=sent[node])
            reply.content[key] = _array_record(server.trained(str(node)))
        return reply


def _lacks(reply: Message) -> bool:
    return bool(reply.has_content() and _RECORD in reply.content and _LACKS in reply.content[_RECORD])


def _as_type(value: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    rounds = dtype.kind in "biu" and value.dtype.kind == "f"
    return np.asarray(np.rint(value) if rounds else value).astype(dtype)


def _differ(one: ArrayRecord, other: ArrayRecord) -> bool:
    return one is not other and one.object_id != other.object_id


def _describe(key: str, report: RoundReport) -> str:
    facts = {
        "sent": report.sent_bytes,
        "received": report.received_bytes,
        "saved": round(report.saved, 4),
        "dropped": sorted(report.dropped),
    }
    return f"{key}: {json.dumps(facts)}"


class Compressed(Strategy):
    """Any strategy of Flower, with its messages compressed.

    Attributes:
        strategy: the strategy inside.
        grid: the grid of the last :meth:`start`, whose ``reports`` tell what was sent; None before.

    Args:
        strategy: decides and aggregates as always.
        config: settings of the broadcasts; None for the defaults.
    """

    def __init__(self, strategy: Strategy, config: FederatedConfig | None = None) -> None:
        self.strategy = strategy
        self.grid: CompressedGrid | None = None
        self._config = config

    def __getattr__(self, name: str) -> Any:
        return getattr(self.strategy, name)

    def start(self, grid: Grid, *args: Any, **options: Any) -> Any:
        """Run the strategy inside over a grid that compresses; see Flower's Strategy."""
        self.grid = CompressedGrid(grid, self._config)
        return self.strategy.start(self.grid, *args, **options)

    def configure_train(self, *args: Any, **options: Any) -> Iterable[Message]:
        """See the strategy inside."""
        messages: Iterable[Message] = self.strategy.configure_train(*args, **options)
        return messages

    def aggregate_train(self, *args: Any, **options: Any) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """See the strategy inside."""
        result: tuple[ArrayRecord | None, MetricRecord | None] = self.strategy.aggregate_train(*args, **options)
        return result

    def configure_evaluate(self, *args: Any, **options: Any) -> Iterable[Message]:
        """See the strategy inside."""
        messages: Iterable[Message] = self.strategy.configure_evaluate(*args, **options)
        return messages

    def aggregate_evaluate(self, *args: Any, **options: Any) -> MetricRecord | None:
        """See the strategy inside."""
        return self.strategy.aggregate_evaluate(*args, **options)

    def summary(self) -> None:
        """See the strategy inside."""
        self.strategy.summary()
