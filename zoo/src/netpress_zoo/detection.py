"""Detection of objects in photographs of rooms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.data import DataFolder, build, decode_image, layers_of
from netpress.evaluate.samples import Batches, Epochs, choose, inference
from netpress_zoo import imagenet_images
from netpress_zoo.fastestdet import FastestDet

__all__ = ["detection_fastestdet"]

_NAME = "detection-fastestdet"
_WEIGHTS, _FILE = "fastestdet_coco.safetensors", "images_boxes.npz"
_SIDE = 352
_THRESHOLD = 0.01
_SAME_OBJECT = 0.45  # overlap of two detections of one object
_HIT = 0.5  # overlap of a detection with an object
_FEWEST_BOXES = 5
_CALIBRATION = 256


def detection_fastestdet(data: Path, limit: int | None = None) -> Task:
    """FastestDet: mean average precision 21.71 % at an overlap of 0.5, over 56 images with 241 boxes of 15 classes."""
    contents = "jpeg, uint8, and offsets: images back to back; boxes, float32 (n, 6): image, class, x1, y1, x2, y2"
    folder = DataFolder(_NAME, data, _NAME, {_WEIGHTS: "weights", _FILE: contents})
    archive = folder.arrays(_FILE)
    offsets, boxes = archive["offsets"], archive["boxes"]
    chosen = choose(len(offsets) - 1, limit)
    images = [_read(archive["jpeg"][offsets[row] : offsets[row + 1]]) for row in chosen]
    truths = [boxes[boxes[:, 0] == row, 1:] for row in chosen]
    classes, counts = np.unique(boxes[:, 1], return_counts=True)
    counted = classes[counts >= _FEWEST_BOXES]
    evaluation = Batches(len(images), 1, lambda rows: _prepare(images[rows[0]]))
    photographs = imagenet_images.reader(DataFolder(_NAME, data, imagenet_images.FOLDER, imagenet_images.FILES))
    some = choose(imagenet_images.COUNT, _CALIBRATION)

    def train(rows: np.ndarray, generator: torch.Generator) -> Tensor:
        batch = _prepare(photographs(rows))
        return batch.flip(3) if torch.rand((), generator=generator) < 0.5 else batch

    return Task(
        name=_NAME,
        model=lambda: build(FastestDet, folder.path / _WEIGHTS),
        train_batches=lambda: Epochs(imagenet_images.COUNT, 16, train),
        calibration_batches=Batches(_CALIBRATION, 16, lambda rows: _prepare(photographs(some[rows]))),
        evaluation_batches=evaluation,
        evaluate=lambda module: _detect_all(module, images, truths, counted),
        metric="mean average precision at overlap 0.5",
        unit="%",
        description={
            "use case": "object detection",
            "network": "FastestDet on ShuffleNetV2 for 352x352 pixels, 80 classes of COCO",
            "layers": layers_of(FastestDet),
            "data": f"56 photographs of rooms with 241 boxes evaluate, over the classes with {_FEWEST_BOXES} or more; "
            f"800 photographs of ImageNet train on the network's own outputs, {_CALIBRATION} of them calibrate",
            "source": "weights: dog-qiuqiu/FastestDet; images: Cartucho/mAP, EliSchwartz/imagenet-sample-images",
            "licence": "weights: BSD-3-Clause; images: Apache-2.0, for research",
        },
    )


def _read(jpeg: np.ndarray) -> Tensor:
    return torch.from_numpy(decode_image(jpeg)).permute(2, 0, 1)[None]


def _prepare(images: Tensor) -> Tensor:
    """Inputs (n, 3, 352, 352), blue first, of 8-bit images (n, 3, h, w), red first; the aspect is not kept."""
    resized = nn.functional.interpolate(images.float(), (_SIDE, _SIDE), mode="bilinear", align_corners=False)
    return resized.round().flip(1) / 255


def _detect_all(module: nn.Module, images: list[Tensor], truths: list[np.ndarray], counted: np.ndarray) -> Scores:
    """Of each image, its detections and objects as (class, score, hit); an object has score -1, filling class -1."""
    entries = []
    with inference(module) as device:
        for image, truth in zip(images, truths, strict=True):
            output = module(_prepare(image).to(device))[0].cpu()
            found = _decode(output, image.shape[3], image.shape[2])
            entries.append(np.concatenate([_match(found, truth), _objects(truth)]))
    longest = max(len(rows) for rows in entries)
    samples = np.full((len(entries), longest, 3), -1.0, np.float32)
    for sample, rows in zip(samples, entries, strict=True):
        sample[: len(rows)] = rows
    return Scores(samples, lambda chosen: _mean_precision(chosen.reshape(-1, 3), counted))


def _objects(truth: np.ndarray) -> np.ndarray:
    return np.stack([truth[:, 0], np.full(len(truth), -1.0), np.zeros(len(truth))], 1)


def _decode(output: Tensor, width: int, height: int) -> np.ndarray:
    """Detections (n, 6) in an image: class, score, x1, y1, x2, y2 in pixels; highest scores first."""
    rows, columns = output.shape[1:]
    probabilities, classes = output[5:].softmax(0).max(0)
    scores = output[0].sigmoid() ** 0.6 * probabilities**0.4
    x = (output[1].tanh() + torch.arange(columns)) / columns * width
    y = (output[2].tanh() + torch.arange(rows)[:, None]) / rows * height
    half_width, half_height = output[3].sigmoid() * width / 2, output[4].sigmoid() * height / 2
    corners = (x - half_width, y - half_height, x + half_width, y + half_height)
    cells = torch.stack([classes.float(), scores, *corners], -1).flatten(0, 1).numpy()
    cells = cells[cells[:, 1] > _THRESHOLD]
    return _suppress(cells[np.argsort(-cells[:, 1], kind="stable")])


def _suppress(found: np.ndarray) -> np.ndarray:
    """Leave out detections that overlap with a better one of the same class."""
    kept: list[int] = []
    left = np.arange(len(found))
    while len(left):
        best, left = int(left[0]), left[1:]
        kept.append(best)
        same = found[left, 0] == found[best, 0]
        left = left[~(same & (_overlaps(found[best, 2:], found[left, 2:]) > _SAME_OBJECT))]
    return found[kept]


def _overlaps(box: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of a box with each of others, (n, 4)."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.prod(np.maximum(sides, 0), 1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], 1)
    union = np.prod(box[2:] - box[:2]) + areas - shared
    shares: np.ndarray = shared / np.maximum(union, 1e-9)  # boxes of no area overlap with nothing
    return shares


def _match(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Class, score and hit of detections, best first; an object is hit once, by the detection that fits it best."""
    hits, taken = np.zeros(len(found)), np.zeros(len(truth), bool)
    for place, (kind, _, *box) in enumerate(found):
        same = np.flatnonzero(truth[:, 0] == kind)
        if len(same):
            overlaps = _overlaps(np.array(box), truth[same, 1:])
            best = same[overlaps.argmax()]
            if overlaps.max() >= _HIT and not taken[best]:
                hits[place], taken[best] = 1, True
    return np.stack([found[:, 0], found[:, 1], hits], 1)


def _mean_precision(entries: np.ndarray, counted: np.ndarray) -> float:
    """Mean over classes of the area under the curve of precision over recall, in percent."""
    areas = []
    for kind in counted:
        own = entries[entries[:, 0] == kind]
        objects, found = int((own[:, 1] < 0).sum()), own[own[:, 1] >= 0]
        if objects:
            areas.append(_average_precision(found[np.argsort(-found[:, 1], kind="stable"), 2], objects))
    return float(100 * np.mean(areas)) if areas else 0.0


def _average_precision(hits: np.ndarray, objects: int) -> float:
    """Area under the envelope of precision over recall.

    Args:
        hits: 1 or 0 for each detection, best first.
        objects: number of objects to find.
    """
    total = np.cumsum(hits)
    precision = total / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(envelope * hits) / objects)
