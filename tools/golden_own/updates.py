"""Updates with each kind of parent, sequences, chains and federations, without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import own_models as models

import netpress
from golden_own.case import Case
from netpress.federated import Client, FederatedConfig, Server, Sparsification

__all__ = ["CASES"]

Model = models.Model


def _moved(model: Model) -> Model:
    return models.changed(model, 200)


def _few_moved(model: Model) -> Model:
    """One tensor has changed; the others are left out."""
    new = dict(model)
    new["fc.weight"] = model["fc.weight"] + models.weights(model["fc.weight"].shape, 210, -5)
    return new


def _far_away(model: Model) -> Model:
    """All weights are others: new values are smaller than differences; one bias becomes constant."""
    new = {name: value if value.dtype != np.float32 else -value / 4 for name, value in model.items()}
    new["bn.running_var"] = model["bn.running_var"]
    new["fc.bias"] = np.full_like(model["fc.bias"], 0.25)
    return new


def _other_tensors(model: Model) -> Model:
    """A tensor is gone, one is new, one has another shape and one another type."""
    new = models.changed(model, 220)
    del new["conv.bias"]
    new["fc.weight"] = models.weights((12, 24), 230)
    new["bn.bias"] = new["bn.bias"].astype(np.float16)
    return {"first": models.weights((6, 6), 231), **new}


def _other_types(model: Model) -> Model:
    """All types have changed; integers by as much as they can."""
    new = {}
    for name, value in model.items():
        if value.dtype == np.bool_:
            new[name] = ~value
        elif value.dtype.kind in "iu":
            new[name] = value[::-1].copy()
            new[name][0] = value[0] ^ 1
        else:
            new[name] = (value.astype(np.float32) * np.float32(1.0625)).astype(value.dtype)
    return new


def _update(about: str, base: Callable[[], Model], change: Callable[[Model], Model], **options: Any) -> Case:
    """An update of a model; the base is a stream, since that is what a receiver holds."""

    def write(folder: Path) -> dict[str, Any]:
        first = netpress.encode(base(), **{k: v for k, v in options.items() if k in ("qp", "effort")})
        (folder / "base.nnc").write_bytes(first)
        held = netpress.decode(first)
        (folder / "stream.nnc").write_bytes(netpress.encode(change(held), base=held, **options))
        return {"kind": "update", "options": netpress.EncodeConfig(**options).to_dict()}

    return Case(about, write)


def _saved_update(folder: Path) -> dict[str, Any]:
    """An update in a file with checksums, with integers of the user's."""
    first = netpress.encode(models.network(), qp=-24)
    (folder / "base.nnc").write_bytes(first)
    levels = models.integers((16, 24), 7, -2, 3).astype(np.int32)
    netpress.save(
        _moved(models.network()),
        folder / "stream.nnc",
        base=netpress.decode(first),
        quantized={"fc.weight": netpress.QuantizedTensor(levels, -28)},
        qp=-24,
    )
    return {"kind": "update", "options": {"qp": -24, "checksums": True}}


def _differences(count: int) -> list[Model]:
    """Differences of rounds that resemble each other, which temporal contexts make use of."""
    common = {"a.weight": models.weights((14, 20), 240), "b.weight": models.weights((6, 3, 3, 3), 241)}
    rounds = []
    for i in range(count):
        rounds.append({n: v * np.float32(0.5) + models.weights(v.shape, 250 + i, -2) for n, v in common.items()})
    rounds[-1]["b.weight"][:] = 0  # is left out
    return rounds


def _sequence(about: str, first: bool = False, **options: Any) -> Case:
    """Differences that one encoder codes one after the other; ``first``: a whole model comes before them."""

    def write(folder: Path) -> dict[str, Any]:
        encoder = netpress.Encoder(**options)
        streams = [encoder.encode(_differences(1)[0], update=False)] if first else []
        streams += [encoder.encode(difference) for difference in _differences(4)]
        for i, data in enumerate(streams):
            (folder / f"{i}.nnc").write_bytes(data)
        return {"kind": "sequence", "options": encoder.config.to_dict()}

    return Case(about, write)


def _versions(count: int) -> list[Model]:
    versions = [models.network(3)]
    for i in range(1, count):
        versions.append(models.changed(versions[-1], 300 + 10 * i))
        versions[-1]["fc.bias"] = versions[0]["fc.bias"]  # never changes
    return versions


def _chain(folder: Path) -> dict[str, Any]:
    """Versions that build on each other, one that came from another chain, and one with settings of its own."""
    versions = _versions(5)
    chain = netpress.UpdateChain.create(folder / "chain", versions[0], qp=-28, message="the first one")
    for i, model in enumerate(versions[1:4], 1):
        chain.append(model, message=f"after {i} rounds", **({"effort": 7, "qp": -20} if i == 2 else {}))
    update = netpress.encode(versions[4], base=chain.load(), qp=-24)
    chain.apply(update, message="made elsewhere: äöü")
    return {"kind": "chain", "options": {"qp": -28}}


def _chain_of_models(folder: Path) -> dict[str, Any]:
    """A model of its own after every two streams, and one in between."""
    versions = _versions(6)
    chain = netpress.UpdateChain.create(
        folder / "chain", netpress.encode(versions[0], qp=-20), keyframe_every=2, qp=-20
    )
    for i, model in enumerate(versions[1:], 1):
        chain.append(model, keyframe=True if i == 1 else None)
    return {"kind": "chain", "options": {"qp": -20}}


def _squashed_chain(folder: Path) -> dict[str, Any]:
    """Versions between are gone, and so is the first base."""
    chain = netpress.UpdateChain.create(folder / "chain", _versions(1)[0], qp=-24)
    for model in _versions(7)[1:]:
        chain.append(model)
    chain.squash(0, 1, message="a new base")
    chain.squash(3, 5)
    for path in (folder / "chain").iterdir():
        if path.name not in {"chain.json", *(link.file for link in chain.log())}:
            path.unlink()
    return {"kind": "chain", "options": {"qp": -24}}


def _federation(about: str, config: FederatedConfig) -> Case:
    """Three clients of four rounds: one misses a round, one joins late, one has lost its model.

    The state of the server is stored before each round's uploads come in, that of a client before it takes a broadcast.
    Aggregation codes, so that it is not part of what has to stay the same; the states lead from round to round.
    """
    plan = {1: ("alice", "bob"), 2: ("alice",), 3: ("alice", "bob", "carol"), 4: ("bob", "carol")}

    def write(folder: Path) -> dict[str, Any]:
        server, clients = Server(_federated_model(), config), {n: Client(n, config) for n in ("alice", "bob", "carol")}
        rounds = []
        for number, names in plan.items():
            play: dict[str, Any] = {"server": f"{number}-server.npz", "broadcasts": {}, "clients": {}, "uploads": {}}
            uploads = {}
            for name in names:
                client = clients[name]
                if client.version >= 0 and name == "bob":
                    play["clients"][name] = f"{number}-{name}.npz"
                    client.save(folder / play["clients"][name])
                play["broadcasts"][name] = f"{number}-to-{name}.bin"
                message = server.broadcast(name, full=number == 4 and name == "carol")
                (folder / play["broadcasts"][name]).write_bytes(message)
                model = client.receive(message)
                for i, (tensor, value) in enumerate(model.items()):
                    if value.dtype == np.float32:
                        step = models.weights(value.shape, 400 + 40 * number + 10 * len(name) + i, -1)
                        model[tensor] = np.asarray(value + np.abs(step) if tensor == "bn.running_var" else value + step)
                    else:
                        model[tensor] = np.asarray(value + 3)
                play["uploads"][name] = f"{number}-from-{name}.bin"
                uploads[name] = client.send(model, samples=8.0 * len(name))
                (folder / play["uploads"][name]).write_bytes(uploads[name])
            server.save(folder / play["server"])
            for name, upload in uploads.items():
                server.accept(upload, name)
            server.aggregate()
            rounds.append(play)
        return {"kind": "federated", "options": config.to_dict(), "rounds": rounds}

    return Case(about, write)


def _federated_model() -> Model:
    return {
        "fc.weight": models.weights((10, 12), 410),
        "fc.bias": models.weights((10,), 411),
        "bn.running_var": models.positive((10,), 412),
        "bn.num_batches_tracked": np.array(0, np.int64),
    }


CASES: dict[str, Case] = {
    "update": _update("differences", models.network, _moved),
    "update-qp": _update("differences at a given step", models.network, _moved, qp=-24),
    "update-effort1": _update("differences, as fast as can be", models.network, _moved, effort=1),
    "update-effort9": _update("differences, as small as can be", models.network, _moved, effort=9, qp=-20),
    "update-uniform": _update("differences without a trellis", models.network, _moved, use_dq=False, qp=-24),
    "update-one-tensor": _update("tensors without a change are left out", models.network, _few_moved),
    "update-nothing": _update("nothing has changed", models.network, lambda model: model, qp=-30),
    "update-new-values": _update("new values instead of differences", models.network, _far_away),
    "update-new-values-qp": _update("new values at a given step", models.network, _far_away, qp=-20),
    "update-other-tensors": _update("tensors that are gone, new, or changed in kind", models.network, _other_tensors),
    "update-types": _update("every type", models.all_types, _other_types),
    "update-shapes": _update("scalars and empty tensors", models.odd_shapes, lambda model: models.changed(model, 260)),
    "update-by-size": _update("steps by size", models.network, _moved, qp=-20, allocation="size"),
    "update-device": _update("differences of one device", models.network, _moved, qp=-24, device_id=7),
    "update-block": _update(
        "a layer in one data unit",
        models.layer,
        _moved,
        qp=-24,
        blocks=(netpress.Block("fc.weight", scaling="fc.weight_scaling", bias="fc.bias"),),
    ),
    "update-saved": Case("a file with checksums, and integers of the user's", _saved_update),
    "sequence": _sequence("differences", qp=-20, differences=True),
    "sequence-tca": _sequence("temporal contexts", qp=-20, differences=True, temporal_contexts=True),
    "sequence-hdsp": _sequence("history-dependent significance", qp=-20, differences=True, history_contexts=True),
    "sequence-all": _sequence(
        "all tools of updates, with blocks of values",
        qp=-20,
        differences=True,
        temporal_contexts=True,
        history_contexts=True,
        device_id=3,
        scan_order=1,
        row_skipping=True,
        effort=9,
    ),
    "sequence-uniform": _sequence(
        "temporal contexts and codebooks", qp=-16, differences=True, temporal_contexts=True, use_dq=False, effort=8
    ),
    "sequence-model-first": _sequence(
        "a whole model, then updates", first=True, qp=-20, differences=True, temporal_contexts=True, pre_signalling=True
    ),
    "sequence-reference": _sequence(
        "the reference preset",
        **netpress.EncodeConfig.reference(qp=-20, compress_differences=True, tca=True, hdsp=True).to_dict(),
    ),
    "chain": Case("a chain", _chain),
    "chain-keyframes": Case("a chain with models of its own", _chain_of_models),
    "chain-squashed": Case("a chain that was squashed", _squashed_chain),
    "federated": _federation("default messages", FederatedConfig()),
    "federated-temporal": _federation(
        "messages with temporal contexts", FederatedConfig(temporal=True, size=0.3, carried=0.99, effort=5)
    ),
    "federated-sparse": _federation(
        "sparse messages, and a first model of coarse steps",
        FederatedConfig(
            model_qp=-20, accumulate=False, sparsification=Sparsification(deviations=0.5, share=0.5, keep=0.8, rows=0.1)
        ),
    ),
}
