"""Data of users in the layouts that people have: a folder for each class, with images or sounds in it.

For task files of users:

    samples = image_folder("pets/val", size=224)
    Task(evaluation_batches=samples.batches(32), evaluate=lambda module: top_1(module, samples), ...)

with :func:`netpress.evaluate.classification.top_1`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netpress import InvalidConfig
from netpress.evaluate.samples import Samples, choose

__all__ = ["FolderSamples", "image_folder", "wav_folder"]

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SOUNDS = (".wav",)
_EXAMPLES_SHOWN = 5


class FolderSamples(Samples):
    """Samples with the names of their classes, ``classes``, whose positions are the labels, and their ``files``."""

    classes: tuple[str, ...]
    files: tuple[Path, ...]

    def __init__(
        self,
        read: Callable[[Path], Tensor],
        files: Sequence[Path],
        labels: Sequence[int],
        classes: Sequence[str],
        limit: int | None,
    ) -> None:
        paths = tuple(files)
        object.__setattr__(self, "classes", tuple(classes))
        object.__setattr__(self, "files", paths)

        def read_all(rows: npt.NDArray[np.int64]) -> Tensor:
            return torch.stack([read(paths[row]) for row in rows])

        super().__init__(read_all, choose(len(paths), limit), np.asarray(labels, np.int64))


def image_folder(
    path: str | os.PathLike[str],
    *,
    size: int,
    mean: Sequence[float] = (0.0,),
    deviation: Sequence[float] = (1.0,),
    mode: str = "RGB",
    limit: int | None = None,
) -> FolderSamples:
    """Return images with their labels: a folder for each class, as torchvision's ImageFolder has it.

    The shorter side is resized to ``size`` with Pillow's bicubic filter, and the middle square is cut out.

    Args:
        path: the folder; names of its folders, sorted, are the classes. Images may lie deeper in them.
        size: height and width in pixels.
        mean, deviation: subtracted from values from 0 to 1, and divided by; one for all channels, or one for each.
        mode: of Pillow, ``"RGB"`` or ``"L"``.
        limit: most samples; a fixed random choice.

    Returns:
        Samples whose inputs are float32 (n, channels, size, size), and labels int64.

    Raises:
        InvalidConfig: the folder has another layout; says what was looked for where.
    """
    channels = len(mode)
    for name, values in (("mean", mean), ("deviation", deviation)):
        if len(values) not in (1, channels):
            raise InvalidConfig(f"{name} has {len(values)} values for {channels} channels")
    offset, scale = (torch.tensor(values).reshape(-1, 1, 1) for values in (mean, deviation))

    def read(file: Path) -> Tensor:
        return (torch.from_numpy(_square(file, size, mode)) - offset) / scale

    files, labels, classes = _classes(Path(path), IMAGES, "images")
    return FolderSamples(read, files, labels, classes, limit)


def _square(file: Path, size: int, mode: str) -> npt.NDArray[np.float32]:
    """The middle of an image, (channels, size, size), 0 to 1."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as opened:
            image = opened.convert(mode)
    except (UnidentifiedImageError, OSError) as error:
        raise InvalidConfig(f"{file} is not an image that Pillow can read: {error}") from None
    factor = size / min(image.size)
    image = image.resize([max(size, round(side * factor)) for side in image.size], Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in image.size)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.float32) / 255
    return np.ascontiguousarray(pixels.reshape(size, size, -1).transpose(2, 0, 1))


def wav_folder(path: str | os.PathLike[str], *, rate: int, seconds: float, limit: int | None = None) -> FolderSamples:
    """Return sounds with their labels: a folder for each class, with .wav files in it.

    Channels are averaged. Longer sounds are cut at the end, shorter ones are followed by zeros.

    Args:
        path: the folder; names of its folders, sorted, are the classes. Sounds may lie deeper in them.
        rate: samples a second that the files have to have.
        seconds: length of the inputs.
        limit: most sounds; a fixed random choice.

    Returns:
        Samples whose inputs are float32 (n, rate * seconds), -1 to 1, and labels int64.

    Raises:
        InvalidConfig: the folder has another layout, or a file another rate; says what was looked for where.
    """
    length = round(rate * seconds)
    files, labels, classes = _classes(Path(path), SOUNDS, "sounds")
    return FolderSamples(lambda file: _sound(file, rate, length), files, labels, classes, limit)


def _sound(file: Path, rate: int, length: int) -> Tensor:
    """The first values of a sound, -1 to 1."""
    from scipy.io import wavfile

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # of chunks that are not sound
            found, values = wavfile.read(file)
    except (ValueError, OSError) as error:
        raise InvalidConfig(f"{file} is not a .wav file that scipy can read: {error}") from None
    if found != rate:
        raise InvalidConfig(f"{file} has {found} samples a second, wanted are {rate}")
    sound = _scaled(values)
    sound = sound if sound.ndim == 1 else sound.mean(1)
    result = np.zeros(length, np.float32)
    result[: min(length, len(sound))] = sound[:length]
    return torch.from_numpy(result)


def _scaled(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Integers of any width as numbers from -1 to 1; 8-bit ones have their zero at 128."""
    if values.dtype.kind == "f":
        zero, one = 0, 1
    else:
        zero, one = 128 if values.dtype == np.uint8 else 0, 2 ** (8 * values.itemsize - 1)
    scaled: npt.NDArray[np.float32] = np.subtract(values, zero, dtype=np.float32) / np.float32(one)
    return scaled


def _classes(path: Path, endings: Sequence[str], what: str) -> tuple[list[Path], list[int], list[str]]:
    """Files with their labels, and the names of the classes."""
    layout = f"{path}/CLASS/NAME{endings[0]}, a folder for each class"
    if not path.is_dir():
        raise InvalidConfig(f"there is no folder {path}; wanted are {what} as {layout}")
    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    files: list[Path] = []
    labels: list[int] = []
    for label, folder in enumerate(folders):
        found = sorted(f for f in folder.rglob("*") if f.suffix.lower() in endings and f.is_file())
        if not found:
            raise InvalidConfig(f"no {what} ({', '.join(endings)}) in {folder}; wanted are {what} as {layout}")
        files += found
        labels += [label] * len(found)
    if not files:
        seen = sorted(entry.name for entry in path.iterdir())
        names = ", ".join(seen[:_EXAMPLES_SHOWN]) + (" ..." if len(seen) > _EXAMPLES_SHOWN else "")
        raise InvalidConfig(f"no folders in {path}, which holds {names or 'nothing'}; wanted are {what} as {layout}")
    return files, labels, [folder.name for folder in folders]
