"""What tasks of classification have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.data import build
from netpress.evaluate.samples import Samples, inference

__all__ = ["classification_task", "cross_entropy", "top_1"]


def top_1(module: nn.Module, samples: Samples, size: int = 128) -> Scores:
    """Return 100 for each sample whose largest output is at its label, else 0."""
    hits = []
    with inference(module) as device:
        for inputs, labels in samples.labelled_batches(size):
            hits.append((module(inputs.to(device)).argmax(1).cpu() == labels).numpy())
    return Scores(100 * np.concatenate(hits).astype(np.float32))


def cross_entropy(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross entropy, in nats, of a batch (inputs, labels)."""
    inputs, labels = batch
    logits = module(inputs)
    return torch.nn.functional.cross_entropy(logits, labels.to(logits.device))


def classification_task(
    name: str,
    *,
    network: Callable[[], nn.Module],
    weights: Path | Callable[[], nn.Module],
    test: Samples,
    calibration: Samples | None,
    train: Samples | None,
    description: Mapping[str, str],
    size: int = 128,
    train_size: int = 64,
) -> Task:
    """Return a task whose metric is the share of test samples that are classified right, in percent.

    ``weights`` is a file for ``network``, or what returns the network with its weights.
    """
    absent: dict[str, Any] = {}
    if calibration is not None:
        absent["calibration_batches"] = calibration.batches(size)
    if train is not None:
        absent["train_batches"] = lambda: train.epochs(train_size)
    return Task(
        name=name,
        model=weights if callable(weights) else lambda: build(network, weights),
        evaluation_batches=test.batches(size),
        evaluate=lambda module: top_1(module, test, size),
        loss=cross_entropy,
        metric="top-1 accuracy",
        unit="%",
        outputs="logits",
        description=description,
        **absent,
    )
