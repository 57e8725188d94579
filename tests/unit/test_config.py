"""The settings of an encoder follow from one description of each option."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import netpress
from netpress.cli import app
from netpress.config import EFFORT, GROUPS, EncodeConfig, names
from netpress.errors import InvalidConfig

OPTIONS = EncodeConfig.options()
MODEL = {"w": np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)}
# What an option needs beside it.
COMPANIONS: dict[str, dict[str, Any]] = {
    "allocation": {"qp": -20},
    "preset": {"qp": -20},
    "temporal_contexts": {"differences": True},
    "history_contexts": {"differences": True},
}


def test_every_option_is_described() -> None:
    fields = {field.name for field in dataclasses.fields(EncodeConfig) if field.init}
    assert set(OPTIONS) == fields
    for name, option in OPTIONS.items():
        assert option.group in GROUPS, name
        assert option.help.endswith("."), name
        assert option.kind not in ("int", "float") or option.range is not None, name
        assert option.kind != "str" or option.choices, name
    flags = [flag for option in OPTIONS.values() for flag in (option.flag, option.old_flag) if flag]
    assert len(set(flags)) == len(flags) > 15


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.range is not None])
def test_ranges_end_where_they_say(name: str) -> None:
    described = OPTIONS[name]
    low, high = described.range(EncodeConfig()) if callable(described.range) else described.range  # type: ignore[misc]
    step = 1 if described.kind == "int" else 1e-3
    for value in (low, high):
        value = int(value) if described.kind == "int" else value
        assert getattr(EncodeConfig(**{name: value}), name) == value
    for value in (low - step, high * (1 + 1e-9) + step):
        value = int(value) if described.kind == "int" else value
        with pytest.raises(InvalidConfig, match=f"^{name} is"):
            EncodeConfig(**{name: value})
    for value in ("1", True, [1]):
        with pytest.raises(InvalidConfig, match=f"^{name} is"):
            EncodeConfig(**{name: value})


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.choices])
def test_words_are_those_listed(name: str) -> None:
    for word in OPTIONS[name].choices:
        assert getattr(EncodeConfig(**{**COMPANIONS.get(name, {}), name: word}), name) == word
    with pytest.raises(InvalidConfig, match=f"^{name} is .*, not 'other'"):
        EncodeConfig(**{**COMPANIONS.get(name, {}), name: "other"})


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.kind == "bool"])
def test_switches_are_booleans(name: str) -> None:
    for value in (1, "yes", 0.0):
        with pytest.raises(InvalidConfig, match=f"^{name} is True"):
            EncodeConfig(**{**COMPANIONS.get(name, {}), name: value})


def test_ranges_may_depend_on_other_options() -> None:
    assert EncodeConfig(qp=255, qp_density=3).qp == 255
    with pytest.raises(InvalidConfig, match=r"qp is 128, outside -128\.\.127"):
        EncodeConfig(qp=128)
    assert EncodeConfig(qp=128, base_qp=1).qp == 128


def other_value(name: str) -> Any:
    """Return a value that is not the default."""
    option = OPTIONS[name]
    if option.kind == "bool":
        return not option.default
    if option.kind == "str":
        return next(choice for choice in option.choices if choice != option.default)
    low, high = option.fixed_range or (-30, -20)
    values = [low + 1, low] if option.kind == "int" else [min(high, 1.0) / 2]
    return next(value for value in values if value != option.default)


@pytest.mark.parametrize("name", [name for name, option in OPTIONS.items() if option.flag])
@pytest.mark.parametrize("which", ["flag", "old_flag"])
def test_flags_reach_their_field(name: str, which: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    flag = getattr(OPTIONS[name], which)
    if flag is None:
        return
    np.savez(tmp_path / "model.npz", **MODEL)
    seen: list[dict[str, Any]] = []

    def save(*_: Any, **arguments: Any) -> int:
        seen.append(arguments)
        raise InvalidConfig("seen")

    monkeypatch.setattr(netpress, "save", save)
    value = other_value(name)
    on, _, off = flag.partition("/")
    words = [on if value else off] if OPTIONS[name].kind == "bool" else [on, str(value)]
    CliRunner().invoke(app, ["encode", str(tmp_path / "model.npz"), "-o", str(tmp_path / "out.nnc"), *words])
    assert seen[0][name] == value
    assert {other: seen[0][other] for other in OPTIONS if other in seen[0]} == {name: value}


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("lambda_", "lambda_scale"), ("efort", "effort"), ("quantization_parameter", None), ("opt_qp", "optimize_qp")],
)
def test_an_unknown_option_names_the_nearest(name: str, nearest: str | None) -> None:
    expected = f"unknown option '{name}'" + (f": did you mean '{nearest}'" if nearest else "; the reference lists")
    for call in (
        lambda options: EncodeConfig(**options),
        lambda options: EncodeConfig().replace(**options),
        EncodeConfig.from_dict,
        lambda options: netpress.encode(MODEL, **options),
    ):
        with pytest.raises(InvalidConfig, match=f"^{expected}"):
            call({name: 1})


def test_a_config_of_another_type() -> None:
    with pytest.raises(InvalidConfig, match="config is an EncodeConfig, not 30"):
        netpress.encode(MODEL, 30)  # type: ignore[arg-type]


@pytest.mark.parametrize(("old", "new"), names.OLD_NAMES.items())
def test_old_names_work_and_warn(old: str, new: str) -> None:
    offset = old == "cabac_unary_length_minus1"
    value = 4 if offset else 0.5 if new == "row_threshold" else True
    expected = 5 if offset else value
    needed = COMPANIONS.get(new, {})
    with pytest.warns(DeprecationWarning, match=f"{new} now.*{old}"):
        config = EncodeConfig(**{**needed, old: value})
    assert getattr(config, new) == expected
    with pytest.warns(DeprecationWarning, match=old):
        assert getattr(config, old) == value
    with pytest.warns(DeprecationWarning, match=old):
        assert EncodeConfig(**needed).replace(**{old: value}) == config
    # Stored settings and NNCodec's own names say nothing.
    assert EncodeConfig.from_dict({**needed, old: value}) == config
    assert getattr(EncodeConfig.reference(**{old: value}), new) == expected
    assert EncodeConfig.from_dict(config.to_dict()) == config
    assert old not in config.to_dict()


def test_bit_depth_goes_without_the_trellis() -> None:
    assert EncodeConfig().use_dq
    assert not EncodeConfig(bit_depth=5).use_dq
    assert not EncodeConfig().replace(bit_depth=5).use_dq
    assert EncodeConfig.from_dict(EncodeConfig(bit_depth=5).to_dict()) == EncodeConfig(bit_depth=5, use_dq=False)
    for make in (EncodeConfig, EncodeConfig().replace):
        with pytest.raises(InvalidConfig, match="leave out use_dq"):
            make(bit_depth=5, use_dq=True)


def test_levels_are_ordered() -> None:
    """A higher level uses what the lower ones use."""
    assert list(EFFORT) == list(range(1, 10))
    rows = [dataclasses.astuple(level) for level in EFFORT.values()]
    for lower, higher in itertools.pairwise(rows):
        assert all(a <= b for a, b in zip(lower, higher, strict=True))


@pytest.mark.parametrize("effort", EFFORT)
def test_settings_overrule_the_level(effort: int) -> None:
    level, tools = EFFORT[effort], EncodeConfig(effort=effort).tools
    assert (tools.context_search, tools.rate_weight, tools.rate_passes) == (
        level.context_search,
        level.rate_weight,
        level.rate_passes,
    )
    assert tools.row_skipping is (None if level.row_skipping else False)
    assert tools.codebooks == (2 if level.codebooks else 0)
    assert bool(tools.more_unary_lengths(65536)) is level.unary_lengths_small
    assert bool(tools.more_unary_lengths(65537)) is level.unary_lengths
    own = {"context_search": not level.context_search, "lambda_scale": 3.0, "row_skipping": True, "codebook_mode": 1}
    tools = EncodeConfig(effort=effort, unary_length=7, **own).tools
    assert (tools.context_search, tools.rate_weight) == (not level.context_search, 3.0)
    assert (tools.row_skipping, tools.codebooks, tools.unary_length) == (True, 1, 7)
    assert tools.more_unary_lengths(1) == ()
    assert EncodeConfig(effort=effort, use_dq=False).tools.rate_weight == 0
