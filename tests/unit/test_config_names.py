"""Names of options: old ones, foreign ones, and those that nobody knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import netpress
from netpress.cli import app
from netpress.config import EncodeConfig
from netpress.config.names import OLD_NAMES
from netpress.errors import InvalidConfig

MODEL = {"w": np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)}
CALLS: dict[str, Any] = {
    "constructor": lambda path: EncodeConfig(param_opt=True),
    "replace": lambda path: EncodeConfig().replace(param_opt=True),
    "attribute": lambda path: EncodeConfig().param_opt,
    "encode": lambda path: netpress.encode(MODEL, param_opt=True),
    "encode with a config": lambda path: netpress.encode(MODEL, EncodeConfig(), param_opt=True),
    "save": lambda path: netpress.save(MODEL, path / "model.nnc", param_opt=True),
    "Encoder": lambda path: netpress.Encoder(param_opt=True),
    "chain": lambda path: netpress.UpdateChain.create(path / "chain", MODEL, param_opt=True),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_warning_shows_the_line_that_used_the_old_name(call: Any, tmp_path: Path) -> None:
    with pytest.warns(DeprecationWarning, match="context_search now, before param_opt") as seen:
        call(tmp_path)
    assert [(Path(warning.filename), warning.lineno) for warning in seen] == [
        (Path(__file__), call.__code__.co_firstlineno)
    ]


@pytest.mark.parametrize(("old", "new"), OLD_NAMES.items())
def test_two_names_of_one_option_contradict_each_other(old: str, new: str) -> None:
    both = {old: 1, new: 1}
    for call in (EncodeConfig.from_dict, lambda options: EncodeConfig.reference(**options)):
        with pytest.raises(InvalidConfig, match=f"'{new}' is given under two names"):
            call(both)
    with pytest.raises(InvalidConfig, match="two names"):
        EncodeConfig.reference(bnf=True, fold_batch_norm=False)


@pytest.mark.parametrize(
    "flags", [("--context-search", "--no-param-opt"), ("--struct-spars-factor=0.5", "--row-threshold=0.5")]
)
def test_two_flags_of_one_option_contradict_each_other(flags: tuple[str, str], tmp_path: Path) -> None:
    np.savez(tmp_path / "model.npz", **MODEL)
    result = CliRunner().invoke(app, ["encode", str(tmp_path / "model.npz"), *flags])
    assert result.exit_code == 2
    assert "two names" in result.output
    assert not (tmp_path / "model.nnc").exists()


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("lambda", "lambda_scale"),
        ("param_op", "context_search"),
        ("struct_sparse_factor", "row_threshold"),
        ("int_quant_bits", "bit_depth"),
    ],
)
def test_the_hint_is_one_name_that_works_now(name: str, nearest: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        EncodeConfig(**{name: 1})
    assert str(caught.value) == f"unknown option '{name}': did you mean '{nearest}'?"
