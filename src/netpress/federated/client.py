"""The client's end: it holds the model of the server bit for bit, and sends what it learned."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.api import decode
from netpress.codec.difference import fingerprint
from netpress.codec.update_state import UpdateState
from netpress.errors import BaseMismatch, InvalidBitstream, InvalidConfig
from netpress.federated.accumulator import Accumulator, residuals_of
from netpress.federated.coding import CodedChange, decode_change, encode_change
from netpress.federated.config import FederatedConfig
from netpress.federated.layout import Layout, Model, read_arrays
from netpress.federated.message import Broadcast, PartKind, Upload
from netpress.federated.storage import pack_state, unpack_state, update_state_from, update_state_to
from netpress.files import atomic_writer
from netpress.limits import DecodeLimits

__all__ = ["Client"]

Array = npt.NDArray[Any]
_FORMAT = "netpress federated client"


@dataclasses.dataclass(frozen=True, slots=True)
class _Sent:
    """An upload that the server has not confirmed: what it was to carry, and the state after it."""

    number: int
    due: Model
    residuals: Model
    state: UpdateState


class Client:
    """A member of a federation: takes broadcasts, and codes what training changed.

    What an upload leaves out is kept, and the next training starts with it. So is a whole upload that the server did
    not take, which its next broadcast tells.

    Args:
        name: by which the server knows this client; up to 65535 bytes of UTF-8.
        config: settings of the uploads; None for the defaults.
        limits: bounds on what a model of the server may ask for.

    Raises:
        InvalidConfig: the name is empty or too long.

    Example:
        >>> import numpy, netpress.federated
        >>> server = netpress.federated.Server({"w": numpy.zeros((8, 8), "f4")})
        >>> client = netpress.federated.Client("a")
        >>> model = client.receive(server.broadcast("a"))
        >>> model["w"] += numpy.eye(8, dtype="f4")
        >>> server.collect(client.send(model, samples=10), "a")
        >>> server.aggregate().samples
        {'a': 10.0}
    """

    def __init__(self, name: str, config: FederatedConfig | None = None, *, limits: DecodeLimits | None = None) -> None:
        if not name or len(name.encode()) > 0xFFFF:
            raise InvalidConfig("the name of a client has 1 to 65535 bytes")
        self.name = name
        self.config = config or FederatedConfig()
        self._limits = limits
        self._number = 0
        self.reset()

    def reset(self) -> None:
        """Forget the model and all that is due; the server then has to send everything (``full=True``)."""
        self._session = b""
        self._version = -1
        self._fingerprint = b""
        self._held: Model = {}
        self._layout: Layout | None = None
        self._down = UpdateState()
        self._up = UpdateState()
        self._accumulator = Accumulator()
        self._sent: _Sent | None = None

    @property
    def version(self) -> int:
        """Version of the model that this client holds, -1 before the first broadcast."""
        return self._version

    @property
    def model(self) -> Model:
        """A copy of the model of the server that this client holds."""
        return {name: value.copy() for name, value in self._held.items()}

    @property
    def accumulator(self) -> Accumulator:
        """What the client owes the server, an upload on its way not counted."""
        return self._accumulator

    def receive(self, data: bytes) -> Model:
        """Take a broadcast and return the model to train, in arrays that the caller may change.

        That is :attr:`model`, the server's, with what this client owes. A broadcast that leads to the version that is
        held already changes nothing. After an error everything is as it was before.

        Raises:
            InvalidBitstream: the message is truncated or damaged.
            UnsupportedBitstream, LimitExceeded: as for :func:`netpress.decode`.
            BaseMismatch: it builds on a version that this client does not hold, is older than the version that it
                holds, or is of another federation; the server has to send the whole model (after :meth:`reset`).
        """
        message = Broadcast.from_bytes(data)
        self._check_base(message)
        if (message.parts and message.version > self._version) or message.session != self._session:
            held, layout, state = self._followed(message)
            if fingerprint(held) != message.model.hex():
                raise InvalidBitstream("the broadcast does not lead to the model that the server holds")
            if message.session != self._session or self._layout is None or not layout.is_like(self._layout):
                self.reset()
            self._session, self._version, self._fingerprint = message.session, message.version, message.model
            self._held, self._layout, self._down = held, layout, state
        elif self._fingerprint != message.model:
            raise BaseMismatch(
                f"version {message.version} of the server is not the one that client {self.name!r} holds"
            )
        self._settle(message.accepted)
        start = self._accumulator.add(self._held) if self.config.accumulate else self._held
        return {name: value.copy() for name, value in start.items()}

    def _check_base(self, message: Broadcast) -> None:
        if self._version < 0 or message.session != self._session:
            if message.base >= 0:
                what = "has no model yet" if self._version < 0 else "belongs to another federation"
                raise BaseMismatch(f"the broadcast builds on version {message.base}, but client {self.name!r} {what}")
            return
        if message.version < self._version:
            raise BaseMismatch(
                f"the broadcast is a replay: it leads to version {message.version}, but client {self.name!r} holds "
                f"version {self._version}"
            )
        if message.base > self._version:
            raise BaseMismatch(
                f"the broadcast builds on version {message.base}, but client {self.name!r} holds {self._version}"
            )

    def _followed(self, message: Broadcast) -> tuple[Model, Layout, UpdateState]:
        """Take the steps of a broadcast that are new here."""
        held, layout, state = self._held, self._layout, self._down
        version, is_new = message.base, False
        last = message.version
        for part in message.parts:
            if part.kind is PartKind.MODEL:
                version = last - sum(p.kind is not PartKind.MODEL for p in message.parts)
                if message.session == self._session and version <= self._version:
                    continue  # the updates after it lead on from what is held
                held = decode(part.data, limits=self._limits)
                layout, state, is_new = Layout(held), UpdateState(), True
                continue
            version += 1
            if version <= self._version and not is_new:
                continue
            if layout is None:
                raise InvalidBitstream("the broadcast has an update without a model")
            before = UpdateState() if part.kind is PartKind.FRESH_UPDATE else state
            change = decode_change(layout, part.data, held, before)
            held, state = layout.applied(held, change.changes), change.state
        if version != last or layout is None:
            raise InvalidBitstream("the parts of the broadcast do not lead to its version")
        return held, layout, state

    def _settle(self, accepted: int) -> None:
        """Learn whether the last upload was taken; what was not is due again."""
        self._number = max(self._number, accepted)  # a client that lost its state goes on counting
        if self._sent is None:
            return
        if self._sent.number <= accepted:
            self._up = self._sent.state
            self._accumulator = Accumulator(self._sent.residuals)
        elif self.config.accumulate:
            self._accumulator = Accumulator(residuals_of(self._sent.due, {}))
        self._sent = None

    def send(self, model: Any, *, samples: float) -> bytes:
        """Return the message with what training changed.

        Args:
            model: the trained model, with the tensors of the one received; any form that :func:`netpress.encode` takes.
            samples: weight of this client in the mean, above 0: usually how many samples it trained on.

        Raises:
            InvalidModel: the model has other tensors, or values that are infinite or undefined; names the tensor.
            BaseMismatch: there was no broadcast yet.
            InvalidConfig: ``samples`` is not above 0.
        """
        if self._layout is None:
            raise BaseMismatch(f"client {self.name!r} has no model yet that it could have trained")
        if not (np.isfinite(samples) and samples > 0):
            raise InvalidConfig(f"samples is {samples!r}, not a number above 0")
        new = read_arrays(model)
        self._layout.check(new)
        due = self._layout.difference(new, self._held)
        coded = encode_change(self._layout, due, self._held, self.config, self._up)
        residuals = residuals_of(due, coded.changes, self.config.memory if self.config.accumulate else 0.0)
        self._number += 1
        # A second upload of the same round takes the place of the first one, at the server too.
        self._sent = _Sent(self._number, due, residuals, coded.state)
        return self._message(coded, samples)

    def _message(self, coded: CodedChange, samples: float) -> bytes:
        return Upload(
            session=self._session,
            client=self.name,
            number=self._number,
            version=self._version,
            model=self._fingerprint,
            samples=float(samples),
            is_fresh=not self._up.levels,
            data=coded.data,
        ).to_bytes()

    def to_bytes(self) -> bytes:
        """Return all state of the client, for :meth:`from_bytes`."""
        down, arrays = update_state_to(self._down, "down/")
        up, more = update_state_to(self._up, "up/")
        arrays.update(more)
        arrays.update({f"held/{name}": value for name, value in self._held.items()})
        arrays.update({f"residual/{name}": value for name, value in self._accumulator.residuals.items()})
        facts: dict[str, Any] = {
            "name": self.name,
            "config": self.config.to_dict(),
            "session": self._session.hex(),
            "version": self._version,
            "model": self._fingerprint.hex(),
            "number": self._number,
            "down": down,
            "up": up,
            "sent": None,
        }
        if self._sent is not None:
            after, more = update_state_to(self._sent.state, "sent/")
            arrays.update(more)
            arrays.update({f"due/{name}": value for name, value in self._sent.due.items()})
            arrays.update({f"left/{name}": value for name, value in self._sent.residuals.items()})
            facts["sent"] = {"number": self._sent.number, "state": after}
        return pack_state(_FORMAT, facts, arrays)

    @classmethod
    def from_bytes(cls, data: bytes, *, limits: DecodeLimits | None = None) -> Client:
        """Make a client from what :meth:`to_bytes` returned.

        Raises:
            InvalidBitstream: the data is damaged.
        """
        facts, arrays = unpack_state(data, _FORMAT)
        try:
            client = cls(facts["name"], FederatedConfig.from_dict(facts["config"]), limits=limits)
            client._session, client._fingerprint = bytes.fromhex(facts["session"]), bytes.fromhex(facts["model"])
            client._version, client._number = int(facts["version"]), int(facts["number"])
            client._held = _below(arrays, "held/")
            client._layout = Layout(client._held) if client._held else None
            client._down = update_state_from(facts["down"], arrays, "down/")
            client._up = update_state_from(facts["up"], arrays, "up/")
            client._accumulator = Accumulator(_below(arrays, "residual/"))
            if facts["sent"] is not None:
                state = update_state_from(facts["sent"]["state"], arrays, "sent/")
                number = int(facts["sent"]["number"])
                client._sent = _Sent(number, _below(arrays, "due/"), _below(arrays, "left/"), state)
        except (TypeError, ValueError, LookupError) as error:
            raise InvalidBitstream(f"the saved state is damaged: {error}") from None
        return client

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all state to a file that appears complete or not at all."""
        with atomic_writer(path) as file:
            file.write(self.to_bytes())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, limits: DecodeLimits | None = None) -> Client:
        """Read what :meth:`save` wrote.

        Raises:
            InvalidBitstream: the file is damaged.
            OSError: the file cannot be read.
        """
        return cls.from_bytes(Path(path).read_bytes(), limits=limits)


def _below(arrays: Mapping[str, Array], prefix: str) -> Model:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
