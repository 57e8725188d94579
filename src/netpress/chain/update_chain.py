"""Many versions of a model in a folder: a base, and updates that each build on the version before.

The difference of a new version is taken to what the decoder holds, so that the error of a version is that of its own
quantisation alone, however long the chain is.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.api import decode, encode
from netpress.chain.folder import check_free, locked, read_manifest, write_file
from netpress.chain.manifest import MANIFEST_NAME, ChainLink, Manifest, file_name, sha256_of
from netpress.codec.difference import fingerprint
from netpress.codec.index import index_stream
from netpress.config import EncodeConfig
from netpress.errors import BaseMismatch, InvalidBitstream, InvalidConfig
from netpress.limits import DecodeLimits
from netpress.parallel import Progress

__all__ = ["ChainLink", "UpdateChain"]

Array = npt.NDArray[Any]
Model = dict[str, Array]


class UpdateChain:
    """A folder with the versions of a model, each coded as the change from the one before.

    Made by :meth:`create` or :meth:`open`. The folder holds a stream for each version and the manifest ``chain.json``,
    which is written last: an interrupted write leaves the chain as it was. Versions are numbered from 0; negative
    numbers count from the last. The last version that was decoded stays in memory.

    Attributes:
        path: the folder.

    Example:
        >>> import numpy, tempfile, netpress
        >>> weight = numpy.linspace(-1, 1, 4096, dtype="f4").reshape(64, 64)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     chain = netpress.UpdateChain.create(folder, {"w": weight}, qp=-32)
        ...     version = chain.append({"w": weight + numpy.float32(0.01)}, message="a little higher")
        ...     restored = netpress.UpdateChain.open(folder).load(version)
        >>> version, bool(abs(restored["w"] - weight - 0.01).max() < 0.02)
        (1, True)
    """

    def __init__(self, path: Path, manifest: Manifest, limits: DecodeLimits | None) -> None:
        self.path = path
        self._manifest = manifest
        self._limits = limits
        self._cached: tuple[ChainLink, Model] | None = None

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        model: Any,
        config: EncodeConfig | None = None,
        *,
        keyframe_every: int | None = None,
        message: str = "",
        limits: DecodeLimits | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> UpdateChain:
        """Start a chain with its version 0.

        Args:
            path: the folder; it must not exist, or be empty.
            model: the model, in the forms that :func:`netpress.encode` takes; or ``bytes``, a stream of a model, which
                is taken as it is.
            config: settings of this and all later versions.
            keyframe_every: store a model of its own so often that no version takes more than this many streams to
                restore, at least 1; None: only version 0 is one.
            message: a note for the log.
            limits: bounds on what streams may ask for.
            progress: as for :func:`netpress.encode`.
            **options: fields of :class:`EncodeConfig`; they overrule ``config``.

        Raises:
            InvalidConfig: an option is unknown or out of range, or does not allow updates.
            FileExistsError: there is a chain already, or the folder holds something else.
            OSError: the folder cannot be written; and what :func:`netpress.encode` raises.
        """
        folder = Path(path)
        check_free(folder)
        config = _checked_config(config, options)
        if keyframe_every is not None and (type(keyframe_every) is not int or keyframe_every < 1):
            raise InvalidConfig(f"keyframe_every is {keyframe_every!r}, not a whole number of at least 1")
        data = model if isinstance(model, bytes) else encode(model, config, progress=progress)
        if _named_base(data, limits) is not None:
            raise BaseMismatch("an update cannot be the first link of a chain: it needs its base")
        decoded = decode(data, limits=limits)
        link = _make_link(0, 0, data, None, {}, decoded, is_update=False, message=message)
        manifest = Manifest(links=(link,), config=config.to_dict(), keyframe_every=keyframe_every)
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            check_free(folder)
            write_file(folder / link.file, data)
            write_file(folder / MANIFEST_NAME, manifest.to_bytes())
        chain = cls(folder, manifest, limits)
        chain._cached = (link, decoded)
        return chain

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, limits: DecodeLimits | None = None) -> UpdateChain:
        """Open a chain; only its manifest is read.

        Raises:
            InvalidBitstream: the folder has no manifest, or a damaged one.
            UnsupportedBitstream: the manifest is of another version of the format.
            BaseMismatch: the links do not build on each other.
            OSError: the folder is missing or cannot be read.
        """
        folder = Path(path)
        return cls(folder, Manifest.from_bytes(read_manifest(folder)), limits)

    def __len__(self) -> int:
        """Number of versions."""
        return len(self._manifest.links)

    def __repr__(self) -> str:
        return f"<UpdateChain of {len(self)} versions in {self.path}>"

    @property
    def versions(self) -> list[int]:
        """Numbers of the versions; those between were squashed."""
        return [link.version for link in self._manifest.links]

    def log(self) -> list[ChainLink]:
        """Return what is known of each version, the first one first."""
        return list(self._manifest.links)

    def append(
        self,
        model: Any,
        *,
        message: str = "",
        keyframe: bool | None = None,
        progress: Progress | None = None,
        **options: Any,
    ) -> int:
        """Add a version.

        Args:
            model: the model, in the forms that :func:`netpress.encode` takes.
            message: a note for the log.
            keyframe: whether it is stored as a model of its own; None: as ``keyframe_every`` says.
            progress: as for :func:`netpress.encode`.
            **options: fields of :class:`EncodeConfig` for this version alone.

        Returns:
            The number of the new version.

        Raises:
            BaseMismatch: the chain was changed by somebody else since it was opened, or a link does not fit.
            InvalidBitstream: a link is damaged.
            OSError: the folder cannot be written; and what :func:`netpress.encode` raises.
        """
        config = self._config(options)
        receiver_model = self._decoded(len(self) - 1)
        is_update = not (self._keyframe_is_due() if keyframe is None else keyframe)
        data = encode(model, config, base=receiver_model if is_update else None, progress=progress)
        return self._take_in(data, receiver_model, is_update=is_update, message=message)

    def apply(self, update: bytes, *, message: str = "", keyframe: bool = False) -> int:
        """Add a version from a stream that was made elsewhere, e.g. by a chain that began with the same base.

        Args:
            update: an update of the last version.
            message: a note for the log.
            keyframe: the stream is a model of its own; nothing tells then which version it follows.

        Returns:
            The number of the new version.

        Raises:
            BaseMismatch: the stream does not build on the last version, or the chain was changed by somebody else.
            InvalidBitstream: the stream, or a link of the chain, is damaged.
            OSError: the folder cannot be written.
        """
        update = bytes(update)
        base, last = _named_base(update, self._limits), self._manifest.links[-1]
        if keyframe:
            if base is not None:
                raise BaseMismatch("the stream is an update, not a model of its own")
        elif base is None:
            raise BaseMismatch("the stream names no base: it is a model of its own (keyframe) or not from netpress")
        elif base != last.model:
            raise BaseMismatch(self._why_not(update, base))
        return self._take_in(update, self._decoded(len(self) - 1), is_update=not keyframe, message=message)

    def load(self, version: int = -1) -> Model:
        """Restore a version.

        Args:
            version: its number; negative ones count from the last.

        Raises:
            InvalidConfig: there is no such version.
            BaseMismatch: a link is missing, or is not the one that belongs there; names the link.
            InvalidBitstream: a link is damaged; names the link.
            OSError: a file cannot be read.
        """
        model = self._decoded(self._position(version))
        return {name: value.copy() for name, value in model.items()}  # the caller may write to it

    def export(self, version: int = -1, **options: Any) -> bytes:
        """Return a version as a stream of its own.

        Without options, a version that is stored as one is returned as it is. Any other is restored and coded again,
        which quantises it once more.

        Args:
            version: its number; negative ones count from the last.
            **options: fields of :class:`EncodeConfig`.

        Raises:
            As :meth:`load` and :func:`netpress.encode`.
        """
        position = self._position(version)
        link = self._manifest.links[position]
        if not link.is_update and not options:
            return self._read(link)
        return encode(self._decoded(position), self._config(options))

    def save(self, path: str | os.PathLike[str], version: int = -1, **options: Any) -> int:
        """Write a version as a stream of its own into a file, which appears complete or not at all.

        Args:
            path: the file.
            version, **options: as for :meth:`export`.

        Returns:
            The number of bytes written.

        Raises:
            As :meth:`export`; OSError: the file cannot be written.
        """
        data = self.export(version, **options)
        write_file(Path(path), data)
        return len(data)

    def update(self, version: int = -1) -> bytes:
        """Return the stored stream of a version, for :meth:`apply` of another chain.

        Raises:
            As :meth:`load`.
        """
        return self._read(self._manifest.links[self._position(version)])

    def squash(
        self, first: int, last: int, *, message: str | None = None, progress: Progress | None = None, **options: Any
    ) -> None:
        """Make one link of several: version ``last`` then builds on the version before ``first``.

        If one of the links is a model of its own, the new one is too; so ``first`` 0 makes a new base. The other
        versions are gone. Version ``last``, and those after it up to the next model of its own, are coded again from
        their decoded values, which quantises them once more.

        Args:
            first, last: numbers of versions; negative ones count from the last.
            message: the note of the new link; None keeps that of version ``last``.
            progress: as for :func:`netpress.encode`.
            **options: fields of :class:`EncodeConfig` for the links that are coded again.

        Raises:
            InvalidConfig: there is no such version, or fewer than two.
            BaseMismatch, InvalidBitstream, OSError: as for :meth:`append`.
        """
        config = self._config(options)
        links, start, end = self._manifest.links, self._position(first), self._position(last)
        if start >= end:
            raise InvalidConfig(f"there is nothing to squash from version {first} to {last}")
        revision = self._manifest.revision + 1
        before = self._decoded(start - 1) if start else {}
        is_update = all(link.is_update for link in links[start : end + 1])
        squashed, files = list(links[:start]), {}
        for position in range(end, len(links)):
            old = links[position]
            parent = squashed[-1] if squashed else None
            is_base_same = position > end and parent is not None and parent.model == links[position - 1].model
            if position > end and (is_base_same or not old.is_update):
                # From here on nothing changes but, in this link, the name of its parent.
                squashed += [
                    dataclasses.replace(old, parent=parent.sha256 if parent else None),
                    *links[position + 1 :],
                ]
                break
            target = self._decoded(position)
            data = encode(target, config, base=before if is_update else None, progress=progress)
            decoded = decode(data, base=before if is_update else None, limits=self._limits)
            note = message if message is not None and position == end else old.message
            link = _make_link(
                old.version, revision, data, parent, before, decoded, is_update=is_update, message=note, time=old.time
            )
            squashed.append(link)
            files[link.file] = data
            before, is_update = decoded, True
        self._commit(dataclasses.replace(self._manifest, links=tuple(squashed), revision=revision), files)

    def verify(self, progress: Progress | None = None) -> list[str]:
        """Check every link: its bytes, the model that it builds on, and the model that it makes.

        Args:
            progress: called with links done, links in all, and the name of the link's file.

        Returns:
            Names of streams in the folder that belong to no link: what an interrupted write left. They do no harm.

        Raises:
            BaseMismatch, InvalidBitstream, OSError: as for :meth:`load`, for the first link that is not in order.
        """
        model: Model = {}
        links = self._manifest.links
        for position, link in enumerate(links):
            model = self._decode_link(position, model)
            if progress is not None:
                progress(position + 1, len(links), link.file)
        known = {link.file for link in links}
        return sorted(path.name for path in self.path.glob("*.nnc") if path.name not in known)

    def _config(self, options: Mapping[str, Any]) -> EncodeConfig:
        return _checked_config(EncodeConfig.from_dict(self._manifest.config), options)

    def _position(self, version: int) -> int:
        """Return the position of the link that makes a version."""
        versions = self.versions
        if version < 0 and -version <= len(versions):
            return len(versions) + version
        if version in versions:
            return versions.index(version)
        was = "was squashed" if versions[0] < version < versions[-1] or 0 <= version < versions[0] else "does not exist"
        raise InvalidConfig(f"version {version} {was}; the chain has {len(versions)}, the last is {versions[-1]}")

    def _start(self, position: int) -> int:
        """Return the position of the last model of its own up to here."""
        return next(i for i in range(position, -1, -1) if not self._manifest.links[i].is_update)

    def _keyframe_is_due(self) -> bool:
        every = self._manifest.keyframe_every
        return every is not None and len(self) - self._start(len(self) - 1) >= every

    def _decoded(self, position: int) -> Model:
        """Restore a version, from the one in memory if that is on the way. The caller must not write to it."""
        links, start, model = self._manifest.links, self._start(position), Model()
        if self._cached is not None:
            cached = self._cached[0]
            # Not by the stream alone: the same update may come twice, on different models.
            held = [i for i in range(start, position + 1) if _made(links[i]) == _made(cached)]
            if held:
                model, start = self._cached[1], held[-1] + 1
        for i in range(start, position + 1):
            model = self._decode_link(i, model)
        self._cached = (links[position], model)
        return model

    def _decode_link(self, position: int, before: Model) -> Model:
        """Restore a version from the one before, and check that it has not changed."""
        link = self._manifest.links[position]
        data = self._read(link)
        try:
            base = _named_base(data, self._limits)
            if (base is not None) != link.is_update:
                raise BaseMismatch("the stream is an update" if base is not None else "the stream names no base")
            model = decode(data, base=before if link.is_update else None, limits=self._limits)
        except BaseMismatch as error:
            raise BaseMismatch(f"{link}: {error}") from None
        except InvalidBitstream as error:
            raise InvalidBitstream(f"{link}: {error.message}", unit=error.unit, offset=error.offset) from None
        if fingerprint(model) != link.model:
            raise BaseMismatch(f"{link} gives another model than when it was added")
        return model

    def _read(self, link: ChainLink) -> bytes:
        try:
            data = (self.path / link.file).read_bytes()
        except FileNotFoundError:
            raise BaseMismatch(f"{link} is missing, or was squashed since the chain was opened") from None
        found = sha256_of(data)
        if found == link.sha256:
            return data
        for other in self._manifest.links:
            if other.sha256 == found:
                raise BaseMismatch(f"{link} holds the bytes of {other}: links are repeated or out of order")
        raise InvalidBitstream(f"{link} is damaged: its SHA-256 is not the one in the manifest")

    def _why_not(self, update: bytes, base: str) -> str:
        """Say why an update does not build on the last version."""
        last, found = self._manifest.links[-1], sha256_of(update)
        for link in self._manifest.links:
            if link.sha256 == found:
                return f"the update is a replay of {link}; the next one has to build on version {last.version}"
        for link in self._manifest.links:
            if link.model == base:
                return f"the update builds on version {link.version}, not on the last version {last.version}"
        return f"the update does not build on version {last.version}: wrong chain, or an update in between is missing"

    def _take_in(self, data: bytes, held: Model, *, is_update: bool, message: str) -> int:
        decoded = decode(data, base=held if is_update else None, limits=self._limits)
        last = self._manifest.links[-1]
        link = _make_link(
            last.version + 1,
            self._manifest.revision,
            data,
            last,
            held,
            decoded,
            is_update=is_update,
            message=message,
        )
        links = (*self._manifest.links, link)
        self._commit(dataclasses.replace(self._manifest, links=links), {link.file: data})
        self._cached = (link, decoded)
        return link.version

    def _commit(self, manifest: Manifest, files: Mapping[str, bytes]) -> None:
        """Write new streams, then the manifest, then remove the streams that it no longer names."""
        with locked(self.path):
            if read_manifest(self.path) != self._manifest.to_bytes():
                raise BaseMismatch(f"{self.path} was changed by somebody else since it was opened; open it again")
            for name, data in files.items():
                write_file(self.path / name, data)
            write_file(self.path / MANIFEST_NAME, manifest.to_bytes())
            old, self._manifest = self._manifest, manifest
            for name in {link.file for link in old.links} - {link.file for link in manifest.links}:
                (self.path / name).unlink(missing_ok=True)


def _made(link: ChainLink) -> tuple[str, str]:
    return link.sha256, link.model


def _make_link(
    version: int,
    revision: int,
    data: bytes,
    parent: ChainLink | None,
    before: Model,
    decoded: Model,
    *,
    is_update: bool,
    message: str,
    time: str | None = None,
) -> ChainLink:
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return ChainLink(
        version=version,
        file=file_name(version, revision),
        is_update=is_update,
        bytes=len(data),
        sha256=sha256_of(data),
        parent=None if parent is None else parent.sha256,
        model=fingerprint(decoded),
        time=time or now,
        message=message,
        changed=sum(not _is_same(before.get(name), decoded.get(name)) for name in before.keys() | decoded.keys()),
    )


def _is_same(a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        return a is b
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    # Bytes: -0.0 is not 0.0 for the fingerprint either.
    return a is b or not a.size or np.array_equal(_bytes_of(a), _bytes_of(b))


def _bytes_of(value: Array) -> Array:
    return np.ascontiguousarray(value).reshape(-1).view(np.uint8)


def _checked_config(given: EncodeConfig | None, options: Mapping[str, Any]) -> EncodeConfig:
    config = EncodeConfig.with_options(given, options)
    if not config.can_carry_record:
        raise InvalidConfig("a chain needs the record: not with the reference preset or without a topology unit")
    if config.profile != 1 or config.differences:
        raise InvalidConfig("a chain needs profile 1, and takes the differences itself")
    return config


def _named_base(data: bytes, limits: DecodeLimits | None) -> str | None:
    """Return the fingerprint of the model that a stream is an update of; None for a model of its own."""
    return index_stream(data, limits or DecodeLimits()).record.base
