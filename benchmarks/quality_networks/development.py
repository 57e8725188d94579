"""Small networks on which settings may be chosen, trained here on training data that judges nothing.

Each has a structure that judged networks have too: inverted residuals with ReLU6 and linear projections, separable
convolutions, residual blocks, squeeze and excitation with hard swish, recurrent cells, layer norms, transposed
convolutions. A part of the training data is not trained on but evaluates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from measures import Network
from netpress import Task
from netpress.evaluate.augmentation import shift_and_flip
from netpress.evaluate.classification import classification_task, cross_entropy
from netpress.evaluate.data import DataFolder, decode_image
from netpress.evaluate.samples import Samples, choose
from netpress_zoo import cifar10, spoken_digits
from netpress_zoo.denoise import denoising_loss
from netpress_zoo.training import Recipe, TrainedNetwork
from quality_networks import imagenet, small
from quality_networks.tasks import task_network

_HELD_BACK = 5
"""One sample of so many evaluates, a fixed random choice."""
_QUICK = 200
_NOISE = 25 / 255


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Training:
    """How a network is trained: its data, and the numbers of a :class:`netpress_zoo.training.Recipe`."""

    network: Callable[[], nn.Module]
    data: Callable[[Path], tuple[Samples, Samples]]
    epochs: int
    learning_rate: float = 3e-3
    loss: Callable[[nn.Module, tuple[Tensor, Tensor]], Tensor] = cross_entropy
    is_classifier: bool = True


def trained_network(name: str, data: Path, cache: Path, quick: bool = False) -> Network:
    """Return a network, trained if it is not in a folder yet (a minute or two).

    Args:
        name: one of :data:`TRAINED`.
        data: folder of the corpus.
        cache: for the weights.
        quick: whether few samples are enough.
    """
    training = TRAINED[name]
    train, test = training.data(data)
    if quick:
        test = dataclasses.replace(test, indices=test.indices[:: max(1, len(test) // _QUICK)])
    recipe = Recipe(
        name=name,
        network=training.network,
        batches=lambda: train.epochs(64 if training.is_classifier else 16),
        loss=training.loss,
        epochs=training.epochs,
        learning_rate=training.learning_rate,
        minutes=2,
    )
    weights = TrainedNetwork(recipe, cache / "trained").get
    if training.is_classifier:
        task = classification_task(
            name,
            network=training.network,
            weights=weights,
            test=test,
            calibration=None,
            train=None,
            description={},
        )
    else:
        task = Task(name=name, model=weights, evaluation_batches=test.batches(16))
    return task_network(task)


def photograph_network(name: str, module: nn.Module, data: Path, side: int, quick: bool = False) -> Network:
    """Return an ImageNet network with squares of the photographs of the corpus, which have no labels.

    Args:
        name: of the network.
        module: the network.
        data: folder of the corpus.
        side: of the images.
        quick: whether few images are enough.
    """
    from PIL import Image

    paths = sorted(p for part in ("kodak", "set14", "set5") for p in (data / "image-sets" / part).glob("*.png"))
    squares = []
    for path in paths:
        image = Image.fromarray(decode_image(path.read_bytes()))
        length = min(image.size)
        for left, top in {(0, 0), (image.width - length, image.height - length)}:
            square = image.crop((left, top, left + length, top + length))
            squares += [square, square.crop((0, 0, length * 2 // 3, length * 2 // 3))]
    pixels = np.stack([np.asarray(square.resize((side, side)), np.float32) for square in squares[:: 3 if quick else 1]])
    images = imagenet.lite_inputs(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    batches = list(images.split(16))
    return task_network(Task(name=name, model=lambda: module, evaluation_batches=batches, outputs="logits"))


def _parts(
    inputs: Tensor, labels: np.ndarray, augment: Callable[[Tensor, torch.Generator], Tensor] | None = None
) -> tuple[Samples, Samples]:
    """Samples to train on and samples to evaluate."""
    held_back = choose(len(inputs), len(inputs) // _HELD_BACK)
    rest = np.setdiff1d(np.arange(len(inputs)), held_back)
    return (
        Samples(lambda chosen: inputs[chosen], rest, labels, augment),
        Samples(lambda chosen: inputs[chosen], held_back, labels),
    )


def _cifar10(data: Path) -> tuple[Samples, Samples]:
    train = cifar10.cifar10_sets(DataFolder("development", data, "cifar10-resnet", cifar10.FILES), None)[2]
    assert train.labels is not None
    return _parts(train.inputs(np.arange(len(train))), train.labels, shift_and_flip)


def _digits(data: Path) -> tuple[Samples, Samples]:
    archive = DataFolder("development", data, "fsdd", {"train_idx5-19.npz": "recordings"}).arrays("train_idx5-19.npz")
    return _parts(spoken_digits._features(archive), archive["labels"], spoken_digits._augment)


def _sentences(data: Path) -> tuple[Samples, Samples]:
    """Sentences as numbers of their words, which come from a checksum of the word, and whether they praise."""
    import zlib

    lines = (data / "text" / "sst2_train_8000.tsv").read_text(encoding="utf-8").splitlines()[1:]
    codes, labels = np.zeros((len(lines), small.LENGTH), np.int64), np.zeros(len(lines), np.int64)
    for row, line in enumerate(lines):
        text, label = line.rsplit("\t", 1)
        labels[row] = int(label)
        words = text.lower().split()[: small.LENGTH]
        codes[row, : len(words)] = [1 + zlib.crc32(word.encode()) % (small.WORDS - 1) for word in words]
    return _parts(torch.from_numpy(codes), labels)


def _noisy_images(data: Path) -> tuple[Samples, Samples]:
    """Parts of gray images with noise, and the parts without it."""
    images = DataFolder("development", data, "denoise", {"train_gray_200.npz": "images"}).arrays("train_gray_200.npz")
    corners = [(0, 0), (0, 84), (84, 0), (84, 84)]
    clean = np.concatenate([images["images"][:, y : y + 96, x : x + 96] for y, x in corners]).astype(np.float32) / 255
    clean = clean[:, None]
    noisy = clean + np.random.default_rng(0).normal(0, _NOISE, clean.shape).astype(np.float32)
    return _parts(torch.from_numpy(noisy), clean)


TRAINED = {
    "dev-mobilenetv2": _Training(network=small.mobilenet_v2, data=_cifar10, epochs=6),
    "dev-mobilenetv1": _Training(network=small.mobilenet_v1, data=_cifar10, epochs=4),
    "dev-mobilenetv3": _Training(network=small.mobilenet_v3, data=_cifar10, epochs=4),
    "dev-resnet": _Training(network=small.bottleneck_resnet, data=_cifar10, epochs=4),
    "dev-gru": _Training(network=small.GRU, data=_digits, epochs=12),
    "dev-transformer": _Training(network=small.SentenceTransformer, data=_sentences, epochs=4, learning_rate=2e-3),
    "dev-unet": _Training(network=small.UNet, data=_noisy_images, epochs=5, loss=denoising_loss, is_classifier=False),
}
"""Name -> how it is trained."""
