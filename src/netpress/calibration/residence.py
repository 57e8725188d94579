"""Weights that are in memory only while they are needed.

torch is imported by the functions that need it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel
from netpress.formats import Source

if TYPE_CHECKING:
    import torch

__all__ = ["Residence", "empty_parameters"]


_FILLS = frozenset({"normal_", "uniform_", "zero_", "fill_", "erfinv_", "mul_", "add_", "clamp_"})


@contextlib.contextmanager
def empty_parameters() -> Iterator[None]:
    """Build networks whose parameters have shapes but no memory, for :func:`netpress.quantize_blocks`.

    Within the context every parameter goes to torch's ``meta`` device as a layer registers it; buffers, which files
    often do not hold, are made as usual. Not to be entered by several threads at a time.

    Example:
        >>> import pytest; torch = pytest.importorskip("torch")
        >>> with empty_parameters():
        ...     layer = torch.nn.Linear(300, 200)
        >>> layer.weight.device.type
        'meta'
    """
    import torch
    from torch.overrides import TorchFunctionMode

    register = torch.nn.Module.register_parameter

    def on_meta(self: Any, name: str, param: Any) -> None:
        # A parameter that is there already stays the same object: its layer shares it with another one.
        if param is not None and not param.is_meta:
            param = torch.nn.Parameter(param.to("meta"), requires_grad=param.requires_grad)
        register(self, name, param)

    class NothingToFill(TorchFunctionMode):
        """Leaves out the initialisation of what has no memory, which would first load torch's Python references."""

        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            target = args[0] if args else (kwargs or {}).get("tensor")
            is_fill = getattr(func, "__module__", "") == "torch.nn.init" or getattr(func, "__name__", "") in _FILLS
            if is_fill and isinstance(target, torch.Tensor) and target.is_meta:
                return target
            return func(*args, **(kwargs or {}))

    torch.nn.Module.register_parameter = on_meta  # type: ignore[method-assign]
    try:
        with NothingToFill():
            yield
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]


class Residence:
    """The parameters of a network, whose values come and go.

    Args:
        module: the network; its own parameters are back in place after :meth:`empty`.
        source: where values are read, by name; None: the module has them.
        device: where values are put.

    Raises:
        InvalidModel: the source lacks a parameter, or has it with another shape; names it.
    """

    def __init__(self, module: torch.nn.Module, source: Source | None, device: Any) -> None:
        self._source = source
        self._device = device
        self._own: dict[str, Any] = {}
        self._owners: dict[int, list[tuple[Any, str]]] = {}
        self.names: dict[str, list[str]] = {}
        """All names of each floating parameter, by its first one."""
        first: dict[int, str] = {}
        for prefix, part in module.named_modules(remove_duplicate=False):
            for attribute, parameter in part.named_parameters(recurse=False, remove_duplicate=False):
                if not parameter.is_floating_point():
                    continue
                name = f"{prefix}.{attribute}" if prefix else attribute
                first_name = first.setdefault(id(parameter), name)
                self._own[first_name] = parameter
                self.names.setdefault(first_name, []).append(name)
                places = self._owners.setdefault(id(parameter), [])
                if all(owner is not part or other != attribute for owner, other in places):
                    places.append((part, attribute))
        if source is not None:
            for first_name, names in self.names.items():
                self._check(source, first_name, names)

    def _check(self, source: Source, first_name: str, names: list[str]) -> None:
        stored = [name for name in names if name in source]
        if not stored:
            raise InvalidModel("the network has this parameter, but the file does not", tensor=first_name)
        shape, wanted = source.shape(stored[0]), tuple(self._own[first_name].shape)
        if shape != wanted:
            raise InvalidModel(f"the file has shape {shape}, the network {wanted}", tensor=stored[0])

    def inside(self, module: torch.nn.Module) -> list[str]:
        """Return the first names of the parameters of a part of the network."""
        own = {id(parameter) for parameter in module.parameters()}
        return [name for name in self.names if id(self._own[name]) in own]

    def is_weight(self, name: str) -> bool:
        """Whether a parameter has two or more dimensions."""
        return bool(self._own[name].ndim > 1)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a parameter."""
        return tuple(self._own[name].shape)

    def stored_names(self, name: str) -> list[str]:
        """Return the names that a parameter has where the model is encoded from."""
        return [n for n in self.names[name] if self._source is None or n in self._source]

    def read(self, name: str) -> npt.NDArray[np.float32]:
        """Return the float values of a parameter."""
        if self._source is None:
            return np.asarray(self._own[name].detach().to("cpu").float().numpy())
        return np.ascontiguousarray(self._source.load(self.stored_names(name)[0]), np.float32)

    def fill(self, names: Iterable[str], *, differentiated: bool = False) -> dict[str, Any]:
        """Put float values in place; return the parameters that hold them."""
        return {name: self.put(name, self.read(name), differentiated=differentiated) for name in names}

    def put(self, name: str, value: npt.NDArray[np.float32], *, differentiated: bool = False) -> Any:
        """Put a value in place of a parameter, everywhere the network uses it; return the parameter that holds it."""
        import torch

        held = torch.from_numpy(np.ascontiguousarray(value).reshape(self.shape(name))).to(self._device)
        parameter = torch.nn.Parameter(held, requires_grad=differentiated)
        for owner, attribute in self._owners[id(self._own[name])]:
            owner._parameters[attribute] = parameter
        return parameter

    def empty(self, names: Iterable[str]) -> None:
        """Put the module's own parameters back in place."""
        for name in names:
            for owner, attribute in self._owners[id(self._own[name])]:
                owner._parameters[attribute] = self._own[name]
