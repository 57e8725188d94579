"""The server's end: broadcasts, checked uploads, aggregation, accounts."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.codec.update_state import UpdateState
from netpress.errors import BaseMismatch, InvalidBitstream, InvalidConfig, NetpressError
from netpress.federated.coding import decode_change
from netpress.federated.config import FederatedConfig
from netpress.federated.layout import Layout, Model, is_integer, read_arrays
from netpress.federated.message import Part, PartKind, Upload
from netpress.federated.storage import read_state, update_state_from, update_state_to, write_state
from netpress.federated.versions import Versions

__all__ = ["RoundReport", "Server"]

Array = npt.NDArray[Any]
_FORMAT = "netpress federated server"
_MOST_CHANGE = 1e15  # a model that moved this far can still be coded
_MOST_INTEGER = 2.0**62
_log = logging.getLogger("netpress.federated")


@dataclasses.dataclass(frozen=True, slots=True)
class RoundReport:
    """What happened since the aggregation before.

    Attributes:
        round: counts the rounds, from 1.
        version: that of the model after the round; it stays where no client's update was taken.
        samples: weight of each client whose update is in the model.
        dropped: why the update of a client was not taken, by its name.
        sent: bytes of the broadcasts, by client.
        received: bytes of the uploads, by client; those that were dropped too.
        broadcasts, uploads: number of messages in each direction.
        model_bytes: size of the model without compression: what a message would be.
    """

    round: int
    version: int
    samples: dict[str, float]
    dropped: dict[str, str]
    sent: dict[str, int]
    received: dict[str, int]
    broadcasts: int
    uploads: int
    model_bytes: int

    @property
    def sent_bytes(self) -> int:
        """Bytes from the server to all clients."""
        return sum(self.sent.values())

    @property
    def received_bytes(self) -> int:
        """Bytes from all clients to the server."""
        return sum(self.received.values())

    @property
    def saved(self) -> float:
        """Share of the traffic without compression that was not sent, in both directions together."""
        plain = self.model_bytes * (self.broadcasts + self.uploads)
        return 1 - (self.sent_bytes + self.received_bytes) / plain if plain else 0.0


@dataclasses.dataclass(slots=True)
class _Member:
    """What the server knows of a client: version that it certainly holds, its last upload, the state after that."""

    version: int = -1
    number: int = 0
    state: UpdateState = dataclasses.field(default_factory=UpdateState)


@dataclasses.dataclass(frozen=True, slots=True)
class _Taken:
    """An upload of this round. It counts with the aggregation: a server that is lost before has promised nothing."""

    number: int
    samples: float
    changes: Model
    state: UpdateState


@dataclasses.dataclass(slots=True)
class _Accounts:
    dropped: dict[str, str] = dataclasses.field(default_factory=dict)
    sent: dict[str, int] = dataclasses.field(default_factory=dict)
    received: dict[str, int] = dataclasses.field(default_factory=dict)
    broadcasts: int = 0
    uploads: int = 0


class Server:
    """The middle of a federation. A round is: broadcast to some clients, collect what they send, aggregate.

    Clients may join at any time, take part in some rounds only, and vanish. Messages of clients are checked against the
    model before they are decoded. Nothing here proves who sent a message: that is the matter of the transport.

    Args:
        model: the first model, in the forms that :func:`netpress.encode` takes.
        config: settings of the broadcasts; None for the defaults.

    Raises:
        InvalidModel: a tensor cannot be coded; names it.

    Example:
        >>> import numpy, netpress.federated
        >>> server = netpress.federated.Server({"w": numpy.zeros((8, 8), "f4")})
        >>> message = server.broadcast("a")
        >>> server.version, type(message).__name__
        (0, 'bytes')
    """

    def __init__(self, model: Any, config: FederatedConfig | None = None) -> None:
        self.config = config or FederatedConfig()
        self._versions = Versions(read_arrays(model), self.config)
        self._members: dict[str, _Member] = {}
        self._round = 0
        self._taken: dict[str, _Taken] = {}
        self._accounts = _Accounts()

    @property
    def version(self) -> int:
        """Version of the model: how many rounds have changed it."""
        return self._versions.version

    @property
    def model(self) -> Model:
        """A copy of the model that all clients hold after the next broadcast, bit for bit."""
        return {name: value.copy() for name, value in self._versions.held.items()}

    @property
    def wanted(self) -> Model:
        """A copy of the model without the errors of the broadcasts, which later ones make good."""
        return {name: value.copy() for name, value in self._versions.wanted.items()}

    @property
    def layout(self) -> Layout:
        """Names, shapes and types of the model."""
        return self._versions.layout

    def broadcast(self, client: str, *, full: bool = False) -> bytes:
        """Return the message that brings a client to the newest version.

        It holds the updates that the client lacks, as far as its uploads tell, or the whole model.

        Args:
            client: its name.
            full: the client has lost its model (:class:`netpress.BaseMismatch`): send everything.
        """
        member = self._members.setdefault(client, _Member())
        if full:
            member.version = -1
        message = self._versions.message(member.version, member.number).to_bytes()
        self._accounts.sent[client] = self._accounts.sent.get(client, 0) + len(message)
        self._accounts.broadcasts += 1
        return message

    def collect(self, data: bytes, client: str) -> NetpressError | None:
        """Take the upload of a client, or drop it with a line in the log.

        Args:
            data: what the client sent.
            client: its name, as the transport knows it.

        Returns:
            None, or why the upload was dropped; the round goes on without it.
        """
        try:
            self.accept(data, client)
        except NetpressError as error:
            _log.warning("round %d: update of client %r dropped: %s", self._round + 1, client, error)
            self._accounts.dropped[client] = str(error)
            return error
        return None

    def accept(self, data: bytes, client: str) -> Model:
        """Take the upload of a client; a later one of the same round takes its place.

        Returns:
            The change of every tensor: float32, or int64 for integers.

        Raises:
            InvalidBitstream: the message is truncated or damaged, or its tensors are not those of the model.
            UnsupportedBitstream: it uses syntax that is not implemented.
            LimitExceeded: it claims more than the model can have.
            BaseMismatch: it builds on another version, is a replay or a duplicate, or belongs to another client.
        """
        self._accounts.received[client] = self._accounts.received.get(client, 0) + len(data)
        self._accounts.uploads += 1
        upload = Upload.from_bytes(data)
        member = self._check(upload, client)
        state = UpdateState() if upload.is_fresh else member.state
        coded = decode_change(self.layout, upload.data, self._versions.held, state)
        for name, change in coded.changes.items():
            if not is_integer(change.dtype) and change.size and np.abs(change).max() > _MOST_CHANGE:
                raise InvalidBitstream(f"the update changes tensor {name!r} by more than {_MOST_CHANGE:g}")
        self._taken[client] = _Taken(upload.number, upload.samples, coded.changes, coded.state)
        self._accounts.dropped.pop(client, None)
        return coded.changes

    def _check(self, upload: Upload, client: str) -> _Member:
        versions = self._versions
        if upload.client != client:
            raise BaseMismatch(f"an update of client {upload.client!r} came from client {client!r}")
        member = self._members.get(client)
        if member is None or upload.session != versions.session:
            raise BaseMismatch(f"the update of client {client!r} belongs to another federation")
        if upload.number <= member.number:
            raise BaseMismatch(f"update {upload.number} of client {client!r} is a replay: it is part of the model")
        earlier = self._taken.get(client)
        if earlier is not None and upload.number <= earlier.number:
            raise BaseMismatch(f"update {upload.number} of client {client!r} is a duplicate: the round has it already")
        if upload.version != versions.version or upload.model != versions.fingerprint:
            # What the client says that it holds is believed only where it can be checked.
            raise BaseMismatch(
                f"the update of client {client!r} was made for version {upload.version} of the model, "
                f"not for version {versions.version}"
            )
        if upload.samples > self.config.largest_weight:
            raise BaseMismatch(f"client {client!r} claims {upload.samples:g} samples, which is too many")
        member.version = versions.version
        return member

    def trained(self, client: str) -> Model:
        """Return the model of a client whose upload was accepted in this round, as :meth:`aggregate` sees it.

        That is the model of the clients with its change, and with some of what the broadcast left out. It serves those
        who aggregate models elsewhere; :meth:`advance` then takes the result.

        Raises:
            KeyError: there is no such upload.
        """
        return self.layout.applied(self._versions.aim(), self._taken[client].changes)

    def aggregate(self) -> RoundReport:
        """End the round: add the weighted mean of the updates to the model and make its next version.

        Running statistics are averaged like weights; means of integers are rounded. The order in which updates came
        does not matter.
        """
        if self._taken:
            mean = _weighted_mean([self._taken[name] for name in sorted(self._taken)])
            self._versions.advance(self.layout.applied(self._versions.aim(), mean))
        return self.finish()

    def advance(self, wanted: Any) -> int:
        """Make the next version from a model that was aggregated elsewhere; :meth:`finish` then ends the round.

        Args:
            wanted: a model with the tensors of the first one, in the forms that :func:`netpress.encode` takes.

        Returns:
            The number of the version.

        Raises:
            InvalidModel: a tensor does not fit, or has infinite or undefined values; nothing has changed then.
        """
        return self._versions.advance(read_arrays(wanted))

    def finish(self) -> RoundReport:
        """Note that the uploads of the round are part of the model, which the next broadcasts tell their clients."""
        for client, taken in self._taken.items():
            member = self._members[client]
            member.number, member.state = taken.number, taken.state
        self._round += 1
        accounts, self._accounts = self._accounts, _Accounts()
        report = RoundReport(
            round=self._round,
            version=self.version,
            samples={client: self._taken[client].samples for client in sorted(self._taken)},
            dropped=accounts.dropped,
            sent=accounts.sent,
            received=accounts.received,
            broadcasts=accounts.broadcasts,
            uploads=accounts.uploads,
            model_bytes=self.layout.float_bytes,
        )
        self._taken = {}
        return report

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state after the last aggregation to a file that appears complete or not at all.

        Uploads of a round that is not aggregated are not part of it: their clients send what they carried again.
        """
        versions = self._versions
        state, arrays = update_state_to(versions.state, "down/")
        members = {}
        for i, (name, member) in enumerate(self._members.items()):
            facts, more = update_state_to(member.state, f"up{i}/")
            arrays.update(more)
            members[name] = {"version": member.version, "number": member.number, "state": facts}
        arrays.update({f"wanted/{name}": value for name, value in versions.wanted.items()})
        arrays.update({f"held/{name}": value for name, value in versions.held.items()})
        parts = [versions.first, *versions.updates]
        arrays.update({f"part/{i}": np.frombuffer(part.data, np.uint8) for i, part in enumerate(parts)})
        facts = {
            "config": self.config.to_dict(),
            "session": versions.session.hex(),
            "version": versions.version,
            "first_version": versions.first_version,
            "needs_fresh": versions.needs_fresh,
            "model": versions.fingerprint.hex(),
            "round": self._round,
            "kinds": [int(part.kind) for part in parts],
            "members": members,
            "state": state,
        }
        write_state(path, _FORMAT, facts, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Server:
        """Read what :meth:`save` wrote, and go on from there.

        Raises:
            InvalidBitstream: the file is damaged.
            OSError: the file cannot be read.
        """
        facts, arrays = read_state(path, _FORMAT)
        server = cls.__new__(cls)
        try:
            server.config = FederatedConfig.from_dict(facts["config"])
            server._versions = _versions_from(facts, arrays, server.config)
            server._round = int(facts["round"])
            server._members = {
                str(name): _Member(
                    int(member["version"]),
                    int(member["number"]),
                    update_state_from(member["state"], arrays, f"up{i}/"),
                )
                for i, (name, member) in enumerate(facts["members"].items())
            }
        except (TypeError, ValueError, LookupError, AttributeError, InvalidConfig) as error:
            raise InvalidBitstream(f"{Path(path).name}: the saved state is damaged: {error}") from None
        server._taken, server._accounts = {}, _Accounts()
        return server


def _versions_from(facts: Mapping[str, Any], arrays: Mapping[str, Array], config: FederatedConfig) -> Versions:
    versions = Versions.__new__(Versions)
    versions.config = config
    versions.session, versions.fingerprint = bytes.fromhex(facts["session"]), bytes.fromhex(facts["model"])
    versions.version, versions.first_version = int(facts["version"]), int(facts["first_version"])
    versions.needs_fresh = bool(facts["needs_fresh"])
    for field in ("wanted", "held"):
        prefix = field + "/"
        setattr(versions, field, {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)})
    versions.layout = Layout(versions.held)
    parts = [Part(PartKind(kind), arrays[f"part/{i}"].tobytes()) for i, kind in enumerate(facts["kinds"])]
    versions.first, versions.updates = parts[0], parts[1:]
    versions.state = update_state_from(facts["state"], arrays, "down/")
    return versions


def _weighted_mean(taken: list[_Taken]) -> Model:
    """Return the mean of the changes, weighted by samples."""
    total = sum(upload.samples for upload in taken)
    mean: Model = {}
    for name, first in taken[0].changes.items():
        if is_integer(first.dtype) and all(np.array_equal(upload.changes[name], first) for upload in taken):
            mean[name] = first  # as it is, even beyond what a float can hold
            continue
        weighted = sum(upload.changes[name].astype(np.float64) * (upload.samples / total) for upload in taken)
        if is_integer(first.dtype):
            weighted = np.clip(np.rint(weighted), -_MOST_INTEGER, _MOST_INTEGER)
        mean[name] = np.asarray(weighted).astype(first.dtype)
    return mean
