"""The client: local steps of the benchmark's problem, which comes with the message."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from federated_problems import Run, Settings
from netpress.federated.flower import make_client_mod


@functools.lru_cache(maxsize=1)
def run_of(settings: str) -> Run:
    """Return the run for settings as JSON."""
    torch.set_num_threads(1)
    return Run(Settings(**json.loads(settings)))


def mod(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
    """Compress with the settings of the run."""
    return make_client_mod(run_of(message.content["config"]["settings"]).config)(message, context, call_next)


app = ClientApp(mods=[mod])


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train the model of the server on the data of this client."""
    config = message.content["config"]
    run, client = run_of(config["settings"]), int(context.node_config["partition-id"])
    model = {name: array.numpy() for name, array in message.content["arrays"].items()}
    trained = run.train(model, client, int(config["server-round"]) - 1)
    arrays = ArrayRecord({name: torch.from_numpy(value) for name, value in trained.items()})
    metrics = MetricRecord({"num-examples": len(run.rows[client])})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
