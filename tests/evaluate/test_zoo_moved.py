"""Modules that moved to netpress-zoo say so."""

from __future__ import annotations

import importlib
import runpy
import sys

import pytest


@pytest.mark.parametrize("name", ["networks", "training"])
def test_without_the_zoo(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "netpress_zoo", None)
    monkeypatch.delitem(sys.modules, "netpress_zoo.training", raising=False)
    monkeypatch.delitem(sys.modules, f"netpress.evaluate.{name}", raising=False)
    with pytest.raises(ModuleNotFoundError, match="netpress_zoo now: pip install netpress-zoo"):
        importlib.import_module(f"netpress.evaluate.{name}")


def test_the_command_without_the_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "netpress_zoo", None)
    monkeypatch.delitem(sys.modules, "netpress_zoo.training", raising=False)
    monkeypatch.delitem(sys.modules, "netpress.evaluate.training", raising=False)
    with pytest.raises(SystemExit, match=r"netpress: error: the training of networks is .* pip install netpress-zoo"):
        runpy.run_module("netpress.evaluate.training", run_name="__main__")
