"""netpress encode."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Run, one_line

import netpress
from netpress.formats import save_tensors


def test_default_output_and_summary(run: Run, model: Path, state: dict[str, Any]) -> None:
    result = run("encode", model)
    assert result.exit_code == 0
    output = model.with_suffix(".nnc")
    pattern = r".*model\.nnc: 4\.9\d kB -> [\d.]+ k?B \([\d.]+x smaller, [\d.]+ bits per weight, \d+\.\d s\)\n"
    assert re.fullmatch(pattern, result.stdout)
    assert result.stderr == ""
    decoded = netpress.load(output)
    assert list(decoded) == list(state)
    assert sorted(path.name for path in model.parent.iterdir()) == ["model.nnc", "model.safetensors"]


def test_json_summary(run: Run, model: Path, state: dict[str, Any], tmp_path: Path) -> None:
    result = run("encode", model, "-o", tmp_path / "out.nnc", "--json")
    assert result.exit_code == 0
    size = (tmp_path / "out.nnc").stat().st_size
    values = sum(value.size for value in state.values())
    assert result.json.pop("seconds") >= 0
    assert {key: result.json[key] for key in ("output", "tensors", "values", "bytes_before", "bytes")} == {
        "output": str(tmp_path / "out.nnc"),
        "tensors": 4,
        "values": values,
        "bytes_before": sum(value.nbytes for value in state.values()),
        "bytes": size,
    }
    assert result.json["bits_per_weight"] == pytest.approx(8 * size / values)


def test_quiet(run: Run, model: Path) -> None:
    result = run("encode", model, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_existing_output(run: Run, model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.nnc"
    output.write_bytes(b"precious")
    line = one_line(run("encode", model, "-o", output))
    assert "--force" in line
    assert "out.nnc" in line
    assert output.read_bytes() == b"precious"
    assert run("encode", model, "-o", output, "--force").exit_code == 0
    assert output.read_bytes() != b"precious"


def test_output_that_is_the_input(run: Run, model: Path) -> None:
    before = model.read_bytes()
    assert run("encode", model, "-o", model, "--force").exit_code == 2
    assert model.read_bytes() == before


def test_standard_output(run: Run, model: Path, tmp_path: Path) -> None:
    result = run("encode", model, "-o", "-", "--qp", "-32")
    assert result.exit_code == 0
    assert result.stderr.startswith("standard output: ")
    assert run("encode", model, "--qp", "-32").exit_code == 0
    assert result.stdout_bytes == model.with_suffix(".nnc").read_bytes()
    assert run("encode", model, "-o", "-", "--json").exit_code == 2


def test_streams_do_not_go_to_a_terminal(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert run("encode", model, "-o", "-").exit_code == 2


def test_options_reach_the_encoder(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, Any]] = []

    def save(source: Any, path: Any, config: Any = None, **options: Any) -> int:
        seen.append((config, options))
        raise netpress.InvalidModel("stop here")

    monkeypatch.setattr(netpress, "save", save)
    words = (
        "--qp -30 --nonweight-qp -70 --effort 7 --qp-density 3 --no-dq --lambda-scale 0.5 --fold-batch-norm "
        "--batch-norm-epsilon 1e-3 "
        "--allocation equal --optimize-qp --codebook 2 --row-skipping --sparsity 0.5 --row-threshold 0.9 "
        "--scan-order 1 "
        "--unary-length 21 --no-context-search --profile 1 --bit-depth 8"
    )
    assert run("encode", model, *words.split()).exit_code == 1
    config, options = seen.pop()
    assert config is None
    assert options.pop("base") is None
    assert options.pop("calibration") is None
    assert options.pop("progress") is None
    assert options == {
        "qp": -30,
        "nonweight_qp": -70,
        "effort": 7,
        "qp_density": 3,
        "use_dq": False,
        "lambda_scale": 0.5,
        "fold_batch_norm": True,
        "batch_norm_epsilon": 1e-3,
        "allocation": "equal",
        "optimize_qp": True,
        "codebook_mode": 2,
        "row_skipping": True,
        "sparsity": 0.5,
        "row_threshold": 0.9,
        "scan_order": 1,
        "unary_length": 21,
        "context_search": False,
        "profile": 1,
        "bit_depth": 8,
    }
    netpress.EncodeConfig(**options)  # every name is a field

    assert run("encode", model).exit_code == 1
    assert {name for name, value in seen.pop()[1].items() if value is not None} == set()


def test_reference_preset(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def save(source: Any, path: Any, config: Any = None, **options: Any) -> int:
        seen.append((config, {name for name, value in options.items() if value is not None}))
        raise netpress.InvalidModel("stop here")

    monkeypatch.setattr(netpress, "save", save)
    assert run("encode", model, "--preset", "reference", "--qp", "-30").exit_code == 1
    assert seen == [(netpress.EncodeConfig.reference(qp=-30), set())]
    assert run("encode", model, "--preset", "other").exit_code == 2
    assert run("encode", model, "--preset", "reference", "--config", '{"qp": -30}').exit_code == 2


def test_config_file(run: Run, model: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(netpress.EncodeConfig(qp=-20).to_dict()))
    sizes = []
    for arguments in (["--config", config], ["--qp", "-20"], ["--config", config, "--qp", "-40"], ["--qp", "-40"]):
        result = run("encode", model, "-o", tmp_path / "out.nnc", "--force", "--json", *arguments)
        assert result.exit_code == 0
        sizes.append(result.json["bytes"])
    assert sizes[0] == sizes[1] < sizes[2] == sizes[3]
    config.write_text('{"unknown_key": 1}')
    assert "unknown_key" in one_line(run("encode", model, "--config", config))
    for text in ("no json", "[1]"):
        config.write_text(text)
        assert run("encode", model, "--config", config).exit_code == 2
    assert "missing.json" in one_line(run("encode", model, "--config", tmp_path / "missing.json"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--effort", "0"],
        ["--effort", "10"],
        ["--effort", "x"],
        ["--qp", "1.5"],
        ["--bit-depth", "0"],
        ["--bit-depth", "32"],
        ["--sparsity", "1.1"],
        ["--sparsity", "-0.1"],
        ["--codebook", "3"],
        ["--profile", "2"],
        ["--qp-density", "8"],
        ["--scan-order", "5"],
        ["--unary-length", "0"],
        ["--unary-length", "257"],
        ["--lambda-scale", "-1"],
        ["--row-threshold", "-1"],
    ],
    ids=" ".join,
)
def test_numbers_out_of_range(run: Run, model: Path, arguments: list[str]) -> None:
    result = run("encode", model, *arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr
    assert not model.with_suffix(".nnc").exists()


def test_qp_that_cannot_be_coded(run: Run, model: Path) -> None:
    assert "1000" in one_line(run("encode", model, "--qp", "1000"))


def test_bad_models(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"x" * 100)
    assert "bad.safetensors" in one_line(run("encode", path))
    save_tensors({"fine": np.zeros((2, 2), np.float32), "broken": np.array([[np.nan, 1]], np.float32)}, path)
    assert "'broken'" in one_line(run("encode", path))
    (tmp_path / "model.txt").write_text("x")
    assert ".safetensors" in one_line(run("encode", tmp_path / "model.txt"))
    assert not list(tmp_path.glob("*.nnc"))
    assert run("encode", "-").exit_code == 2


def test_names_of_default_outputs(run: Run, tmp_path: Path, state: dict[str, Any]) -> None:
    folder = tmp_path / "my.model"
    folder.mkdir()
    save_tensors(state, folder / "shard.safetensors")
    index = {"weight_map": dict.fromkeys(state, "shard.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert run("encode", folder / "model.safetensors.index.json").exit_code == 0
    assert (folder / "model.nnc").is_file()
    assert run("encode", folder).exit_code == 0
    assert (tmp_path / "my.model.nnc").is_file()


@pytest.mark.parametrize("old", ["old.safetensors", "old.nnc"])
def test_update_of_a_base(run: Run, tmp_path: Path, state: dict[str, Any], old: str) -> None:
    save_tensors(state, tmp_path / "old.safetensors")
    assert run("encode", tmp_path / "old.safetensors").exit_code == 0
    new = {name: value if name == "steps" else value + np.float32(0.001) for name, value in state.items()}
    save_tensors(new, tmp_path / "new.safetensors")
    base = tmp_path / old
    assert run("encode", tmp_path / "new.safetensors", "--base", base, "--qp", "-50").exit_code == 0
    update, restored = tmp_path / "new.nnc", tmp_path / "restored.safetensors"
    assert run("decode", update, "--base", base, "-o", restored).exit_code == 0
    result = run("verify", update, "--base", base, "--against", tmp_path / "new.safetensors", "--json")
    assert result.exit_code == 0
    assert all(tensor["max_abs_error"] < 1e-3 for tensor in result.json["tensors"])
    one_line(run("encode", tmp_path / "new.safetensors", "--base", tmp_path / "missing.npz", "-f"))


def test_calibration(run: Run, model: Path, state: dict[str, Any], tmp_path: Path) -> None:
    # Half of the inputs of conv.weight are always zero: errors there do not matter.
    inputs = np.random.default_rng(2).normal(size=(400, 72)).astype(np.float32) * (np.arange(72) < 36)
    moments = (inputs.T @ inputs / 400).astype(np.float32)
    layer = netpress.LayerStatistics("columns", moments[None], inputs.mean(0)[None], 400)
    netpress.Calibration({"conv.weight": layer}, 400).save(tmp_path / "c.safetensors")
    output = tmp_path / "out.nnc"
    options = ("-o", output, "--calibration", tmp_path / "c.safetensors")
    assert run("encode", model, *options, "--qp", "-20").exit_code == 0
    error = (netpress.load(output)["conv.weight"] - state["conv.weight"]).reshape(16, 72) @ inputs.T
    run("encode", model, "-o", output, "--force", "--qp", "-20")
    plain = (netpress.load(output)["conv.weight"] - state["conv.weight"]).reshape(16, 72) @ inputs.T
    assert np.square(error).mean() < np.square(plain).mean()
    assert "needs a qp" in one_line(run("encode", model, "--force", *options))
    missing = one_line(run("encode", model, "--force", "-o", output, "--calibration", tmp_path / "none", "--qp", "-20"))
    assert "none" in missing
