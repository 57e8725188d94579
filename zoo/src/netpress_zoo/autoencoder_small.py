"""An autoencoder for photographs of the size that the core experiments on neural network coding have, trained here."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from netpress import Task
from netpress.evaluate.data import layers_of
from netpress_zoo.autoencoder import ImageAutoencoder, coding_loss, crops, quality_task, rate_task
from netpress_zoo.training import Recipe, TrainedNetwork

__all__ = ["SmallImageAutoencoder", "small_autoencoder", "small_autoencoder_rate"]

_NAME = "image-autoencoder-small"
_WIDE, _NARROW = 30, 17
_EPOCHS, _RATE = 10, 3e-3


class SmallImageAutoencoder(ImageAutoencoder):
    """About 75,000 parameters."""

    def __init__(self) -> None:
        super().__init__(_WIDE, _NARROW)


def small_autoencoder(data: Path, limit: int | None = None, cache: str | Path | None = None) -> Task:
    """Quality of the decoded images: 25.51 dB on 12 images of Kodak, at the rate of :func:`small_autoencoder_rate`.

    Args:
        data: the folder with all data.
        limit: how many of the 12 images to evaluate.
        cache: a folder for the trained weights; None for the user's cache folder.
    """
    return _trained(quality_task(_NAME, data, limit), data, cache)


def small_autoencoder_rate(data: Path, limit: int | None = None, cache: str | Path | None = None) -> Task:
    """Size of the coded images: 0.343 bits per pixel; network and arguments are those of :func:`small_autoencoder`."""
    return _trained(rate_task(f"{_NAME}-rate", data, limit), data, cache)


def _trained(task: Task, data: Path, cache: str | Path | None) -> Task:
    recipe = Recipe(
        name=_NAME,
        network=SmallImageAutoencoder,
        batches=lambda: crops(_NAME, data),
        loss=coding_loss,
        epochs=_EPOCHS,
        learning_rate=_RATE,
        weight_decay=0.0,
        minutes=2,
    )
    description = {
        **task.description,
        "use case": "image compression",
        "network": f"autoencoder of three convolutions and three transposed ones, {_WIDE} channels inside, {_NARROW} "
        "channels of integers between",
        "layers": layers_of(SmallImageAutoencoder),
        "source": f"weights: trained here with these photographs, {_EPOCHS} epochs; images: EmilienDupont/coin, "
        "EliSchwartz/imagenet-sample-images",
        "licence": "Kodak images: free to use; photographs: for research",
    }
    return dataclasses.replace(task, model=TrainedNetwork(recipe, cache).get, description=description)
