"""Two small networks that tell the 1000 classes of ImageNet.

Sources: Howard et al., MobileNets (2017); J. Redmon's Darknet reference classifier "tiny".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Task
from netpress.evaluate.augmentation import shift_and_flip
from netpress.evaluate.classification import classification_task
from netpress.evaluate.data import DataFolder, layers_of
from netpress.evaluate.samples import Samples, choose
from netpress_zoo import imagenet_images

__all__ = ["DarknetTiny", "MobileNetV1", "darknet", "mobilenetv1"]

_EPSILON = 1e-3
_CALIBRATION = 256


def mobilenetv1(data: Path, limit: int | None = None, all_images: bool = False) -> Task:
    """MobileNetV1 0.75 for 224x224 pixels: 83.13 % of all 800 images.

    There is one set of 800 labelled images. 256 of them, a fixed random choice, serve for calibration and training,
    and 544 to evaluate. With ``all_images`` all 800 evaluate, and there are none to calibrate or train with.
    """
    description = {
        "network": "MobileNetV1, width multiplier 0.75",
        "source": "weights: tangmingsh/ml5featureExtractormodel (Keras); images: EliSchwartz/imagenet-sample-images",
        "licence": "weights: Apache-2.0; images: for research",
    }
    weights = "mobilenet_v1_075_224.safetensors"
    return _task(
        "imagenet-mobilenetv1", MobileNetV1, weights, lambda x: x / 127.5 - 1, description, data, limit, all_images
    )


def darknet(data: Path, limit: int | None = None, all_images: bool = False) -> Task:
    """Darknet tiny for 224x224 pixels: 65.38 % of all 800 images; they are divided as for :func:`mobilenetv1`."""
    description = {
        "network": "Darknet reference classifier, tiny",
        "source": "weights: ml5js/ml5-data-and-models (pjreddie/darknet); images: EliSchwartz/imagenet-sample-images",
        "licence": "weights: public domain; images: for research",
    }
    weights = "darknet_tiny_224.safetensors"
    return _task("imagenet-darknet", DarknetTiny, weights, lambda x: x / 255, description, data, limit, all_images)


def _task(
    name: str,
    network: Callable[[], nn.Module],
    weights: str,
    normalise: Callable[[Tensor], Tensor],
    description: Mapping[str, str],
    data: Path,
    limit: int | None,
    all_images: bool,
) -> Task:
    folder = DataFolder(name, data, imagenet_images.FOLDER, {weights: "weights", **imagenet_images.FILES})
    labels = folder.arrays(imagenet_images.FILE)["labels"]
    read_pixels = imagenet_images.reader(folder)

    def read(rows: np.ndarray) -> Tensor:
        return normalise(read_pixels(rows).float())

    held_back = choose(len(labels), _CALIBRATION)
    evaluated = np.arange(len(labels)) if all_images else np.setdiff1d(np.arange(len(labels)), held_back)
    evaluated = evaluated[choose(len(evaluated), limit)]
    images = (
        "all 800 evaluate, none is left to calibrate"
        if all_images
        else f"{len(labels) - _CALIBRATION} evaluate, {_CALIBRATION} others calibrate and train"
    )
    rest: dict[str, Any] = {"calibration": None, "train": None}
    if not all_images:
        rest["calibration"] = Samples(read, held_back)
        rest["train"] = Samples(read, held_back, labels, shift_and_flip)
    return classification_task(
        name,
        network=network,
        weights=folder.path / weights,
        test=Samples(read, evaluated, labels),
        size=32,
        train_size=32,
        description={
            "use case": "image classification",
            "layers": layers_of(network),
            "data": f"800 photographs of 800 of the classes of ImageNet, 224x224 pixels; {images}. Probably training "
            "images of the networks, so that absolute accuracies are optimistic",
            **description,
        },
        **rest,
    )


class _ConvBN(nn.Module):
    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, 3, 2, bias=False)
        self.bn = nn.BatchNorm2d(width, _EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu6(self.bn(self.conv(nn.functional.pad(x, (0, 1, 0, 1)))))


class _Separable(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(width_in, width_in, 3, stride, 1 if stride == 1 else 0, groups=width_in, bias=False)
        self.dw_bn = nn.BatchNorm2d(width_in, _EPSILON)
        self.pw = nn.Conv2d(width_in, width, 1, bias=False)
        self.pw_bn = nn.BatchNorm2d(width, _EPSILON)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            x = nn.functional.pad(x, (0, 1, 0, 1))
        x = nn.functional.relu6(self.dw_bn(self.dw(x)))
        return nn.functional.relu6(self.pw_bn(self.pw(x)))


class MobileNetV1(nn.Module):
    """Thirteen depthwise separable convolutions, with the padding of TensorFlow."""

    _WIDTHS = (24, 48, 96, 96, 192, 192, 384, 384, 384, 384, 384, 384, 768, 768)
    _STRIDED = (2, 4, 6, 12)

    def __init__(self) -> None:
        super().__init__()
        blocks = [
            _Separable(width_in, width, 2 if place in self._STRIDED else 1)
            for place, (width_in, width) in enumerate(zip(self._WIDTHS, self._WIDTHS[1:], strict=False), 1)
        ]
        self.features = nn.Sequential(_ConvBN(3, self._WIDTHS[0]), *blocks)
        self.classifier = nn.Linear(self._WIDTHS[-1], 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 1000) of images (n, 3, 224, 224) with values from -1 to 1."""
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


class DarknetTiny(nn.Module):
    """Sixteen convolutions, of 3x3 and 1x1 pixels."""

    _WIDTHS = (16, 32, 16, 128, 16, 128, 32, 256, 32, 256, 64, 512, 64, 512, 128, 1000)
    _LARGE = (1, 2, 4, 6, 8, 10, 12, 14)
    _POOLED = (1, 2, 6, 10)

    def __init__(self) -> None:
        super().__init__()
        width_in, last = 3, len(self._WIDTHS)
        for place, width in enumerate(self._WIDTHS, 1):
            kernel = 3 if place in self._LARGE else 1
            self.add_module(f"conv{place}", nn.Conv2d(width_in, width, kernel, 1, kernel // 2, bias=place == last))
            if place < last:
                self.add_module(f"bn{place}", nn.BatchNorm2d(width, _EPSILON))
            width_in = width

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 1000) of images (n, 3, 224, 224) with values from 0 to 1."""
        last = len(self._WIDTHS)
        for place in range(1, last):
            x = self.get_submodule(f"conv{place}")(x)
            x = nn.functional.leaky_relu(self.get_submodule(f"bn{place}")(x), 0.1)
            if place in self._POOLED:
                x = nn.functional.max_pool2d(x, 2)
        return torch.mean(self.get_submodule(f"conv{last}")(x), (2, 3))
