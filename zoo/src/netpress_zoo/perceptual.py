"""A distance of pictures as people see them: that of the features of a network for photographs.

Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (2018); here with the
features of MobileNetV1 and without the learned weights of channels, which every channel has alike.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.data import DataFolder, build, layers_of
from netpress.evaluate.metrics import spearman
from netpress.evaluate.samples import Batches, Epochs, choose, inference
from netpress_zoo import imagenet_images
from netpress_zoo.distortions import GRADES, KINDS, distorted
from netpress_zoo.imagenet import MobileNetV1

__all__ = ["PerceptualDistance", "perceptual_mobilenet"]

_NAME = "perceptual-mobilenet"
_WEIGHTS = "mobilenet_v1_075_224.safetensors"
_PATCH = 128
_CALIBRATION = 256
_TAPS = (1, 3, 5, 11, 13)
"""Blocks whose outputs are compared: the last ones before each reduction of the resolution, and the last."""
_CORNER = (192, 192)
"""Top and left of the patch of an image of Kodak."""


def perceptual_mobilenet(data: Path, limit: int | None = None) -> Task:
    """Perceptual distance with the features of MobileNetV1: rank correlation with the distances of the float network.

    A sample is a patch of a photograph and a distorted copy, of 240; the float network agrees with itself, so that its
    correlation is 1.
    """
    folder = DataFolder(_NAME, data, imagenet_images.FOLDER, {_WEIGHTS: "weights", **imagenet_images.FILES})
    kodak = DataFolder(_NAME, data, "image-sets", {"kodak": "PNG images"}).images("kodak/*.png", "RGB")
    read_pixels = imagenet_images.reader(folder)
    chosen = choose(len(kodak) * len(KINDS) * GRADES, limit)
    evaluation = Batches(len(chosen), 40, lambda rows: _pairs([_patch(kodak, int(row)) for row in chosen[rows]]))

    def pairs_of(rows: np.ndarray, places: np.ndarray, corners: np.ndarray) -> Tensor:
        images = read_pixels(rows).permute(0, 2, 3, 1).numpy()
        cut = [image[y : y + _PATCH, x : x + _PATCH] for image, (y, x) in zip(images, corners, strict=True)]
        return _pairs([_with_distortion(patch, int(place)) for patch, place in zip(cut, places, strict=True)])

    def fixed(rows: np.ndarray) -> Tensor:
        return pairs_of(calibration[rows], rows, np.full((len(rows), 2), (224 - _PATCH) // 2))

    def random_pairs(rows: np.ndarray, generator: torch.Generator) -> Tensor:
        places = torch.randint(0, 1 << 20, (len(rows),), generator=generator).numpy()
        return pairs_of(rows, places, torch.randint(0, 224 - _PATCH, (len(rows), 2), generator=generator).numpy())

    def model() -> nn.Module:
        return PerceptualDistance(build(MobileNetV1, folder.path / _WEIGHTS)).eval()

    calibration = choose(imagenet_images.COUNT, _CALIBRATION)
    agreement = _Agreement(model, evaluation)
    return Task(
        name=_NAME,
        model=model,
        train_batches=lambda: Epochs(imagenet_images.COUNT, 16, random_pairs),
        calibration_batches=Batches(_CALIBRATION, 16, fixed),
        evaluation_batches=evaluation,
        evaluate=agreement.scores,
        metric="rank correlation with the float network",
        description={
            "use case": "learned quality metric",
            "network": "MobileNetV1, width multiplier 0.75, without its classifier; distances of its features after "
            f"blocks {', '.join(map(str, _TAPS))}",
            "layers": layers_of(PerceptualDistance),
            "data": f"a patch of {_PATCH}x{_PATCH} pixels of each of 12 Kodak images, with blur, noise, JPEG and "
            f"scaling in {GRADES} grades, evaluate; parts of 800 photographs of ImageNet so distorted train, "
            f"{_CALIBRATION} of them calibrate",
            "source": "weights: tangmingsh/ml5featureExtractormodel (Keras); images: EmilienDupont/coin, "
            "EliSchwartz/imagenet-sample-images",
            "licence": "weights: Apache-2.0; Kodak images: free to use; photographs: for research",
        },
    )


def _patch(images: list[np.ndarray], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Patch and distorted copy of a sample: grades run fastest, then kinds, then images."""
    image, distortion = divmod(number, len(KINDS) * GRADES)
    top, left = _CORNER
    picture = images[image][top : top + _PATCH, left : left + _PATCH]
    return _with_distortion(picture, distortion, seed=number)


def _with_distortion(patch: np.ndarray, number: int, seed: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    kind, grade = divmod(number % (len(KINDS) * GRADES), GRADES)
    return patch, distorted(np.ascontiguousarray(patch), list(KINDS)[kind], grade, number if seed is None else seed)


def _pairs(pictures: list[tuple[np.ndarray, np.ndarray]]) -> Tensor:
    """Pairs (n, 2, 3, height, width) with values from -1 to 1."""
    values = torch.from_numpy(np.stack([np.stack(pair) for pair in pictures]))
    return values.permute(0, 1, 4, 2, 3).float() / 127.5 - 1


class _Agreement:
    """Compares the distances of a network with those of the float one, which are found once."""

    def __init__(self, model: Callable[[], nn.Module], pairs: Batches) -> None:
        self._model, self._pairs = model, pairs
        self._wanted: np.ndarray | None = None

    def scores(self, module: nn.Module) -> Scores:
        """Distances of the float network and of this one, (n, 2), and their rank correlation."""
        if self._wanted is None:
            self._wanted = _distances(self._model(), self._pairs)
        return Scores(np.stack([self._wanted, _distances(module, self._pairs)], 1), spearman)


def _distances(module: nn.Module, pairs: Batches) -> np.ndarray:
    with inference(module) as device:
        return np.concatenate([module(batch.to(device)).cpu().double().numpy() for batch in pairs])


class PerceptualDistance(nn.Module):
    """Mean squared distance of features whose channels have length 1 at each place, summed over several depths."""

    def __init__(self, network: MobileNetV1 | nn.Module | None = None) -> None:
        super().__init__()
        features = (MobileNetV1() if network is None else network).features
        assert isinstance(features, nn.Sequential)
        self.features = features

    def forward(self, pairs: Tensor) -> Tensor:
        """Distances (n,) of pairs of images (n, 2, 3, height, width) with values from -1 to 1."""
        x = pairs.flatten(0, 1)
        total = x.new_zeros(len(pairs))
        for place, block in enumerate(self.features):
            x = block(x)
            if place in _TAPS:
                unit = nn.functional.normalize(x, dim=1).reshape(-1, 2, *x.shape[1:])
                total = total + (unit[:, 0] - unit[:, 1]).square().sum(1).mean((1, 2))
        return total
