"""netpress verify."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from cli_runner import Run, one_line

from netpress.cli.verify import measure
from netpress.formats import save_tensors


def test_structure_only(run: Run, stream: Path, state: dict[str, Any]) -> None:
    result = run("verify", stream)
    assert result.exit_code == 0
    values = sum(value.size for value in state.values())
    assert result.stdout == f"{stream}: 4 tensors, {values} values decoded, all in order\n"
    assert run("verify", "-", "-q", stdin=stream.read_bytes()).stdout == ""


def test_against_the_model(run: Run, stream: Path, model: Path, state: dict[str, Any]) -> None:
    result = run("verify", stream, "--against", model)
    assert result.exit_code == 0
    assert "SNR dB" in result.stdout
    step_line = next(line for line in result.stdout.splitlines() if line.strip().startswith("steps"))
    assert step_line.split()[-1] == "exact"
    content = run("verify", stream, "--against", model, "--json").json
    assert content["ok"] is True
    assert content["problems"] == []
    by_name = {tensor["name"]: tensor for tensor in content["tensors"]}
    assert list(by_name) == list(state)
    assert by_name["steps"]["exact"] is True
    weight = by_name["conv.weight"]
    assert 0 < weight["rms_error"] <= weight["max_abs_error"] < 0.02
    assert 10 < weight["snr_db"] < 60
    assert run("verify", stream, "--against", stream).exit_code == 0


@pytest.mark.parametrize("against", [True, False])
def test_damaged_stream(run: Run, stream: Path, model: Path, against: bool) -> None:
    stream.write_bytes(stream.read_bytes()[:-20])
    arguments = ["--against", model] if against else []
    one_line(run("verify", stream, *arguments))
    result = run("verify", stream, "--json", *arguments)
    assert result.exit_code == 1
    assert result.json["ok"] is False
    assert len(result.json["problems"]) == 1


def test_other_names_and_shapes(run: Run, stream: Path, state: dict[str, Any], tmp_path: Path) -> None:
    other = {"extra": state["conv.bias"], **state, "名前": state["名前"].reshape(4, 16)}
    del other["steps"]
    save_tensors(other, tmp_path / "other.npz")
    result = run("verify", stream, "--against", tmp_path / "other.npz", "--json")
    assert result.exit_code == 1
    assert result.json["ok"] is False
    assert result.json["problems"] == [
        "tensor 'extra' is not in the stream",
        "tensor 'steps' is not in the model",
        "tensor '名前' has shape (8, 8) instead of (4, 16)",
    ]
    assert "extra" in result.stderr


def test_many_problems_are_one_short_line(run: Run, stream: Path, tmp_path: Path) -> None:
    save_tensors({f"t{i}": np.zeros(1, np.float32) for i in range(100)}, tmp_path / "other.npz")
    result = run("verify", stream, "--against", tmp_path / "other.npz")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "and 101 more" in result.stderr


def test_measure() -> None:
    original = np.array([3.0, 4.0, 0.0], np.float32)
    error = measure("t", original, original + np.array([0, 0.5, 0], np.float32))
    assert not error.exact
    assert error.max_abs_error == 0.5
    assert error.rms_error == pytest.approx(0.5 / math.sqrt(3))
    assert error.snr_db == pytest.approx(20)
    same = measure("t", original, original.copy())
    assert same.exact
    assert same.snr_db is None


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, ml_dtypes.bfloat16, np.uint8])
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)])
def test_measure_of_equal_arrays(dtype: Any, shape: tuple[int, ...]) -> None:
    array = np.ones(shape, dtype)
    error = measure("t", array, array.copy())
    assert error.exact
    assert error.max_abs_error == error.rms_error == 0
    assert error.shape == shape


def test_measure_of_large_integers_and_special_values() -> None:
    big = np.array([2**62, 2**62], np.int64)
    assert not measure("t", big, big + np.array([0, 1])).exact
    special = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    assert measure("t", special, special.copy()).exact
    lost = measure("t", special, np.zeros(4, np.float32))
    assert not lost.exact
    assert not math.isfinite(lost.rms_error)


def test_measure_of_more_than_one_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netpress.cli.verify._CHUNK", 7)
    generator = np.random.default_rng(0)
    original, decoded = generator.normal(size=(2, 5, 9))
    error = measure("t", original, decoded)
    difference = decoded - original
    assert error.max_abs_error == pytest.approx(np.abs(difference).max())
    assert error.rms_error == pytest.approx(np.sqrt(np.mean(difference**2)))
    assert error.snr_db == pytest.approx(10 * np.log10((original**2).sum() / (difference**2).sum()))
