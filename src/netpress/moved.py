"""Modules that moved: for one release their old paths still import, with a warning that names the new one."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["install"]

_MOVED = {
    "contract": "compress",
    "decoder": "codec.decoder",
    "encoder": "codec.encoder",
    "evaluate.comparison": "compare",
    "index": "codec.index",
    "integrity": "codec.checksums",
    "model": "codec.prepare",
    "payload": "bitstream.payload",
    "quantize.assign": "quantize.reference_steps",
    "quantize.clusters": "recipe.cluster.levels",
    "record": "codec.record",
    "restore": "codec.restore",
    "stream": "codec.stream",
    "training.cluster": "recipe.cluster.refine",
    "training.layers": "recipe.layers",
    "training.loop": "recipe.loop",
    "training.maps": "recipe.performance_maps.measure",
    "training.objective": "recipe.objective",
    "training.prune": "recipe.prune.channels",
    "training.sensitivity": "recipe.sensitivity",
    "training.sparsify": "recipe.sparsify.weights",
    "transforms.cluster": "recipe.cluster.lloyd",
    "transforms.cluster_starts": "recipe.cluster.starts",
    "transforms.ranks": "recipe.low_rank.ranks",
    "transforms.unify": "recipe.unify.blocks",
    "unit_coder": "codec.unit_coder",
    "updates.difference": "codec.difference",
    "updates.folder": "chain.folder",
    "updates.manifest": "chain.manifest",
    "updates.state": "codec.update_state",
}
_GONE_PACKAGES = ("training", "updates")


class _MovedModule(ModuleType):
    """Looks its names up in the module at the new path."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module(_new_path(self.__name__)), name)


class _Finder(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        if package != "netpress" or rest not in (*_MOVED, *_GONE_PACKAGES):
            return None
        return ModuleSpec(fullname, self, is_package=rest in _GONE_PACKAGES)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _MovedModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__.removeprefix("netpress.") in _MOVED:
            what = f"{module.__name__} is {_new_path(module.__name__)} now; the old path goes with the next release"
            warnings.warn(what, DeprecationWarning, stacklevel=2)


def _new_path(old: str) -> str:
    return "netpress." + _MOVED[old.removeprefix("netpress.")]


def install() -> None:
    """Let old paths be found where nothing else is."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
