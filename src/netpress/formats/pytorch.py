"""PyTorch modules, tensors and files. torch is imported only when a model needs it."""

from __future__ import annotations

import pickle
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np
import numpy.typing as npt

from netpress.errors import InvalidModel
from netpress.formats.source import Entry, LazyTensors, Source, check_name, is_numpy_dtype, plain_kind
from netpress.parameters import ParameterKind

__all__ = ["is_module", "is_tensor", "open_file", "open_module", "open_tensors", "tensor_entry", "to_torch", "write"]

_CHECKPOINT_KEYS = ("state_dict", "model", "model_state_dict")

_NUMPY_DTYPES: dict[str, Any] = {
    "bool": np.bool_,
    "int8": np.int8,
    "uint8": np.uint8,
    "int16": np.int16,
    "uint16": np.uint16,
    "int32": np.int32,
    "uint32": np.uint32,
    "int64": np.int64,
    "uint64": np.uint64,
    "float16": np.float16,
    "float32": np.float32,
    "float64": np.float64,
    "bfloat16": ml_dtypes.bfloat16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
    "float8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
    "float8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "float8_e8m0fnu": ml_dtypes.float8_e8m0fnu,
}
"""torch's name of an element type -> numpy's type."""

_BATCH_NORMS = (
    *("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"),
    *("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"),
)

_BATCH_NORM_KINDS = {
    "weight": ParameterKind.BN_GAMMA,
    "bias": ParameterKind.BN_BETA,
    "running_mean": ParameterKind.BN_MEAN,
    "running_var": ParameterKind.BN_VAR,
}


def is_tensor(value: object) -> bool:
    """Whether ``value`` is a torch tensor; does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def is_module(value: object) -> bool:
    """Whether ``value`` is a ``torch.nn.Module``; does not import torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def tensor_entry(name: str, tensor: Any, kind: ParameterKind | None = None) -> Entry:
    """Describe one torch tensor.

    ``kind`` is the role that its module gives it, if any; a tensor of two and more dimensions is a weight all the same,
    unless it is a local scaling (whose shape is that of one output channel).

    Raises:
        InvalidModel: the tensor is sparse, quantised, complex, nested, without data or of an unsupported type.
    """
    import torch

    if type(tensor).__name__ in ("UninitializedParameter", "UninitializedBuffer"):
        raise InvalidModel("is not initialised yet; run the module once before encoding it", tensor=name)
    if tensor.is_quantized:
        raise InvalidModel("torch's quantised tensors are not supported; call dequantize() first", tensor=name)
    if tensor.is_nested or tensor.layout != torch.strided:
        layout = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
        raise InvalidModel(f"torch's {layout} tensors are not supported; call to_dense() first", tensor=name)
    if tensor.is_meta:
        raise InvalidModel("has no data (it is on torch's meta device)", tensor=name)
    if tensor.is_complex():
        raise InvalidModel("complex values are not supported; code real and imaginary parts", tensor=name)
    type_name = str(tensor.dtype).removeprefix("torch.")
    if type_name not in _NUMPY_DTYPES:
        raise InvalidModel(f"values of type {tensor.dtype} are not supported", tensor=name)
    shape = tuple(int(n) for n in tensor.shape)
    dtype = np.dtype(_NUMPY_DTYPES[type_name])
    if kind is None or (len(shape) > 1 and kind is not ParameterKind.LOCAL_SCALING):
        kind = plain_kind(shape)
    return Entry(shape, dtype, kind, lambda: _to_numpy(tensor, dtype))


def _to_numpy(tensor: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Values of a torch tensor of any device; without a copy where they lie in main memory, one after the other."""
    import torch

    plain = tensor.detach().cpu().resolve_neg().contiguous()
    if is_numpy_dtype(dtype):
        array: npt.NDArray[Any] = plain.numpy()
        return array
    carrier = torch.int16 if dtype.itemsize == 2 else torch.uint8  # numpy does not know the type: carry its bits
    view: npt.NDArray[Any] = plain.view(carrier).numpy().view(dtype)
    return view


def open_tensors(tensors: Mapping[str, Any], module: Any) -> Source:
    """Wrap tensors made from those of a module, under the same names or others; see :func:`open_module`.

    Raises:
        InvalidModel: a tensor cannot be encoded.
    """
    kinds = _module_kinds(module)
    entries = {check_name(name): tensor_entry(name, value, kinds.get(name)) for name, value in tensors.items()}
    return Source(entries, "torch", torch_module=module)


def open_module(module: Any) -> Source:
    """Wrap the state dictionary of a ``torch.nn.Module``; nothing is copied.

    Counters such as ``num_batches_tracked`` are kept. Tensors that a module shares between several names (tied
    weights) are kept under every name, since decoding has to restore the whole state dictionary.

    Raises:
        InvalidModel: the state holds something that cannot be encoded.
    """
    entries: dict[str, Entry] = {}
    kinds = _module_kinds(module)
    for name, value in module.state_dict().items():
        check_name(name)
        if not is_tensor(value):
            raise InvalidModel(f"is not a tensor but {type(value).__name__}", tensor=name)
        entries[name] = tensor_entry(name, value, kinds.get(name))
    return Source(entries, "torch", torch_module=module)


def _module_kinds(module: Any) -> dict[str, ParameterKind]:
    """Role of every parameter and buffer that is not a weight, as told by the module that owns it."""
    import torch

    batch_norms = tuple(getattr(torch.nn, name) for name in _BATCH_NORMS)
    kinds: dict[str, ParameterKind] = {}
    for path, owner in module.named_modules(remove_duplicate=False):
        prefix = f"{path}." if path else ""
        if isinstance(owner, batch_norms):
            kinds.update((prefix + leaf, kind) for leaf, kind in _BATCH_NORM_KINDS.items())
        else:
            kinds[prefix + "bias"] = ParameterKind.BIAS
        kinds[prefix + "weight_scaling"] = ParameterKind.LOCAL_SCALING
    return kinds


def open_file(path: Path) -> Source:
    """Open a file that ``torch.save`` wrote: a state dictionary, or a checkpoint that holds one.

    The file is mapped into memory, not read at once, and code in it is never executed (``weights_only``). A checkpoint
    may hold the state dictionary under ``state_dict``, ``model`` or ``model_state_dict``. A prefix ``module.`` that all
    names share (left by ``DataParallel``) is removed.

    Raises:
        InvalidModel: torch is missing, or the file holds no state dictionary of tensors.
        OSError: the file cannot be read.
    """
    torch = _import_torch(f"reading {path.suffix} files")
    with path.open("rb") as file:
        is_archive = zipfile.is_zipfile(file)
    try:
        # files older than torch 1.6 are not zip archives, and cannot be mapped
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except pickle.UnpicklingError as error:
        raise InvalidModel(
            f"{path} is damaged or holds Python objects besides tensors, which could run code; "
            "load it where you trust it and save its state_dict()"
        ) from error
    except (RuntimeError, ValueError, EOFError, KeyError, AttributeError, UnicodeDecodeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise InvalidModel(f"{path} is not a file with a PyTorch state dictionary ({reason})") from error
    state = _state_dict(content, path)
    if state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return Source({name: tensor_entry(name, value) for name, value in state.items()}, "pt")


def _state_dict(content: Any, path: Path) -> dict[str, Any]:
    """The one state dictionary in what a file holds; every value is a tensor."""
    if not isinstance(content, Mapping):
        raise InvalidModel(f"{path} holds no state dictionary but {type(content).__name__}")
    found = [key for key in _CHECKPOINT_KEYS if isinstance(content.get(key), Mapping)]
    if len(found) > 1:
        keys = " and ".join(map(repr, found))
        raise InvalidModel(f"{path} holds models under {keys}; save the one that is meant on its own")
    state = content[found[0]] if found else content
    nested = [key for key, value in state.items() if isinstance(value, Mapping)]
    if nested:
        keys = ", ".join(map(repr, nested))
        raise InvalidModel(f"{path} holds dictionaries under {keys}; save the one with the tensors on its own")
    for name, value in state.items():
        check_name(name)
        if not is_tensor(value):
            raise InvalidModel(f"is not a tensor but {type(value).__name__}", tensor=name)
    return dict(state)


def write(tensors: LazyTensors, file: BinaryIO) -> None:
    """Write tensors as a PyTorch state dictionary, for ``torch.load``; needs all of them in memory.

    Raises:
        InvalidModel: torch is missing.
    """
    torch = _import_torch("writing .pt files")
    names = tensors.names
    arrays = zip(names, tensors.iterate(names), strict=True)
    torch.save(
        {name: to_torch(np.ascontiguousarray(value).reshape(tensors.shape(name))) for name, value in arrays}, file
    )


def to_torch(array: npt.NDArray[Any]) -> Any:
    """A torch tensor that shares the memory of a contiguous array."""
    import torch

    carrier = array if is_numpy_dtype(array.dtype) else array.view(np.int16 if array.itemsize == 2 else np.uint8)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # it is only read
        tensor = torch.from_numpy(carrier)
    return tensor if carrier is array else tensor.view(getattr(torch, array.dtype.name))


def _import_torch(purpose: str) -> Any:
    try:
        import torch
    except ImportError as error:
        raise InvalidModel(f"{purpose} needs PyTorch; install it with: pip install torch") from error
    return torch
