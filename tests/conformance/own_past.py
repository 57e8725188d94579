"""Streams that a version of netpress wrote: how they are read, and the values that they gave then.

``tests/golden/own/<version>/<case>`` holds what was written, and ``config.json`` with its kind, the settings, what the
headers say (``facts``) and the tensors that it decodes to (``tensors``), whose values are in ``values.npz``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import netpress
from netpress.federated import Client, Server

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "own"
FOLDERS = {f"{path.parts[-3]}/{path.parts[-2]}": path.parent for path in sorted(GOLDEN.glob("*/*/config.json"))}

Array = np.ndarray[Any, Any]
Model = dict[str, Array]
Config = Mapping[str, Any]
Given = Iterator[tuple[str, str, Model]]
"""What is decoded, the way there, and the model. Every way to the same thing has to give the same bits."""


def read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def decoded(folder: Path, config: Config) -> Given:
    """Decode a case in all ways that the public API has for it."""
    return KINDS[config["kind"]](folder, config)


def facts(folder: Path, config: Config) -> dict[str, Any]:
    """What a case says about itself without its values."""
    if config["kind"] == "chain":
        log = netpress.UpdateChain.open(folder / "chain").log()
        return {"log": [[link.version, link.file, link.is_update, link.changed, link.message] for link in log]}
    return {path.name: _headers(path) for path in sorted(folder.glob("*.nnc"))}


def _headers(path: Path) -> dict[str, Any]:
    with netpress.open(path) as stream:
        info = stream.info()
        said = [[element.name, element.value] for element in stream.trace() if element.unit == 1 and element.value]
    return {
        "profile": info.profile,
        "parameter_set": said,
        "tensors": [[tensor.name, tensor.kind, tensor.qp, list(tensor.tools)] for tensor in info.tensors],
        "recipe": info.recipe,
        "rebuilt": list(info.rebuilt),
    }


def _stream(folder: Path, config: Config) -> Given:
    path = folder / "stream.nnc"
    yield "values", "decode", netpress.decode(path.read_bytes())
    yield "values", "load", netpress.load(path)
    with netpress.open(path) as stream:
        yield "values", "open", dict(stream.items())
    if config.get("reconstructed"):
        yield "reconstructed", "decode", netpress.decode(path.read_bytes(), reconstruct=True)
        yield "reconstructed", "load", netpress.load(path, reconstruct=True)


def _update(folder: Path, config: Config) -> Given:
    """An update, and the model that it builds on."""
    path = folder / "stream.nnc"
    base = netpress.decode((folder / "base.nnc").read_bytes())
    yield "values", "decode", netpress.decode(path.read_bytes(), base=base)
    yield "values", "load", netpress.load(path, base=base)
    with netpress.open(path, base=base) as stream:
        yield "values", "open", {name: stream[name] for name in stream}
    yield "differences", "decode without the base", netpress.decode(path.read_bytes())


def _sequence(folder: Path, config: Config) -> Given:
    """Streams for one decoder, in order."""
    decoder = netpress.Decoder()
    for path in sorted(folder.glob("*.nnc")):
        yield path.stem, "Decoder", decoder.decode(path.read_bytes())


def _chain(folder: Path, config: Config) -> Given:
    chain = netpress.UpdateChain.open(folder / "chain")
    if spare := chain.verify():
        raise AssertionError(f"files without a link: {spare}")
    before: Model = {}
    for link in chain.log():
        what = f"version {link.version}"
        yield what, "load", chain.load(link.version)
        base = before if link.is_update else None
        before = netpress.decode(chain.update(link.version), base=base)
        yield what, "update and the version before", before
        if not link.is_update:
            yield what, "export", netpress.decode(chain.export(link.version))


def _federated(folder: Path, config: Config) -> Given:
    """Messages of several rounds, and the state of both ends that was stored between them."""
    clients: dict[str, Client] = {}
    for number, play in enumerate(config["rounds"], 1):
        server = Server.load(folder / play["server"])
        yield f"round {number}", "server", server.model
        for name, file in play["broadcasts"].items():
            message = (folder / file).read_bytes()
            client = clients.setdefault(name, Client(name))
            client.receive(message)  # what it does beyond taking the model needs what it sent
            yield f"round {number}", f"client {name}", client.model
            if name in play["clients"]:
                stored = Client.load(folder / play["clients"][name])
                yield f"round {number}, start of {name}", "receive", stored.receive(message)
                yield f"round {number}", f"stored client {name}", stored.model
        for name, file in play["uploads"].items():
            yield f"round {number}, change of {name}", "accept", server.accept((folder / file).read_bytes(), name)


KINDS = {"stream": _stream, "update": _update, "sequence": _sequence, "chain": _chain, "federated": _federated}


def store(models: Mapping[str, Model], path: Path) -> dict[str, list[list[Any]]]:
    """Write the values of models, and return what the configuration says about them."""
    content, listed = {}, {}
    for what, model in models.items():
        listed[what] = [[name, value.dtype.name, list(value.shape)] for name, value in model.items()]
        for i, value in enumerate(model.values()):
            # Types that are not NumPy's own are stored as the bits that they are.
            own = value.dtype.kind in "biuf" and value.dtype.isbuiltin == 1
            content[f"{what}/{i}"] = value if own else value.view(f"u{value.dtype.itemsize}")
    np.savez_compressed(path, **content)
    return listed


def stored(folder: Path, config: Config) -> dict[str, Model]:
    """Inverse of :func:`store`."""
    models: dict[str, Model] = {}
    with np.load(folder / "values.npz") as content:
        for what, tensors in config["tensors"].items():
            models[what] = {}
            for i, (name, type_name, shape) in enumerate(tensors):
                value = content[f"{what}/{i}"]
                dtype = np.dtype(getattr(ml_dtypes, type_name, type_name))
                models[what][name] = (value if value.dtype == dtype else value.view(dtype)).reshape(shape)
    return models


def difference(given: Model, wanted: Model, products: frozenset[str] = frozenset()) -> str | None:
    """Say how a model differs from the one that is stored, or None if all bits are the same.

    ``products`` names weights that are the product of two decoded factors: the order in which a library of linear
    algebra sums differs from machine to machine, and so do their last bits.
    """
    if list(given) != list(wanted):
        return f"it has the tensors {list(given)}, not {list(wanted)}"
    for name, value in wanted.items():
        other = given[name]
        if not isinstance(other, np.ndarray) or (other.dtype, other.shape) != (value.dtype, value.shape):
            kind = getattr(other, "dtype", type(other))
            return f"{name!r} is {kind} of {np.shape(other)}, not {value.dtype} of {value.shape}"
        if name in products:
            if np.abs(other - value).max() > 1e-5 * np.abs(value).max():
                return f"{name!r} is another product"
        elif other.tobytes() != value.tobytes():
            bits = [np.frombuffer(x.tobytes(), f"V{x.dtype.itemsize}") for x in (other, value)]
            return f"{name!r} has other bits in {np.count_nonzero(bits[0] != bits[1])} of {value.size} values"
    return None
