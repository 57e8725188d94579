"""The bundled network: its weights, its test images and its forward pass in numpy."""

from __future__ import annotations

import importlib.resources
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.formats import open_source

__all__ = ["accuracy", "load_model", "load_test_set", "predict", "read_float_file"]

_MODEL = "digits.safetensors"
_TEST_SET = "digits_test.npz"
_LAYERS = 4
_POOL_AFTER = 2
_EPSILON = 1e-5  # of torch.nn.BatchNorm2d


def load_model() -> dict[str, npt.NDArray[Any]]:
    """Return the trained network, name -> array, with torch's names and layouts."""
    with importlib.resources.as_file(_file(_MODEL)) as path, open_source(path) as source:
        return {name: source.load(name).copy() for name in source.names}


def read_float_file() -> bytes:
    """Return the bundled network as the .safetensors file that it is."""
    content: bytes = _file(_MODEL).read_bytes()
    return content


def load_test_set() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return 597 images that the network was not trained on, (597, 8, 8) with values 0 to 16, and their digits."""
    with np.load(io.BytesIO(_file(_TEST_SET).read_bytes())) as archive:
        return archive["images"], archive["labels"]


def predict(state: Mapping[str, npt.NDArray[Any]], images: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Run the network in numpy.

    Args:
        state: the tensors of the network, by name.
        images: (n, 8, 8) with values 0 to 16.

    Returns:
        Scores of shape (n, 10), float32; the largest one of a row tells the digit.
    """
    values = np.asarray(images, np.float32)[..., None] / np.float32(16)
    for layer in range(1, _LAYERS + 1):
        values = _convolve(values, _as_float(state, f"conv{layer}.weight"))
        gain = _as_float(state, f"bn{layer}.weight") / np.sqrt(_as_float(state, f"bn{layer}.running_var") + _EPSILON)
        shift = _as_float(state, f"bn{layer}.bias") - _as_float(state, f"bn{layer}.running_mean") * gain
        values *= gain
        values += shift
        np.maximum(values, 0, out=values)
        if layer == _POOL_AFTER:
            count, height, width, channels = values.shape
            values = values.reshape(count, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    flat = values.transpose(0, 3, 1, 2).reshape(len(values), -1)
    scores: npt.NDArray[np.float32] = flat @ _as_float(state, "linear.weight").T + _as_float(state, "linear.bias")
    return scores


def accuracy(state: Mapping[str, npt.NDArray[Any]], images: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Return the share of images, 0 to 1, of which the network tells the digit."""
    return float(np.mean(predict(state, images).argmax(axis=1) == np.asarray(labels)))


def _convolve(values: npt.NDArray[np.float32], weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """3x3 convolution with zero padding as one matrix product; values are (n, height, width, channels)."""
    count, height, width, _ = values.shape
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # (n, h, w, channels, 3, 3)
    rows = windows.reshape(count * height * width, -1)
    result: npt.NDArray[np.float32] = rows @ weight.reshape(len(weight), -1).T
    return result.reshape(count, height, width, -1)


def _as_float(state: Mapping[str, npt.NDArray[Any]], name: str) -> npt.NDArray[np.float32]:
    return np.asarray(state[name], np.float32)


def _file(name: str) -> Any:
    return importlib.resources.files("netpress.demo").joinpath(name)
