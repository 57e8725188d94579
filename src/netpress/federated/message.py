"""The messages of a federation: NNC streams, and what both ends have to agree on. The format: docs/federated.md."""

from __future__ import annotations

import dataclasses
import enum
import math
import struct
import zlib

from netpress.errors import InvalidBitstream, UnsupportedBitstream

__all__ = ["Broadcast", "Part", "PartKind", "Upload"]

_MAGIC, _VERSION = b"NPFL", 1
_BROADCAST, _UPLOAD = 1, 2
_START = struct.Struct("<4sBB8s")
_BROADCAST_HEAD = struct.Struct("<qq8sqI")
_PART_HEAD = struct.Struct("<BQ")
_UPLOAD_HEAD = struct.Struct("<q8sqdHQ")
_CHECKSUM = struct.Struct("<I")
_MAX_PARTS = 1 << 20


class PartKind(enum.IntEnum):
    """What a part of a broadcast is."""

    MODEL = 0
    """A whole model, which forgets all before."""
    UPDATE = 1
    """The change to the next version."""
    FRESH_UPDATE = 2
    """The same, coded without knowledge of the updates before."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One step of the way to the newest version: an NNC stream. An empty update changes nothing."""

    kind: PartKind
    data: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Broadcast:
    """What a server sends to one client.

    Attributes:
        session: 8 bytes that stand for the federation.
        base: version that the client has to hold, or -1 if the first part is a model.
        version: version that the parts lead to.
        model: fingerprint of that version, 8 bytes.
        accepted: number of the client's last upload that is part of the model, or 0.
        parts: in order; each update raises the version by one.
    """

    session: bytes
    base: int
    version: int
    model: bytes
    accepted: int
    parts: tuple[Part, ...]

    def to_bytes(self) -> bytes:
        """Return the message."""
        head = _BROADCAST_HEAD.pack(self.base, self.version, self.model, self.accepted, len(self.parts))
        parts = b"".join(_PART_HEAD.pack(part.kind, len(part.data)) + part.data for part in self.parts)
        return _sealed(_BROADCAST, self.session, head + parts)

    @classmethod
    def from_bytes(cls, data: bytes) -> Broadcast:
        """Read a message.

        Raises:
            InvalidBitstream: it is truncated or damaged.
            UnsupportedBitstream: it is of another version of the format.
        """
        session, body = _opened(_BROADCAST, data)
        base, version, model, accepted, count = _BROADCAST_HEAD.unpack(body.take(_BROADCAST_HEAD.size))
        if count > _MAX_PARTS or min(version, accepted) < 0 or base < -1:
            raise InvalidBitstream("the message is damaged: a number is out of range")
        parts = []
        for _ in range(count):
            kind, size = _PART_HEAD.unpack(body.take(_PART_HEAD.size))
            if kind not in set(PartKind):
                raise InvalidBitstream("the message is damaged: a part of unknown kind")
            parts.append(Part(PartKind(kind), body.take(size)))
        body.finish()
        return cls(session, base, version, model, accepted, tuple(parts))


@dataclasses.dataclass(frozen=True, slots=True)
class Upload:
    """What a client sends to its server.

    Attributes:
        session: 8 bytes that stand for the federation.
        client: name of the client.
        number: counts the uploads of the client, from 1.
        version: version of the model that the client started from.
        model: fingerprint of that version, 8 bytes.
        samples: weight of the update in the mean, above 0.
        is_fresh: whether it was coded without knowledge of the uploads before.
        data: the change as an NNC stream; empty for no change.
    """

    session: bytes
    client: str
    number: int
    version: int
    model: bytes
    samples: float
    is_fresh: bool
    data: bytes

    def to_bytes(self) -> bytes:
        """Return the message."""
        name = self.client.encode()
        number = -self.number if self.is_fresh else self.number
        head = _UPLOAD_HEAD.pack(self.version, self.model, number, self.samples, len(name), len(self.data))
        return _sealed(_UPLOAD, self.session, head + name + self.data)

    @classmethod
    def from_bytes(cls, data: bytes) -> Upload:
        """Read a message.

        Raises:
            InvalidBitstream: it is truncated or damaged.
            UnsupportedBitstream: it is of another version of the format.
        """
        session, body = _opened(_UPLOAD, data)
        version, model, number, samples, length, size = _UPLOAD_HEAD.unpack(body.take(_UPLOAD_HEAD.size))
        try:
            name = body.take(length).decode()
        except UnicodeDecodeError:
            raise InvalidBitstream("the message is damaged: the name of the client is not text") from None
        stream = body.take(size)
        body.finish()
        if version < 0 or number == 0 or not (math.isfinite(samples) and samples > 0):
            raise InvalidBitstream("the message is damaged: a number is out of range")
        return cls(session, name, abs(number), version, model, samples, number < 0, stream)


class _Body:
    """Bytes that are taken from the front."""

    def __init__(self, data: memoryview, offset: int) -> None:
        self._data, self._offset = data, offset

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        end = self._offset + count
        if end > len(self._data):
            raise InvalidBitstream("the message is truncated", offset=len(self._data))
        value = bytes(self._data[self._offset : end])
        self._offset = end
        return value

    def finish(self) -> None:
        """Check that nothing is left."""
        if self._offset != len(self._data):
            raise InvalidBitstream("the message has bytes after its end", offset=self._offset)


def _sealed(kind: int, session: bytes, body: bytes) -> bytes:
    content = _START.pack(_MAGIC, _VERSION, kind, session) + body
    return content + _CHECKSUM.pack(zlib.crc32(content))


def _opened(kind: int, data: bytes) -> tuple[bytes, _Body]:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidBitstream(f"a message is bytes, not {type(data).__name__}")
    if len(data) < _START.size + _CHECKSUM.size:
        raise InvalidBitstream("the message is truncated", offset=len(data))
    content = memoryview(data)[: -_CHECKSUM.size]
    magic, version, own_kind, session = _START.unpack(content[: _START.size])
    if magic != _MAGIC:
        raise InvalidBitstream("this is not a message of a federation", offset=0)
    if version != _VERSION:
        raise UnsupportedBitstream(f"version {version} of the message format is not known", offset=4)
    if zlib.crc32(content) != _CHECKSUM.unpack(data[-_CHECKSUM.size :])[0]:
        raise InvalidBitstream("the checksum of the message is wrong: it is truncated or damaged")
    if own_kind != kind:
        raise InvalidBitstream("a message of a client came where one of the server belongs, or the other way round")
    return session, _Body(content, _START.size)
