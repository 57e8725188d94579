"""Every model format as a source, and decoded tensors as files."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from netpress.errors import InvalidConfig, InvalidModel
from netpress.formats import SUPPORTED_DTYPES, Source, open_source, output_format, save_tensors, write_tensors
from netpress.formats.source import is_numpy_dtype
from netpress.parameters import ParameterKind

NUMPY_DTYPES = [dtype for dtype in SUPPORTED_DTYPES if is_numpy_dtype(dtype)]


def sample(dtype: np.dtype[Any] | type, shape: tuple[int, ...] = (2, 3)) -> np.ndarray[Any, Any]:
    count = int(np.prod(shape, dtype=int))
    return (np.arange(count) % 2 + 0.5 * (np.dtype(dtype).kind != "b")).reshape(shape).astype(dtype)


def mixed_model(dtypes: list[np.dtype[Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Awkward order for alignment, awkward names, empty and 0-d tensors."""
    model = {f"Ω.{dtype.name}": sample(dtype, (3, 1 + i % 3)) for i, dtype in enumerate(dtypes)}
    model["scalar/0-d"] = np.array(3.5, np.float32)
    model["empty"] = np.zeros((0, 4), np.float32)
    model["count"] = np.array(7, np.int64)
    model["file"] = sample(np.float32)
    model[""] = sample(np.float64, (5,))
    return model


def assert_same(source: Source, model: dict[str, np.ndarray[Any, Any]]) -> None:
    assert source.names == list(model)
    for name, value in model.items():
        loaded = source.load(name)
        assert type(loaded) is np.ndarray
        assert loaded.flags.c_contiguous
        assert loaded.flags.aligned
        assert loaded.dtype == value.dtype == source.dtype(name)
        assert loaded.dtype.isnative
        assert loaded.shape == value.shape == source.shape(name)
        assert loaded.tobytes() == value.tobytes()


# dictionaries


def test_dictionary_keeps_order_types_and_memory() -> None:
    model = mixed_model(list(SUPPORTED_DTYPES))
    source = open_source(model)
    assert_same(source, model)
    assert source.origin == "dict"
    assert source.torch_module is None
    assert np.shares_memory(source.load("file"), model["file"])
    assert len(source) == len(model)
    assert "file" in source
    assert open_source(source) is source


def test_dictionary_of_lists_and_numbers() -> None:
    source = open_source({"list": [[1.0, 2.0], [3.0, 4.0]], "float": 0.5, "int": 3, "bool": True, "np": np.float32(2)})
    assert source.load("list").shape == (2, 2)
    assert [source.dtype(name).name for name in source.names] == ["float64", "float64", "int64", "bool", "float32"]
    assert source.load("int").shape == ()


def test_layouts_and_byte_orders_are_normalised() -> None:
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    source = open_source({"f": np.asfortranarray(base), "strided": base[:, ::2], "big": base.astype(">f4")})
    for name, expected in (("f", base), ("strided", base[:, ::2]), ("big", base)):
        value = source.load(name)
        assert value.flags.c_contiguous
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, expected)


def test_plain_kinds_follow_the_number_of_dimensions() -> None:
    source = open_source({"w": np.zeros((2, 2)), "b.bias": np.zeros(2), "s": np.float32(1)})
    kinds = [source.kind(name) for name in source.names]
    assert kinds == [ParameterKind.WEIGHT, ParameterKind.UNSPECIFIED, ParameterKind.UNSPECIFIED]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([1 + 2j]), "complex"),
        (np.array(["a"]), "not supported"),
        ("text", "not supported"),
        (None, "NoneType"),
        (object(), "object"),
        (np.array([1, None], dtype=object), "ndarray"),
        ([[1, 2], [3]], "not an array of numbers"),
        ({"inner": np.zeros(2)}, "dictionary"),
        (np.zeros(2, "V2"), "bfloat16"),
        (np.zeros(2, [("a", "f4")]), "element type"),
        (np.array(["2020-01-01"], dtype="datetime64[D]"), "not supported"),
        (np.zeros(2, "timedelta64[s]"), "not supported"),
        (np.zeros(2, ml_dtypes.int4), "not supported"),
        (np.ma.masked_array([1.0], mask=[True]), "masked"),
        (2**70, "not an array of numbers"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_unsupported_values_name_the_tensor(value: Any, message: str) -> None:
    with pytest.raises(InvalidModel, match=message) as caught:
        open_source({"good": np.zeros(2), "bad": value})
    assert caught.value.tensor == "bad"


@pytest.mark.parametrize("name", [1, None, ("a",), b"bytes"])
def test_names_are_strings(name: Any) -> None:
    with pytest.raises(InvalidModel, match="names are strings"):
        open_source({name: np.zeros(2)})


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_names_that_a_stream_cannot_carry(name: str) -> None:
    with pytest.raises(InvalidModel):
        open_source({name: np.zeros(2)})


@pytest.mark.parametrize("source", [{}, 5, None, np.zeros(3), b"bytes", [np.zeros(2)]])
def test_sources_that_are_no_model(source: Any) -> None:
    with pytest.raises(InvalidModel):
        open_source(source)


# paths


def test_missing_file_and_unknown_extension(tmp_path: Path) -> None:
    for name in ("missing.safetensors", "missing.npz", "missing.pt", "missing.xyz", "missing.safetensors.index.json"):
        with pytest.raises(FileNotFoundError):
            open_source(tmp_path / name)
    (tmp_path / "model.xyz").write_bytes(b"x")
    with pytest.raises(InvalidModel, match=r"unknown extension.*\.safetensors.*\.npz.*\.pt"):
        open_source(str(tmp_path / "model.xyz"))


def test_directory_with_a_model(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"no model\.safetensors"):
        open_source(tmp_path)
    save_tensors({"w": sample(np.float32)}, tmp_path / "model.safetensors")
    assert open_source(tmp_path).names == ["w"]
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(InvalidModel, match="both"):
        open_source(tmp_path)


# safetensors


def test_safetensors_round_trip(tmp_path: Path) -> None:
    model = mixed_model(list(SUPPORTED_DTYPES))
    path = tmp_path / "model.safetensors"
    save_tensors(model, path)
    source = open_source(path)
    assert_same(source, model)
    assert source.origin == "safetensors"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.safetensors"]


def test_safetensors_are_those_of_the_reference_library(tmp_path: Path) -> None:
    model = mixed_model(NUMPY_DTYPES)
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.SAFETENSORS"
    save_tensors(model, ours)
    loaded = safetensors.numpy.load_file(ours)
    assert set(loaded) == set(model)
    for name, value in model.items():
        assert loaded[name].dtype == value.dtype
        assert loaded[name].shape == value.shape
        np.testing.assert_array_equal(loaded[name], value)
    safetensors.numpy.save_file(model, theirs)
    source = open_source(theirs)
    assert sorted(source.names) == sorted(model)
    for name, value in model.items():
        assert source.load(name).tobytes() == value.tobytes()


def test_safetensors_values_are_read_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_tensors({"w": sample(np.float32, (64, 64))}, path)
    source = open_source(path)
    first, second = source.load("w"), source.load("w")
    assert not np.shares_memory(first, second)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(InvalidModel, match="cut off"):
        source.load("w")
    source.close()


def test_safetensors_values_that_are_not_aligned(tmp_path: Path) -> None:
    header = {
        "flag": {"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]},
        "w": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
    }
    values = np.array([1.5, -2.5], np.float32)
    path = tmp_path / "model.safetensors"
    path.write_bytes(pack(header, b"\x01" + values.tobytes()))
    loaded = open_source(path).load("w")
    assert loaded.flags.aligned
    np.testing.assert_array_equal(loaded, values)


def pack(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def field(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "only 0 bytes"),
        (b"1234567", "only 7 bytes"),
        ((2**63).to_bytes(8, "little") + b"{}", "impossible length"),
        ((99).to_bytes(8, "little") + b"{}", "impossible length"),
        (pack(b"[]"), "not an object"),
        (pack(b"{]"), "JSON"),
        (pack(b'{"\xff":1}'), "JSON"),
        (pack(b"[" * 100_000), "JSON"),
        (pack(b'{"a":1,"a":2}'), "'a'.*twice"),
        (pack({"a": 1}), "'a'.*describe"),
        (pack({"a": field("C64")}, bytes(8)), "'a'.*C64"),
        (pack({"a": field(["F32"])}, bytes(8)), "'a'.*not supported"),
        (pack({"a": field(shape=[-2])}, bytes(8)), "'a'.*shape"),
        (pack({"a": field(shape=[2.0])}, bytes(8)), "'a'.*shape"),
        (pack({"a": field(shape=None)}, bytes(8)), "'a'.*shape"),
        (pack({"a": field(offsets=[0])}, bytes(8)), "'a'.*data_offsets"),
        (pack({"a": field(offsets=[8, 0])}, bytes(8)), "'a'.*bytes"),
        (pack({"a": field(shape=[3])}, bytes(8)), "'a'.*needs 12"),
        (pack({"a": field(shape=[2**62, 2**62])}, bytes(8)), "'a'.*needs"),
        (pack({"a": field(), "b": field()}, bytes(8)), "'b'.*overlaps"),
        (pack({"a": field(offsets=[4, 12])}, bytes(12)), "'a'.*gap"),
        (pack({"a": field()}, bytes(7)), "1 bytes are missing"),
        (pack({"a": field()}, bytes(9)), "1 bytes more"),
        (pack({}), "no tensors"),
        (pack({"__metadata__": {"format": "pt"}}), "no tensors"),
    ],
)
def test_damaged_safetensors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match=message):
        open_source(path)


@given(st.binary(max_size=40) | st.binary(max_size=60).map(lambda data: pack(b'{"a":{' + data + b"}}", data)))
def test_random_bytes_are_no_safetensors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random.safetensors"
    path.write_bytes(data)
    with pytest.raises(InvalidModel):
        open_source(path)


def write_shards(folder: Path, weight_map: Any) -> Path:
    save_tensors({"a": sample(np.float32), "b": sample(ml_dtypes.bfloat16)}, folder / "model-1.safetensors")
    save_tensors({"c": sample(np.int8)}, folder / "model-2.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


GOOD_MAP = {"c": "model-2.safetensors", "a": "model-1.safetensors", "b": "model-1.safetensors"}


def test_sharded_safetensors(tmp_path: Path) -> None:
    index = write_shards(tmp_path, GOOD_MAP)
    expected = {"c": sample(np.int8), "a": sample(np.float32), "b": sample(ml_dtypes.bfloat16)}
    for path in (index, tmp_path):
        assert_same(open_source(path), expected)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({**GOOD_MAP, "d": "model-3.safetensors"}, "'d'.*model-3.*does not exist"),
        ({**GOOD_MAP, "d": "model-1.safetensors"}, "'d'.*does not hold"),
        ({"a": "model-1.safetensors"}, "'b'.*not in"),
        ({**GOOD_MAP, "c": "../model-2.safetensors"}, "'c'.*plain file name"),
        ({**GOOD_MAP, "c": "/etc/passwd"}, "'c'.*plain file name"),
        ({**GOOD_MAP, "c": ".."}, "'c'.*plain file name"),
        ({**GOOD_MAP, "c": 5}, "'c'.*name its file"),
        ({}, "no tensors"),
        (None, "no weight_map"),
    ],
)
def test_bad_index(tmp_path: Path, weight_map: Any, message: str) -> None:
    with pytest.raises(InvalidModel, match=message):
        open_source(write_shards(tmp_path, weight_map))


# npz


def test_npz_round_trip(tmp_path: Path) -> None:
    model = mixed_model(NUMPY_DTYPES)
    path = tmp_path / "model.npz"
    save_tensors(model, path)
    with open_source(path) as source:
        assert_same(source, model)
        assert source.origin == "npz"
    with np.load(path) as loaded:
        assert loaded.files == list(model)
        for name, value in model.items():
            np.testing.assert_array_equal(loaded[name], value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_of_numpy(tmp_path: Path, save: Callable[..., None]) -> None:
    model = {"w": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "big": np.arange(3, dtype=">i2")}
    save(tmp_path / "model.npz", **model)
    source = open_source(tmp_path / "model.npz")
    np.testing.assert_array_equal(source.load("w"), model["w"])
    assert source.load("w").flags.c_contiguous
    assert source.load("big").dtype == np.int16


def test_npz_equal_models_give_equal_files() -> None:
    files = [io.BytesIO(), io.BytesIO()]
    for file in files:
        write_tensors({"w": sample(np.float32)}, file, "npz")
    assert files[0].getvalue() == files[1].getvalue()


def test_npz_cannot_hold_bfloat16(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"bfloat16.*\.safetensors") as caught:
        save_tensors({"good": sample(np.float32), "w": sample(ml_dtypes.bfloat16)}, tmp_path / "model.npz")
    assert caught.value.tensor == "w"
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_npz_refuses_objects_and_types_without_a_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "object.npz", w=np.array([{}], dtype=object))
    with pytest.raises(InvalidModel, match="'w'"):
        open_source(tmp_path / "object.npz")
    np.savez(tmp_path / "void.npz", w=sample(ml_dtypes.bfloat16))
    with pytest.raises(InvalidModel, match=r"'w'.*bfloat16"):
        open_source(tmp_path / "void.npz")


def test_npz_damage(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(InvalidModel, match=r"not an \.npz"):
        open_source(path)
    save_tensors({"w": sample(np.float32, (100,))}, path)
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidModel, match=r"'w'.*damaged"):
        open_source(path).load("w")


def test_npz_members_that_are_no_arrays(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    for name, content, message in (
        ("readme.txt", b"x", "not an array"),
        ("w.npy", b"x", "'w'"),
        ("w.npy", npy_header("(1000000000000,)"), "'w'.*needs"),
        ("w.npy", npy_header("(-1,)"), "'w'"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)
        with pytest.raises(InvalidModel, match=message):
            open_source(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("w.npy", npy_header("(0,)"))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("w.npy", npy_header("(0,)"))
    with pytest.raises(InvalidModel, match=r"'w'.*twice"):
        open_source(path)


def npy_header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


# writing


def test_output_formats() -> None:
    assert [output_format(f"x{end}") for end in (".safetensors", ".npz", ".pt", ".PTH")] == [
        *("safetensors", "npz", "pt", "pt")
    ]
    for path in ("model", "model.nnc", Path("model.bin")):
        with pytest.raises(InvalidConfig, match=r"\.safetensors"):
            output_format(path)
    with pytest.raises(InvalidConfig, match="h5"):
        write_tensors({}, io.BytesIO(), "h5")


@pytest.mark.parametrize("extension", [".safetensors", ".npz"])
def test_failed_save_leaves_nothing(tmp_path: Path, extension: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_tensors({"w": sample(np.float32)}, tmp_path / f"model{extension}")
    assert sorted(path.name for path in tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.array([1j]), np.array(["a"]), np.array([None])])
def test_save_checks_types(tmp_path: Path, value: np.ndarray[Any, Any]) -> None:
    with pytest.raises(InvalidModel, match="'w'"):
        save_tensors({"w": value}, tmp_path / "model.safetensors")
    with pytest.raises(InvalidModel, match="__metadata__"):
        save_tensors({"__metadata__": np.zeros(1)}, tmp_path / "model.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == []


def test_save_normalises_layout(tmp_path: Path) -> None:
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    model = {"f": np.asfortranarray(base), "s": base[::2], "big": base.astype(">f4")}
    save_tensors(model, tmp_path / "model.safetensors")
    source = open_source(tmp_path / "model.safetensors")
    for name, value in model.items():
        np.testing.assert_array_equal(source.load(name), value.astype(np.float32))


def test_no_framework_is_imported(tmp_path: Path) -> None:
    """Neither importing the formats nor using those of numpy pulls in a framework."""
    path = tmp_path / "model.safetensors"
    code = (
        "import sys, numpy as np, netpress.formats as f\n"
        f"f.save_tensors({{'w': np.zeros((2, 2))}}, {str(path)!r})\n"
        f"f.open_source({str(path)!r}).load('w')\n"
        "print([m for m in ('torch', 'typer', 'rich', 'sklearn', 'safetensors') if m in sys.modules])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_replaced_values_have_the_type_of_the_old_ones():
    source = open_source({"w": np.zeros((2, 2), np.float16), "b": np.ones(2, np.float32)})
    other = source.replaced({"w": np.full((2, 2), 1.5, np.float32)})
    assert other.load("w").dtype == np.float16
    assert other.load("w").tolist() == [[1.5, 1.5], [1.5, 1.5]]
    assert other.load("b").tolist() == [1, 1]
    assert source.load("w").tolist() == [[0, 0], [0, 0]]
    with pytest.raises(KeyError):
        source.replaced({"x": np.zeros(1)})
