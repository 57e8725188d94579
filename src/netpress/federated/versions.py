"""The versions of the server's model, as its clients hold them, and the messages that lead from one to the next."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.api import decode, encode
from netpress.codec.difference import fingerprint
from netpress.codec.update_state import UpdateState
from netpress.federated.coding import encode_change
from netpress.federated.config import FederatedConfig
from netpress.federated.layout import Layout, Model, is_integer
from netpress.federated.message import Broadcast, Part, PartKind

__all__ = ["Versions"]

Array = npt.NDArray[Any]


class Versions:
    """What all clients hold, in closed loop: each version is what decoding the update to it gives.

    The difference of what is wanted to what is held is coded anew in each round. The way from the first version is kept
    as long as it is shorter than the plain model.

    Attributes:
        session: 8 random bytes that stand for the federation.
        layout: of the model.
        wanted: the model without coding errors, as aggregation made it.
        held: the model of the newest version.
        version: its number, from 0.
        fingerprint: that of ``held``, 8 bytes.

    Args:
        model: the first model, arrays by name.
        config: settings of the updates.
    """

    def __init__(self, model: Model, config: FederatedConfig) -> None:
        self.config = config
        self.session = secrets.token_bytes(8)
        self.layout = Layout(model)
        self.wanted = model
        self.version = 0
        options: dict[str, Any] = {"effort": config.effort}
        if config.model_qp is not None:
            # Norms and biases are few, and an error of theirs goes through all that follows: 16 times finer.
            options |= {"qp": config.model_qp, "nonweight_qp": max(config.model_qp - 16, -128)}
            options["lambda_scale"] = config.rate_weight
        self.first = Part(PartKind.MODEL, encode(model, **options))
        self.first_version = 0
        self.held: Model = decode(self.first.data)
        self.fingerprint = bytes.fromhex(fingerprint(self.held))
        self.updates: list[Part] = []
        self.state = UpdateState()
        self.needs_fresh = False

    def aim(self) -> Model:
        """Return what the updates of clients are added to: the model that they hold, and some of what it lacks."""
        lacks = self.layout.difference(self.wanted, self.held)
        kept = {}
        for name, value in lacks.items():
            if is_integer(value.dtype):
                kept[name] = value
            elif not self.layout.is_statistic(name):
                kept[name] = value * np.float32(self.config.memory)
        return self.layout.applied(self.held, kept)

    def advance(self, wanted: Mapping[str, Array]) -> int:
        """Make the next version, as near to a model as an update of reasonable size takes it.

        Args:
            wanted: arrays with the names, shapes and types of the first model.

        Returns:
            The number of the version.

        Raises:
            InvalidModel: a tensor does not fit, or has infinite or undefined values; nothing has changed then.
        """
        self.layout.check(wanted)
        is_fresh = self.needs_fresh or not self.state.levels
        changes = self.layout.difference(wanted, self.held)
        coded = encode_change(self.layout, changes, self.held, self.config, UpdateState() if is_fresh else self.state)
        self.wanted = dict(wanted)
        self.held, self.state = self.layout.applied(self.held, coded.changes), coded.state
        self.fingerprint = bytes.fromhex(fingerprint(self.held))
        self.updates.append(Part(PartKind.FRESH_UPDATE if is_fresh else PartKind.UPDATE, coded.data))
        self.needs_fresh = False
        self.version += 1
        if len(self.first.data) + sum(len(part.data) for part in self._since_first()) > self.layout.float_bytes:
            self._start_anew()
        return self.version

    def _start_anew(self) -> None:
        """Let the way begin at the newest version, as it is; the next update must not build on those before."""
        floats = tuple(name for name, dtype in self.layout.dtypes.items() if dtype.kind not in "biu")
        data = encode(self.held, raw_float=floats, effort=self.config.effort)
        if fingerprint(decode(data)) != self.fingerprint.hex():
            raise RuntimeError("the plain model does not come back as it was")
        self.first, self.first_version, self.needs_fresh = Part(PartKind.MODEL, data), self.version, True
        # Clients that hold one of the last versions still need the updates only.
        while self.updates and sum(len(part.data) for part in self.updates) > len(data):
            del self.updates[0]

    def message(self, base: int, accepted: int) -> Broadcast:
        """Return what leads a client to the newest version.

        Args:
            base: version that the client holds, or -1.
            accepted: number of its last upload that is part of the model.
        """
        missing = self.version - base
        if 0 <= base <= self.version and missing <= len(self.updates):
            parts = tuple(self.updates[len(self.updates) - missing :])
        else:
            base, parts = -1, (self.first, *self._since_first())
        return Broadcast(self.session, base, self.version, self.fingerprint, accepted, parts)

    def _since_first(self) -> list[Part]:
        """The updates that follow the whole model."""
        count = self.version - self.first_version
        return self.updates[len(self.updates) - count :]
