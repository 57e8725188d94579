"""netpress encode --check: the network of a task, with the weights of a file, on some inputs."""

from __future__ import annotations

from typing import Any

import typer

import netpress
from netpress.cli.inputs import load_model
from netpress.cli.recipes import load_task
from netpress.compare import network_with
from netpress.formats import open_source

__all__ = ["checked_stream"]


def checked_stream(
    model: str, inputs: str, task: str | None, data: str | None, **options: Any
) -> netpress.CheckedStream:
    """Return the stream of a model file whose outputs on the inputs of another file were looked at.

    Args:
        model: the file with the weights.
        inputs: an .npz file: one array, or the arguments of the network by name.
        task, data: what makes the network, and the folder that it needs.
        **options: those of :func:`netpress.encode`.
    """
    if task is None:
        raise typer.BadParameter("--check runs the network, which a file of weights does not hold; name it with --task")
    network = load_task(task, data)
    if network.model is None:
        raise netpress.InvalidConfig(f"task {task!r} has no model")
    with open_source(inputs) as file:
        arrays = {name: file.load(name) for name in file.names}
    if not arrays:
        raise typer.BadParameter(f"{inputs} holds no arrays")
    batch: Any = arrays if len(arrays) > 1 else next(iter(arrays.values()))
    module = network_with(network.model(), load_model(model))
    check = netpress.Check(inputs=batch, forward=network.forward)
    stream = netpress.encode(module, options.pop("config", None), check=check, **options)
    assert isinstance(stream, netpress.CheckedStream)
    return stream
