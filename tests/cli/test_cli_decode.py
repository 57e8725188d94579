"""netpress decode."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Run, one_line

import netpress
from netpress.formats import open_source


def assert_close(path: Path, state: dict[str, Any]) -> None:
    source = open_source(path)
    assert source.names == list(state)
    for name, value in state.items():
        loaded = source.load(name)
        assert loaded.dtype == value.dtype
        np.testing.assert_allclose(loaded, value, atol=0.02, rtol=0)


@pytest.mark.parametrize("extension", [".safetensors", ".npz", ".pt"])
def test_formats(run: Run, stream: Path, state: dict[str, Any], extension: str) -> None:
    if extension == ".pt":
        pytest.importorskip("torch")
    output = stream.with_name(f"restored{extension}")
    result = run("decode", stream, "-o", output)
    assert result.exit_code == 0
    assert re.fullmatch(rf".*restored\{extension}: 4 tensors, 4\.9\d kB \(\d+\.\d s\)\n", result.stdout)
    assert_close(output, state)


def test_default_output(run: Run, stream: Path, state: dict[str, Any]) -> None:
    other = stream.rename(stream.with_name("other.nnc"))
    assert run("decode", other, "-q").stdout == ""
    assert_close(stream.with_name("other.safetensors"), state)


def test_existing_and_unknown_outputs(run: Run, stream: Path, model: Path) -> None:
    before = model.read_bytes()
    assert "--force" in one_line(run("decode", stream))
    assert model.read_bytes() == before
    assert ".safetensors" in one_line(run("decode", stream, "-o", stream.with_name("out.xyz")))
    assert run("decode", stream, "--force").exit_code == 0
    assert run("decode", stream, "-o", stream, "--force").exit_code != 0


def test_json(run: Run, stream: Path) -> None:
    result = run("decode", stream, "-o", stream.with_name("out.npz"), "--json")
    assert result.exit_code == 0
    assert result.json["tensors"] == 4
    assert result.json["output"].endswith("out.npz")


def test_only_some_tensors(run: Run, stream: Path, state: dict[str, Any]) -> None:
    output = stream.with_name("out.npz")
    assert run("decode", stream, "-o", output, "--only", "名前", "--only", "conv.bias").exit_code == 0
    assert open_source(output).names == ["conv.bias", "名前"]
    line = one_line(run("decode", stream, "-o", output, "-f", "--only", "conv.wieght"))
    assert "is it 'conv.weight'" in line


def test_pipes(run: Run, stream: Path, state: dict[str, Any]) -> None:
    result = run("decode", "-", "-o", "-", stdin=stream.read_bytes())
    assert result.exit_code == 0
    output = stream.with_name("piped.safetensors")
    output.write_bytes(result.stdout_bytes)
    assert_close(output, state)
    assert run("decode", "-", stdin=stream.read_bytes()).exit_code == 2
    assert run("decode", stream, "-o", "-", "--json").exit_code == 2


def test_dimensions_reach_the_decoder(run: Run, stream: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    original = netpress.open

    def open_stream(path: Any, **options: Any) -> netpress.Stream:
        seen.append(options["dimensions"])
        return original(path, **options)

    monkeypatch.setattr(netpress, "open", open_stream)
    shapes = stream.with_name("shapes.json")
    shapes.write_text('{"w": [2, 3]}')
    for text in ('{"w": [2, 3]}', str(shapes)):
        assert run("decode", stream, "-o", stream.with_name("out.npz"), "-f", "--dimensions", text).exit_code == 0
    assert seen == [{"w": (2, 3)}] * 2


def test_interrupted_decode_leaves_nothing(run: Run, stream: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    before = sorted(stream.parent.iterdir())
    assert run("decode", stream, "-o", stream.with_name("out.npz")).exit_code == 130
    assert sorted(stream.parent.iterdir()) == before
