"""Settings of the wrong type are refused with InvalidConfig, wherever they are given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import netpress
from netpress.cli import app
from netpress.config import EncodeConfig
from netpress.errors import InvalidConfig

MODEL = {"w": np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"qp_per_tensor": 5}, "qp_per_tensor is 5, not a mapping"),
    ({"qp_per_tensor": {"w": 0.5}}, "'w'.* is 0.5, not an integer"),
    ({"raw_float": "w"}, "raw_float is 'w', not a list"),
    ({"raw_float": 5}, "raw_float is 5, not a list"),
    ({"raw_float": [1]}, "raw_float holds 1"),
    ({"blocks": 5}, "blocks"),
    ({"blocks": [5]}, "blocks"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[str(options) for options, _ in WRONG])
def test_containers_of_the_wrong_type(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    calls: list[Any] = [
        lambda: EncodeConfig(**options),
        lambda: EncodeConfig().replace(**options),
        lambda: EncodeConfig.from_dict(options),
    ]
    for call in calls:
        with pytest.raises(InvalidConfig, match=message):
            call()
    np.savez(tmp_path / "model.npz", **MODEL)
    (tmp_path / "config.json").write_text(json.dumps(options))
    words = ["encode", str(tmp_path / "model.npz"), "--config", str(tmp_path / "config.json")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)


@pytest.mark.parametrize("name", ["qp_density", "base_qp"])
@pytest.mark.parametrize("value", ["a", 10**12, 2.5])
def test_what_a_range_depends_on_is_checked_before_it(name: str, value: Any) -> None:
    with pytest.raises(InvalidConfig, match=f"^{name} is"):
        EncodeConfig(**{"qp": 3, "nonweight_qp": 3, name: value})


def test_iterables_are_lists() -> None:
    assert EncodeConfig(raw_float=iter(["a", "b"])).raw_float == ("a", "b")  # type: ignore[arg-type]
    assert EncodeConfig(raw_float=["a"]) == EncodeConfig(raw_float=("a",))  # type: ignore[arg-type]


def test_a_config_of_another_type_everywhere(tmp_path: Path) -> None:
    wrong: Any = 30
    task = netpress.Task(model=lambda: MODEL, evaluate=lambda _: 1.0)
    calls: list[Any] = [
        lambda: netpress.encode(MODEL, wrong),
        lambda: netpress.encode(MODEL, wrong, qp=-20),
        lambda: netpress.save(MODEL, tmp_path / "model.nnc", wrong),
        lambda: netpress.Encoder(wrong),
        lambda: netpress.UpdateChain.create(tmp_path / "chain", MODEL, wrong),
        lambda: netpress.compress(task=task, max_drop=0.1, config=wrong),
        lambda: netpress.Recipe([], wrong),
    ]
    for call in calls:
        with pytest.raises(InvalidConfig, match="config is an EncodeConfig, not 30"):
            call()
    assert not list(tmp_path.iterdir())
