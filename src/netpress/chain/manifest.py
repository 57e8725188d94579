"""The manifest of a chain of updates: its files, and how each builds on the one before.

The manifest is the file ``chain.json`` of the chain's folder. It is written last, so that a chain is what its manifest
says. The format is described in ``docs/chains.md``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from netpress.errors import BaseMismatch, InvalidBitstream, UnsupportedBitstream

__all__ = ["MANIFEST_NAME", "ChainLink", "Manifest", "file_name", "sha256_of"]

MANIFEST_NAME = "chain.json"
_FORMAT, _FORMAT_VERSION = "netpress chain", 1
_FILE = re.compile(r"(base|[0-9]{6,18})(\.r[0-9]{1,18})?\.nnc")  # nothing that leaves the folder
_SHA256, _FINGERPRINT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{16}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChainLink:
    """One version of a chain, and the stream that makes it."""

    version: int
    """Number of the version, from 0; it stays when other versions are squashed."""
    file: str
    """Name of the stream in the chain's folder."""
    is_update: bool
    """Whether the stream is an update of the version before; else it is a model of its own."""
    bytes: int
    """Size of the stream."""
    sha256: str
    """SHA-256 of the stream, hexadecimal."""
    parent: str | None
    """SHA-256 of the stream of the version before; None for the first one."""
    model: str
    """Fingerprint of the decoded model, 16 hexadecimal digits; the next update names it as its base."""
    time: str
    """When the version was added: UTC, as ISO 8601 writes it."""
    message: str
    """What the user said about it."""
    changed: int
    """Number of tensors that differ from the decoded version before; new and removed ones count."""

    def __str__(self) -> str:
        return f"link {self.version} ({self.file})"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What ``chain.json`` says.

    Attributes:
        links: the versions in order; at least one.
        config: fields of the settings that differ from their defaults.
        keyframe_every: a model of its own comes after at most this many streams; None: never.
        revision: counts the squashes, which give new names to the files that they write.
    """

    links: tuple[ChainLink, ...]
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    keyframe_every: int | None = None
    revision: int = 0

    def to_bytes(self) -> bytes:
        """Return the content of ``chain.json``: a JSON object with a checksum of its own, a line for each link."""
        text = self._body()
        return f'{{"sha256":"{sha256_of(text.encode())}",\n"chain":{text}}}\n'.encode()

    def _body(self) -> str:
        head = {
            "format": _FORMAT,
            "v": _FORMAT_VERSION,
            "config": dict(self.config),
            "keyframe_every": self.keyframe_every,
            "revision": self.revision,
        }
        links = ",\n".join(_json(dataclasses.asdict(link)) for link in self.links)
        return f'{_json(head)[:-1]},"links":[\n{links}]}}'

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Read ``chain.json``.

        Raises:
            InvalidBitstream: it is damaged.
            UnsupportedBitstream: it is of another version of the format.
            BaseMismatch: its links do not build on each other; names the link.
        """
        try:
            content = json.loads(data)
            body = content["chain"]
            if body["format"] != _FORMAT:
                raise ValueError("it is not the manifest of a chain")
            if body["v"] != _FORMAT_VERSION:
                raise UnsupportedBitstream(f"{MANIFEST_NAME}: version {body['v']!r} of the format is not known")
            manifest = cls(
                links=tuple(_read_link(link) for link in body["links"]),
                config=dict(body["config"]),
                keyframe_every=None if body["keyframe_every"] is None else _count(body["keyframe_every"], 1),
                revision=_count(body["revision"], 0),
            )
            # The content is written again before it is compared, so that every value counts and white space does not.
            if content["sha256"] != sha256_of(manifest._body().encode()):
                raise ValueError("its checksum is wrong")
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise InvalidBitstream(f"{MANIFEST_NAME} is damaged: {error}") from None
        manifest._check_links()
        return manifest

    def _check_links(self) -> None:
        if not self.links:
            raise InvalidBitstream(f"{MANIFEST_NAME} is damaged: the chain has no links")
        first = self.links[0]
        if first.is_update or first.parent is not None:
            raise BaseMismatch(f"{first} builds on a link that the chain does not have")
        for before, link in zip(self.links, self.links[1:], strict=False):
            if link.parent != before.sha256:
                raise BaseMismatch(f"{link} does not build on {before}: links are missing, repeated or out of order")
            if link.version <= before.version:
                raise BaseMismatch(f"{link} follows version {before.version}: links are out of order")
        if len({link.file for link in self.links}) != len(self.links):
            raise BaseMismatch("two links of the chain share a file")


def file_name(version: int, revision: int) -> str:
    """Return the name of the stream of a version; a squash writes under new names, ``000007.r1.nnc``."""
    suffix = f".r{revision}" if revision else ""
    return f"base{suffix}.nnc" if version == 0 else f"{version:06d}{suffix}.nnc"


def sha256_of(data: bytes) -> str:
    """Return the SHA-256 of some bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _read_link(values: Mapping[str, Any]) -> ChainLink:
    link = ChainLink(**values)
    _count(link.version, 0)
    _count(link.bytes, 0)
    _count(link.changed, 0)
    if not isinstance(link.is_update, bool):
        raise TypeError("is_update is neither true nor false")
    _match(_FILE, link.file)
    _match(_SHA256, link.sha256)
    _match(_FINGERPRINT, link.model)
    if link.parent is not None:
        _match(_SHA256, link.parent)
    if not isinstance(link.time, str) or not isinstance(link.message, str):
        raise TypeError("time or message is not text")
    return link


def _count(value: Any, lowest: int) -> int:
    if type(value) is not int or value < lowest:
        raise ValueError(f"{value!r} is not a number of at least {lowest}")
    return value


def _match(pattern: re.Pattern[str], text: str) -> None:
    if pattern.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not allowed")
