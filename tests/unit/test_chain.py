"""Chains of updates: each version comes back, and a chain that is not in order is refused."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import netpress
from netpress import UpdateChain
from netpress.chain import folder as chain_folder
from netpress.chain.manifest import MANIFEST_NAME, Manifest

Array = np.ndarray[Any, Any]
Model = dict[str, Array]
QP = -32
TOLERANCE = 2.5 * 2.0 ** (QP / 4)  # a step of dependent quantisation, and some for the rate


def make_models(count: int) -> list[Model]:
    """Weights that walk at random, integers that count, and a tensor that comes and goes."""
    generator = np.random.default_rng(7)
    weight, models = generator.normal(0, 0.2, (24, 16)), []
    for i in range(count):
        weight = weight + generator.normal(0, 0.02, weight.shape)
        model: Model = {
            "w": weight.astype(np.float32),
            "brain": weight[:4].astype(ml_dtypes.bfloat16),
            "frozen": np.full((4, 4), 0.5, np.float32),
            "steps": np.array(100 * i, np.int64),
            "rate": np.array(0.1 * i, np.float32),
        }
        if i % 3:
            model["sometimes"] = np.full(5, 0.1 * i, np.float32)
        models.append(model)
    return models


MODELS = make_models(6)


def make_chain(path: Path, count: int = 6, **options: Any) -> UpdateChain:
    chain = UpdateChain.create(path, MODELS[0], qp=QP, nonweight_qp=QP, **options)
    for i in range(1, count):
        assert chain.append(MODELS[i], message=f"epoch {i}") == i
    return chain


def assert_same(a: Model, b: Model) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert isinstance(value, np.ndarray)  # scalars too
        assert isinstance(b[name], np.ndarray)
        assert value.dtype == b[name].dtype
        assert value.shape == b[name].shape
        assert value.tobytes() == b[name].tobytes(), name


def assert_near(restored: Model, model: Model, tolerance: float = TOLERANCE) -> None:
    assert restored.keys() == model.keys()
    for name, value in model.items():
        if value.dtype.kind in "biu":
            np.testing.assert_array_equal(restored[name], value)
        else:
            rounding = 2e-2 if value.dtype == ml_dtypes.bfloat16 else 1e-6
            difference = np.abs(restored[name].astype(np.float64) - value.astype(np.float64))
            assert difference.max() <= tolerance + rounding * np.abs(value.astype(np.float64)).max(), name


def content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_versions_are_those_chained_by_hand(tmp_path: Path) -> None:
    chain = make_chain(tmp_path / "c")
    held: Model = {}
    by_hand = []
    for model in MODELS:
        base = held or None
        held = netpress.decode(netpress.encode(model, qp=QP, nonweight_qp=QP, base=base), base=base)
        by_hand.append(held)
    assert len(chain) == 6
    assert chain.versions == list(range(6))
    assert sorted(content(tmp_path / "c")) == [*(f"{i:06}.nnc" for i in range(1, 6)), "base.nnc", MANIFEST_NAME]
    for opened in (chain, UpdateChain.open(tmp_path / "c")):
        for version in (3, 0, 5, 4, -2, -6):
            assert_same(opened.load(version), by_hand[version])
            assert_near(opened.load(version), MODELS[version])
    assert_same(chain.load(), by_hand[-1])
    assert chain.verify() == []


def test_log(tmp_path: Path) -> None:
    links = make_chain(tmp_path, message="start").log()
    assert [link.message for link in links] == ["start", *(f"epoch {i}" for i in range(1, 6))]
    assert [link.parent for link in links] == [None, *(link.sha256 for link in links[:-1])]
    assert [link.bytes for link in links] == [(tmp_path / link.file).stat().st_size for link in links]
    # Everything but "frozen"; "sometimes" comes at 1, changes at 2, goes at 3.
    assert [link.changed for link in links] == [5, 5, 5, 5, 5, 5]
    assert all(link.time.endswith("+00:00") for link in links)


def test_what_the_caller_does_to_a_model_does_not_reach_the_chain(tmp_path: Path) -> None:
    chain = make_chain(tmp_path, 2)
    restored = chain.load()
    restored["w"][:] = 9
    restored["frozen"][:] = 9
    assert_near(chain.load(), MODELS[1])
    assert chain.append(MODELS[2]) == 2
    assert UpdateChain.open(tmp_path).verify() == []


def test_a_version_without_a_change(tmp_path: Path) -> None:
    chain = make_chain(tmp_path, 2)
    before = chain.load()
    for _ in range(3):
        chain.append(before)
    links = chain.log()
    assert [link.changed for link in links[2:]] == [0, 0, 0]
    assert max(link.bytes for link in links[2:]) < 100
    chain.append(MODELS[2])
    assert_same(UpdateChain.open(tmp_path).load(-2), before)
    assert_near(UpdateChain.open(tmp_path).load(), MODELS[2])


def test_keyframes_bound_the_streams_that_a_version_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = make_chain(tmp_path, keyframe_every=3)
    assert [link.is_update for link in chain.log()] == [False, True, True, False, True, True]
    read = []
    original = UpdateChain._read
    monkeypatch.setattr(UpdateChain, "_read", lambda self, link: read.append(link.version) or original(self, link))
    for version in range(6):
        read.clear()
        assert_near(UpdateChain.open(tmp_path).load(version), MODELS[version])
        assert read == list(range(version - version % 3, version + 1))
    assert UpdateChain.open(tmp_path).append(MODELS[0]) == 6
    assert [link.is_update for link in UpdateChain.open(tmp_path).log()][-1] is False
    assert chain.export(3) == (tmp_path / "000003.nnc").read_bytes()


@pytest.mark.filterwarnings("ignore:the steps are too coarse")
def test_settings_stay(tmp_path: Path) -> None:
    make_chain(tmp_path, 1)
    chain = UpdateChain.open(tmp_path)
    chain.append(MODELS[1])
    base = netpress.decode((tmp_path / "base.nnc").read_bytes())
    assert (tmp_path / "000001.nnc").read_bytes() == netpress.encode(MODELS[1], base=base, qp=QP, nonweight_qp=QP)
    chain.append(MODELS[2], qp=-8, nonweight_qp=-8, keyframe=True)
    assert (tmp_path / "000002.nnc").read_bytes() == netpress.encode(MODELS[2], qp=-8, nonweight_qp=-8)


def test_export(tmp_path: Path) -> None:
    chain = make_chain(tmp_path)
    assert_near(netpress.decode(chain.export(3)), MODELS[3], 2 * TOLERANCE)
    assert chain.export(0) == (tmp_path / "base.nnc").read_bytes()
    assert len(chain.export(0, qp=-8)) < len(chain.export(0))
    assert chain.save(tmp_path / "three.nnc", 3) == len(chain.export(3))
    assert (tmp_path / "three.nnc").read_bytes() == chain.export(3)


def test_updates_from_elsewhere(tmp_path: Path) -> None:
    sender = make_chain(tmp_path / "a")
    receiver = UpdateChain.create(tmp_path / "b", sender.update(0))
    for version in range(1, 6):
        assert receiver.apply(sender.update(version)) == version
        assert_same(receiver.load(), sender.load(version))
    assert [link.sha256 for link in receiver.log()] == [link.sha256 for link in sender.log()]
    sender.append(MODELS[0], keyframe=True)
    with pytest.raises(netpress.BaseMismatch, match="names no base"):
        receiver.apply(sender.update())
    assert receiver.apply(sender.update(), keyframe=True) == 6
    assert receiver.verify() == []


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (1, "replay of link 1 "),
        (2, "replay of link 2 "),
        (4, "an update in between is missing"),
        (0, "names no base"),
    ],
)
def test_apply_refuses(tmp_path: Path, version: int, message: str) -> None:
    sender = make_chain(tmp_path / "a")
    receiver = UpdateChain.create(tmp_path / "b", sender.update(0))
    receiver.apply(sender.update(1))
    receiver.apply(sender.update(2))
    before = content(tmp_path / "b")
    with pytest.raises(netpress.BaseMismatch, match=message):
        receiver.apply(sender.update(version))
    other = netpress.encode(MODELS[5], base=receiver.load(1))
    with pytest.raises(netpress.BaseMismatch, match="builds on version 1, not on the last version 2"):
        receiver.apply(other)
    with pytest.raises(netpress.BaseMismatch, match="not a model of its own"):
        receiver.apply(sender.update(3), keyframe=True)
    with pytest.raises(netpress.InvalidBitstream):
        receiver.apply(sender.update(3)[:-7])
    assert content(tmp_path / "b") == before
    with pytest.raises(netpress.BaseMismatch, match="needs its base"):
        UpdateChain.create(tmp_path / "c", sender.update(3))
    assert not (tmp_path / "c").exists()


def swap(path: Path) -> None:
    first, second = (path / name for name in ("000002.nnc", "000003.nnc"))
    first.rename(path / "x")
    second.rename(first)
    (path / "x").rename(second)


def flip(path: Path) -> None:
    data = bytearray((path / "000003.nnc").read_bytes())
    data[len(data) // 2] ^= 1
    (path / "000003.nnc").write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "missing": (lambda p: (p / "000003.nnc").unlink(), netpress.BaseMismatch, "link 3 .* is missing"),
    "reordered": (swap, netpress.BaseMismatch, r"link 2 \(000002.nnc\) holds the bytes of link 3"),
    "duplicate": (
        lambda p: shutil.copy(p / "000002.nnc", p / "000003.nnc"),
        netpress.BaseMismatch,
        r"link 3 \(000003.nnc\) holds the bytes of link 2",
    ),
    "flipped": (flip, netpress.InvalidBitstream, r"link 3 \(000003.nnc\) is damaged"),
    "empty": (lambda p: (p / "000003.nnc").write_bytes(b""), netpress.InvalidBitstream, "link 3 "),
    "base": (lambda p: (p / "base.nnc").write_bytes(b"x"), netpress.InvalidBitstream, r"link 0 \(base.nnc\)"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_links_are_refused_by_name(tmp_path: Path, damage: str) -> None:
    make_chain(tmp_path)
    harm, error, message = DAMAGE[damage]
    harm(tmp_path)
    chain = UpdateChain.open(tmp_path)
    before = content(tmp_path)
    for use in (chain.load, chain.verify, lambda: chain.append(MODELS[0]), chain.export, lambda: chain.squash(2, 4)):
        with pytest.raises(error, match=message):
            use()
    assert content(tmp_path) == before
    if damage != "base":
        assert_near(chain.load(1), MODELS[1])


def relink(links: list[Any], *order: int) -> list[Any]:
    return [links[i] for i in order]


def renamed_parents(links: list[Any]) -> list[Any]:
    """A manifest whose hashes fit, but not the models behind them."""
    result = links[:1]
    for link in relink(links, 2, 3):
        result.append(dataclasses.replace(link, parent=result[-1].sha256))
    return result


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda links: relink(links, 0, 1, 3), r"link 3 .* does not build on link 1"),
        (lambda links: relink(links, 0, 2, 1, 3), r"link 2 .* does not build on link 0"),
        (lambda links: relink(links, 0, 1, 1, 2), r"link 1 .* does not build on link 1"),
        (lambda links: relink(links, 1, 2, 3), r"link 1 .* does not have"),
        (renamed_parents, r"link 2 .*made for another base"),
        (
            lambda links: [links[0], dataclasses.replace(links[1], is_update=False), *links[2:]],
            r"link 1 .*the stream is an update",
        ),
        (
            lambda links: [*links[:3], dataclasses.replace(links[3], model="0" * 16)],
            r"link 3 .*another model than when it was added",
        ),
    ],
)
def test_a_manifest_that_lies_is_refused(
    tmp_path: Path, change: Callable[[list[Any]], list[Any]], message: str
) -> None:
    """The checksum of the manifest is right, so only what links say of each other is left."""
    links = make_chain(tmp_path, 4).log()
    manifest = Manifest(links=tuple(change(links)))
    (tmp_path / MANIFEST_NAME).write_bytes(manifest.to_bytes())
    with pytest.raises(netpress.BaseMismatch, match=message):
        UpdateChain.open(tmp_path).load()


def test_every_flipped_bit_of_the_manifest_is_noticed(tmp_path: Path) -> None:
    (link, *_) = make_chain(tmp_path, 1).log()
    data = (tmp_path / MANIFEST_NAME).read_bytes()
    assert Manifest.from_bytes(data).links == (link,)
    space = b" \t\r\n"
    for i in range(8 * len(data)):
        changed = bytearray(data)
        changed[i // 8] ^= 1 << i % 8
        if changed[i // 8] in space and data[i // 8] in space:
            continue
        with pytest.raises((netpress.InvalidBitstream, netpress.UnsupportedBitstream)):
            Manifest.from_bytes(bytes(changed))


@pytest.mark.parametrize("name", ["../base.nnc", "/base.nnc", "000001.nnc\n", "a.nnc", "", 3, None])
def test_file_names_stay_in_the_folder(tmp_path: Path, name: Any) -> None:
    (link, *_) = make_chain(tmp_path, 1).log()
    manifest = Manifest(links=(dataclasses.replace(link, file=name),))
    with pytest.raises(netpress.InvalidBitstream):
        Manifest.from_bytes(manifest.to_bytes())


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b"null", b'{"chain": {}}', b"\xff", b"[" * 100000])
def test_no_manifest(tmp_path: Path, text: bytes) -> None:
    with pytest.raises(FileNotFoundError):
        UpdateChain.open(tmp_path / "nowhere")
    with pytest.raises(netpress.InvalidBitstream, match=r"holds no chain.json"):
        UpdateChain.open(tmp_path)
    (tmp_path / MANIFEST_NAME).write_bytes(text)
    with pytest.raises(netpress.InvalidBitstream, match=r"chain.json is damaged"):
        UpdateChain.open(tmp_path)


def test_a_newer_manifest(tmp_path: Path) -> None:
    make_chain(tmp_path, 1)
    path = tmp_path / MANIFEST_NAME
    path.write_bytes(path.read_bytes().replace(b'"v":1', b'"v":2'))
    with pytest.raises(netpress.UnsupportedBitstream, match="version 2"):
        UpdateChain.open(tmp_path)


@pytest.mark.parametrize(("first", "last"), [(1, 2), (2, 4), (1, 5), (3, -1), (0, 2), (0, -1)])
def test_squash(tmp_path: Path, first: int, last: int) -> None:
    chain = make_chain(tmp_path)
    before = {version: chain.load(version) for version in range(6)}
    end = last % 6
    chain.squash(first, last, message="one")
    expected = [*range(first), *range(end, 6)]
    for opened in (chain, UpdateChain.open(tmp_path)):
        assert opened.versions == expected
        assert opened.verify() == []
        for version in expected:
            assert_near(opened.load(version), MODELS[version], 2 * TOLERANCE)
            if version < first:
                assert_same(opened.load(version), before[version])
        with pytest.raises(netpress.InvalidConfig, match=f"version {first} was squashed"):
            opened.load(first)
    links = {link.version: link for link in chain.log()}
    assert links[end].message == "one"
    assert links[end].is_update == (first > 0)
    assert sorted(content(tmp_path)) == sorted([MANIFEST_NAME, *(link.file for link in links.values())])
    assert chain.append(MODELS[0]) == 6
    chain.squash(chain.versions[0], -1)
    assert chain.versions == [6]
    assert_near(UpdateChain.open(tmp_path).load(6), MODELS[0], 2 * TOLERANCE)
    assert len(content(tmp_path)) == 2


def test_squash_leaves_what_is_behind_a_keyframe(tmp_path: Path) -> None:
    chain = make_chain(tmp_path, keyframe_every=3)
    before = content(tmp_path)
    held = chain.load()
    chain.squash(1, 2)
    assert chain.versions == [0, 2, 3, 4, 5]
    for name in ("base.nnc", "000003.nnc", "000004.nnc", "000005.nnc"):
        assert content(tmp_path)[name] == before[name]
    assert_same(chain.load(), held)
    chain.squash(2, 4)
    assert [link.is_update for link in chain.log()] == [False, False, True]
    assert chain.verify() == []
    with pytest.raises(netpress.InvalidConfig, match="nothing to squash"):
        chain.squash(4, 4)


def test_two_writers(tmp_path: Path) -> None:
    first = make_chain(tmp_path, 2)
    second = UpdateChain.open(tmp_path)
    first.append(MODELS[2])
    before = content(tmp_path)
    for write in (
        lambda: second.append(MODELS[3]),
        lambda: second.squash(0, 1),
        lambda: second.apply((tmp_path / "000002.nnc").read_bytes()),
    ):
        with pytest.raises(netpress.BaseMismatch, match="changed by somebody else"):
            write()
    assert content(tmp_path) == before
    assert second.versions == [0, 1]
    assert_near(second.load(), MODELS[1])
    assert UpdateChain.open(tmp_path).append(MODELS[3]) == 3


@pytest.mark.parametrize(
    ("what", "step"),
    [(what, i) for what, writes in (("create", 2), ("append", 2), ("squash", 3)) for i in range(writes)],
)
def test_failed_writes_leave_the_chain_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, step: int
) -> None:
    """The disk fills up at one of the writes."""
    path = tmp_path / "c"
    chain = None if what == "create" else make_chain(path, 4)
    before = chain.load() if chain else {}
    original, left = chain_folder.write_file, [step]

    def write_file(target: Path, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device", str(target))
        original(target, data)

    monkeypatch.setattr("netpress.chain.update_chain.write_file", write_file)
    write: Callable[[], object] = lambda: make_chain(path, 1)  # noqa: E731
    if chain is not None:
        write = (lambda: chain.append(MODELS[4])) if what == "append" else (lambda: chain.squash(1, 2))
    with pytest.raises(OSError, match="No space left"):
        write()
    monkeypatch.undo()
    if chain is None:
        with pytest.raises(netpress.InvalidBitstream, match=r"no chain.json"):
            UpdateChain.open(path)
        assert len(make_chain(path, 2)) == 2
        return
    for opened in (chain, UpdateChain.open(path)):
        assert opened.versions == [0, 1, 2, 3]
        assert len(opened.verify()) == step
        assert_same(opened.load(), before)
    assert chain.append(MODELS[4]) == 4
    chain.squash(1, 2)
    assert chain.verify() == []


def test_creation_takes_an_empty_folder_only(tmp_path: Path) -> None:
    make_chain(tmp_path / "c", 1)
    with pytest.raises(FileExistsError, match="a chain already"):
        make_chain(tmp_path / "c", 1)
    with pytest.raises(FileExistsError, match=r"not empty \(c\)"):
        make_chain(tmp_path, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"keyframe_every": 0},
        {"keyframe_every": True},
        {"keyframe_every": 2.0},
        {"profile": 0},
        {"differences": True},
        {"topology_storage_format": None},
        {"unknown": 1},
        {"config": netpress.EncodeConfig.reference()},
    ],
)
def test_settings_that_make_no_chain(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(netpress.InvalidConfig):
        UpdateChain.create(tmp_path / "c", MODELS[0], **options)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("version", [6, -7, 10**9])
def test_versions_that_do_not_exist(tmp_path: Path, version: int) -> None:
    chain = make_chain(tmp_path)
    with pytest.raises(netpress.InvalidConfig, match="does not exist; the chain has 6, the last is 5"):
        chain.load(version)


def test_a_model_that_cannot_be_coded_changes_nothing(tmp_path: Path) -> None:
    chain = make_chain(tmp_path / "c", 2)
    before = content(tmp_path / "c")
    with pytest.raises(netpress.InvalidModel, match="w"):
        chain.append({"w": np.array([np.nan, 1], np.float32)})
    assert content(tmp_path / "c") == before
    with pytest.raises(netpress.LimitExceeded):
        UpdateChain.open(tmp_path / "c", limits=netpress.DecodeLimits(max_elements=3)).load()


def test_the_error_does_not_grow(tmp_path: Path) -> None:
    """Forty steps that each are smaller than the quantiser's: without the loop they would all be lost."""
    weight = np.random.default_rng(0).normal(0, 0.2, (16, 16)).astype(np.float32)
    chain = UpdateChain.create(tmp_path, {"w": weight}, qp=-20)
    step = 2.0**-5
    errors = []
    for _ in range(40):
        weight = weight + np.float32(step / 5)
        chain.append({"w": weight})
        errors.append(float(np.abs(chain.load()["w"] - weight).max()))
    assert max(errors) <= 2.5 * step
    assert max(errors[20:]) <= 1.25 * max(errors[:20])
