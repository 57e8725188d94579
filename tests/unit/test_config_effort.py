"""The table of effort: what it says, and which options overrule it."""

from __future__ import annotations

import dataclasses

import pytest

from netpress.config import EFFORT, EffortLevel, EncodeConfig

OPTIONS = EncodeConfig.options()
# Bytes follow from these rows: a change of one is a change of the bytes that an encoder writes.
ROWS = {
    1: (False, 0.0, 1, False, False, False, False),
    2: (False, 0.0, 1, False, False, False, False),
    3: (True, 0.0, 1, False, False, False, False),
    4: (True, 0.0, 1, False, False, False, False),
    5: (True, 0.25, 1, True, False, False, False),
    6: (True, 0.25, 1, True, True, False, False),
    7: (True, 0.5, 5, True, True, False, False),
    8: (True, 0.5, 5, True, True, True, True),
    9: (True, 0.5, 10, True, True, True, True),
}
OWN = {"context_search": True, "lambda_scale": 3.0, "row_skipping": True, "codebook_mode": 1, "unary_length": 7}


def test_rows_stay_as_they_are() -> None:
    assert {effort: dataclasses.astuple(level) for effort, level in EFFORT.items()} == ROWS


def test_unary_lengths_start_with_the_one_that_a_header_infers() -> None:
    assert EncodeConfig().tools.unary_length == 10
    assert EncodeConfig(profile=0).tools.unary_length == 11
    assert EncodeConfig(effort=9).tools.more_unary_lengths(1) == (1, 3, 6, 20)


def test_options_name_what_they_overrule() -> None:
    columns = {field.name for field in dataclasses.fields(EffortLevel)}
    named = [column for option in OPTIONS.values() for column in option.effort]
    assert columns - set(named) == {"rate_passes"}
    assert len(set(named)) == len(named)
    assert {name for name, option in OPTIONS.items() if option.effort} == set(OWN)


@pytest.mark.parametrize("name", OWN)
def test_an_option_overrules_what_it_names_and_nothing_else(name: str) -> None:
    def values(column: str, **own: object) -> list[object]:
        tool = f"tries_{column}" if column.startswith("unary") else column
        return [getattr(EncodeConfig(effort=effort, **own).tools, tool) for effort in EFFORT]  # type: ignore[arg-type]

    for field in dataclasses.fields(EffortLevel):
        by_level, overruled = values(field.name), values(field.name, **{name: OWN[name]})
        assert len(set(by_level)) > 1
        if field.name in OPTIONS[name].effort:
            assert len(set(overruled)) == 1
        else:
            assert overruled == by_level
