"""The server: Flower's FedAvg, with or without compression. It writes what it measured to a file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from federated_problems import Run, Settings
from netpress.federated.flower import Compressed

app = ServerApp()


class CountingFedAvg(FedAvg):
    """FedAvg of all clients in all rounds that counts the bytes of the arrays it sends and gets."""

    def __init__(self, clients: int) -> None:
        super().__init__(fraction_evaluate=0.0, min_train_nodes=clients, min_available_nodes=clients)
        self.clients = clients
        self.sent_by_round: list[int] = []
        self.received_by_round: list[int] = []

    def configure_train(self, *args: Any, **options: Any) -> Iterable[Message]:
        """See FedAvg."""
        messages = list(super().configure_train(*args, **options))
        self.sent_by_round.append(sum(map(array_bytes, messages)))
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
        """See FedAvg. Fails where a client is missing."""
        replies = list(replies)
        good = [reply for reply in replies if reply.has_content()]
        if len(good) != self.clients:
            raise RuntimeError(f"{len(good)} of {self.clients} clients took part in round {server_round}")
        self.received_by_round.append(sum(map(array_bytes, good)))
        return super().aggregate_train(server_round, replies)


def array_bytes(message: Message) -> int:
    """Return the bytes of the values of all arrays."""
    return sum(array.numpy().nbytes for record in message.content.array_records.values() for array in record.values())


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and write the figures."""
    options = context.run_config
    run = Run(Settings(**json.loads(str(options["settings"]))))
    torch.set_num_threads(1)
    strategy = counting = CountingFedAvg(run.settings.clients)
    if options["arm"] == "netpress":
        strategy = Compressed(counting, run.config)
    start = ArrayRecord({name: torch.from_numpy(value) for name, value in run.start.items()})
    config = ConfigRecord({"settings": str(options["settings"])})
    result = strategy.start(grid, start, num_rounds=run.settings.rounds, train_config=config)
    final = {name: array.numpy().astype(run.start[name].dtype) for name, array in result.arrays.items()}
    sent, received = counting.sent_by_round, counting.received_by_round
    figures: dict[str, Any] = {"metric": run.metric(final)}
    if options["arm"] == "netpress":
        reports = strategy.grid.reports
        sent, received = [r.sent_bytes for r in reports], [r.received_bytes for r in reports]
        figures["first_broadcast"] = next(iter(reports[0].sent.values()))
        figures.update({"sent_by_round": sent, "received_by_round": received})
    figures.update({"sent": sum(sent), "received": sum(received)})
    Path(str(options["result"])).write_text(json.dumps(figures))
