"""Old paths of modules, for one release."""

from __future__ import annotations

import importlib
import sys

import pytest

from netpress import moved


@pytest.mark.parametrize("old", sorted(moved._MOVED))
def test_an_old_path_imports_and_names_the_new_one(old: str) -> None:
    pytest.importorskip("torch")
    new = importlib.import_module("netpress." + moved._MOVED[old])
    sys.modules.pop("netpress." + old, None)
    with pytest.warns(DeprecationWarning, match=rf"netpress\.{old} is {new.__name__} now"):
        module = importlib.import_module("netpress." + old)
    assert new.__all__
    assert all(getattr(module, name) is getattr(new, name) for name in new.__all__)


def test_a_name_that_never_was() -> None:
    with pytest.raises(ImportError):
        importlib.import_module("netpress.nothing")
    sys.modules.pop("netpress.contract", None)
    with pytest.warns(DeprecationWarning, match="compress now"):
        contract = importlib.import_module("netpress.contract")
    with pytest.raises(AttributeError):
        contract.nothing  # noqa: B018
