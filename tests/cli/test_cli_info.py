"""netpress info."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from cli_runner import Run

from netpress.formats import save_tensors


def test_table(run: Run, stream: Path, state: dict[str, Any]) -> None:
    result = run("info", stream)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    for name, value in state.items():
        line = next(line for line in lines if line.strip().startswith(name))
        assert (" x ".join(map(str, value.shape)) or "scalar") in line
        assert value.dtype.name in line
    values = sum(value.size for value in state.values())
    assert f"4 tensors, {values} values" in lines[-1]
    assert "profile 1" in lines[-1]
    assert "bits per weight" in lines[-1]


def test_json(run: Run, stream: Path, state: dict[str, Any]) -> None:
    content = run("info", stream, "--json").json
    assert content["bytes"] == stream.stat().st_size
    assert content["profile"] == 1
    assert [tensor["name"] for tensor in content["tensors"]] == list(state)
    for tensor, value in zip(content["tensors"], state.values(), strict=True):
        assert tensor["shape"] == list(value.shape)
        assert tensor["dtype"] == value.dtype.name
        assert tensor["kind"] in ("uniform", "dependent", "codebook", "integer", "raw")
        assert math.isfinite(tensor["bits_per_weight"])
    assert "syntax" not in content
    assert "unit_list" not in content


def test_units(run: Run, stream: Path) -> None:
    content = run("info", stream, "--units", "--json").json
    units = content["unit_list"]
    assert [unit["unit"] for unit in units] == list(range(content["units"]))
    assert units[0]["offset"] == 0
    assert sum(unit["bytes"] for unit in units) == content["bytes"]
    assert {"STR", "MPS", "NDU"} <= {unit["type"] for unit in units}
    result = run("info", stream, "--units")
    assert result.exit_code == 0
    assert "STR" in result.stdout
    assert "conv.weight" in result.stdout


def test_syntax(run: Run, stream: Path) -> None:
    elements = run("info", stream, "--syntax", "--json").json["syntax"]
    assert [element["bit_position"] for element in elements] == sorted(e["bit_position"] for e in elements)
    names = [element["name"] for element in elements]
    assert "nnr_unit_type" in names
    profile = next(element for element in elements if element["name"] == "general_profile_idc")
    assert profile["value"] == 1
    result = run("info", stream, "--syntax")
    assert result.exit_code == 0
    line = next(line for line in result.stdout.splitlines() if "general_profile_idc" in line)
    assert line.split() == [
        *(str(profile[key]) for key in ("bit_position", "bit_length", "descriptor", "name")),
        *("=", "1"),
    ]


def test_standard_input_and_quiet(run: Run, stream: Path) -> None:
    result = run("info", "-", stdin=stream.read_bytes())
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("standard input: ")
    assert run("info", stream, "-q").stdout == ""


def test_names_cannot_control_the_terminal(run: Run, tmp_path: Path) -> None:
    name = "evil\x1b[2J\nname" + "x" * 300
    save_tensors({name: np.zeros((2, 2), np.float32)}, tmp_path / "model.npz")
    assert run("encode", tmp_path / "model.npz").exit_code == 0
    for arguments in ([], ["--units"], ["--syntax"]):
        output = run("info", tmp_path / "model.nnc", *arguments).stdout
        assert "\x1b" not in output
        assert "x" * 300 in output
