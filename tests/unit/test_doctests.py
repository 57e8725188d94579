"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from types import ModuleType

import pytest

import netpress

MOVED = (".evaluate.networks", ".evaluate.training")


def modules() -> list[str]:
    """All modules of the package but the one that runs the command line, and those that have moved."""
    found = pkgutil.walk_packages(netpress.__path__, "netpress.")
    return ["netpress", *(info.name for info in found if not info.name.endswith(("__main__", "._core", *MOVED)))]


def examples_in(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.parametrize("name", modules())
def test_examples(name: str) -> None:
    if name == "netpress.federated.flower":
        pytest.importorskip("flwr")
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted == sum(len(test.examples) for test in examples_in(module))


def test_public_functions_have_examples() -> None:
    for function in (netpress.encode, netpress.Stream, netpress.EncodeConfig):
        assert ">>> " in (function.__doc__ or "")
