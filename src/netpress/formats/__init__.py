"""Model formats: everything that can be encoded as a :class:`Source`, and decoded tensors as a file.

A framework is imported only when a model needs it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netpress.errors import InvalidModel
from netpress.formats import arrays, npz, pytorch, safetensors
from netpress.formats.save import OUTPUT_FORMATS, output_format, save_tensors, write_tensors
from netpress.formats.source import SUPPORTED_DTYPES, Entry, Source

__all__ = [
    "OUTPUT_FORMATS",
    "SUPPORTED_DTYPES",
    "Entry",
    "Source",
    "open_source",
    "output_format",
    "save_tensors",
    "write_tensors",
]

_INDEX_SUFFIX = ".safetensors.index.json"
_OPENERS = {
    ".safetensors": safetensors.open_file,
    ".npz": npz.open_file,
    ".pt": pytorch.open_file,
    ".pth": pytorch.open_file,
    ".bin": pytorch.open_file,
}


def open_source(source: Any) -> Source:
    """Open a model for encoding.

    A tensor of a file or dictionary is a weight when it has two or more dimensions; a torch module tells the role of
    its other parameters too (bias, batch norm, local scaling).

    Args:
        source: one of

            * a dictionary name -> numpy array (ml_dtypes' bfloat16 and 8-bit floats included), torch tensor, list of
              numbers or number; a torch state dictionary is one;
            * a ``torch.nn.Module``: its state dictionary, counters and every name of tied weights included;
            * the path of a .safetensors, .safetensors.index.json, .npz, .pt, .pth or .bin file (the last three as
              written by ``torch.save``), or of a directory with a model.safetensors or its index;
            * a :class:`Source`, returned as it is.

    Returns:
        The tensors by name, none of them loaded yet.

    Raises:
        InvalidModel: the source is none of these, is empty or damaged, or a tensor cannot be encoded (names it).
        OSError: a file is missing or cannot be read.

    Example:
        >>> model = open_source({"w": [[1.0, 2.0]], "b": [0.5]})
        >>> [(name, model.kind(name).value) for name in model.names]
        [('w', 'weight'), ('b', 'unspecified')]
    """
    opened = _open(source)
    if not opened.names:
        opened.close()
        raise InvalidModel("the model holds no tensors")
    return opened


def _open(source: Any) -> Source:
    if isinstance(source, Source):
        return source
    if isinstance(source, Mapping):
        return arrays.open_mapping(source)
    if pytorch.is_module(source):
        return pytorch.open_module(source)
    if isinstance(source, (str, os.PathLike)):
        return _open_path(Path(source))
    raise InvalidModel(
        f"a model is a dictionary of arrays, a torch module or the path of a file, not {type(source).__name__}"
    )


def _open_path(path: Path) -> Source:
    if path.is_dir():
        path = _model_in(path)
    path.stat()  # a missing file is reported as such, whatever its extension
    if path.name.endswith(_INDEX_SUFFIX):
        return safetensors.open_index(path)
    opener = _OPENERS.get(path.suffix.lower())
    if opener is None:
        supported = ", ".join([*_OPENERS, _INDEX_SUFFIX])
        raise InvalidModel(f"{path} has an unknown extension; supported are {supported}")
    return opener(path)


def _model_in(folder: Path) -> Path:
    """The model file in a directory, named as model hubs do."""
    found = [path for name in ("model.safetensors", "model" + _INDEX_SUFFIX) if (path := folder / name).is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidModel(f"{folder} holds both {found[0].name} and {found[1].name}; give the path of one")
    raise InvalidModel(f"{folder} holds no model.safetensors or model{_INDEX_SUFFIX}; give the path of the model file")
