"""Files of a task: a folder that names the files it lacks, weights, images."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from netpress import InvalidConfig, InvalidModel

__all__ = ["DataFolder", "build", "decode_image", "layers_of"]

_COUNTER = "num_batches_tracked"


class DataFolder:
    """One folder of the data; all files that a task needs are there, or it is not made."""

    def __init__(self, task: str, root: Path, folder: str, files: Mapping[str, str]) -> None:
        """Check that the files exist.

        Args:
            task: name of the task, for the message.
            root: the folder that the user gave.
            folder: name of the folder in it.
            files: name of a file (or folder) -> what it holds, in words.

        Raises:
            InvalidConfig: one is missing; the message lists all that are wanted.
        """
        self.path = Path(root) / folder
        self._arrays: dict[str, dict[str, npt.NDArray[Any]]] = {}
        missing = [name for name in files if not (self.path / name).exists()]
        if missing:
            wanted = "".join(f"\n  {folder}/{name}: {content}" for name, content in files.items())
            raise InvalidConfig(f"task {task!r}: no {', '.join(missing)} in {self.path}; wanted in {root}:{wanted}")

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of an .npz file, by name; read once."""
        if name not in self._arrays:
            with np.load(self.path / name) as archive:
                self._arrays[name] = dict(archive)
        return self._arrays[name]

    def images(self, pattern: str, mode: str) -> list[npt.NDArray[np.uint8]]:
        """Return the images whose paths match a pattern, sorted by path, in Pillow's ``mode``."""
        return [decode_image(path.read_bytes(), mode) for path in sorted(self.path.glob(pattern))]


def decode_image(content: bytes | npt.NDArray[np.uint8], mode: str = "RGB") -> npt.NDArray[np.uint8]:
    """Return an image file as uint8, (height, width, 3) for mode RGB and (height, width) for mode L."""
    with Image.open(io.BytesIO(bytes(content))) as image:
        return np.array(image if image.mode == mode else image.convert(mode))


def build(network: Callable[[], nn.Module], weights: Path) -> nn.Module:
    """Build a network with the weights of a .safetensors file, in inference mode; torch's random state is kept.

    Counters of batch norms may be missing in the file; inference does not use them. Buffers that the network makes
    itself may be there; they are not read.

    Raises:
        InvalidModel: other names differ, or a shape does.
    """
    with torch.random.fork_rng(devices=[]):
        module = network()
    try:
        found = module.load_state_dict(load_file(weights), strict=False)
    except RuntimeError as error:
        raise InvalidModel(f"{weights}: {error}") from None
    constants = dict(module.named_buffers())
    missing = [name for name in found.missing_keys if not name.endswith(_COUNTER)]
    unexpected = [name for name in found.unexpected_keys if name not in constants]
    if missing or unexpected:
        raise InvalidModel(f"{weights}: missing {missing}, unexpected {unexpected}")
    return module.eval()


def layers_of(network: Callable[[], nn.Module]) -> str:
    """Return the layers of a network and its number of parameters in words, and keep torch's random state."""
    with torch.random.fork_rng(devices=[]):
        module = network()
    counts: dict[str, int] = {}
    for layer in list(module.modules())[1:]:
        if next(layer.parameters(recurse=False), None) is not None and not isinstance(layer, nn.ParameterList):
            counts[type(layer).__name__] = counts.get(type(layer).__name__, 0) + 1
    layers = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return f"{layers}; {sum(parameter.numel() for parameter in module.parameters()):,} parameters"
