"""Samples of a data set: read and prepared batch by batch, in order or shuffled."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from netpress.compare import inference

__all__ = ["Batches", "Epochs", "Samples", "choose", "inference"]

Indices = npt.NDArray[np.int64]


def choose(count: int, limit: int | None, seed: int = 0) -> Indices:
    """Return the sorted indices of a random choice of ``limit`` of ``count`` samples; None or more: all of them."""
    if limit is None or limit >= count:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


@dataclasses.dataclass(frozen=True)
class Samples:
    """Some samples of a data set, addressed by 0 ... len - 1.

    Attributes:
        read: indices of the data set -> the inputs of a network, one row per sample.
        indices: which samples of the data set these are.
        labels: what is known of each sample of the data set, if anything.
        augment: changes the inputs of a training batch at random.
    """

    read: Callable[[Indices], Any]
    indices: Indices
    labels: npt.NDArray[Any] | None = None
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def inputs(self, rows: Indices) -> Any:
        """Return the inputs of some of the samples."""
        return self.read(self.indices[rows])

    def targets(self, rows: Indices) -> Tensor:
        """Return the labels of some of the samples; integers become int64."""
        assert self.labels is not None
        labels = self.labels[self.indices[rows]]
        return torch.from_numpy(labels.astype(np.int64) if labels.dtype.kind in "iu" else labels)

    def batches(self, size: int) -> Batches:
        """Return the inputs in order."""
        return Batches(len(self), size, self.inputs)

    def labelled_batches(self, size: int) -> Batches:
        """Return (inputs, labels) in order."""
        return Batches(len(self), size, lambda rows: (self.inputs(rows), self.targets(rows)))

    def epochs(self, size: int, seed: int = 0) -> Epochs:
        """Return shuffled training batches (inputs, labels), or inputs alone where there are no labels."""

        def make(rows: Indices, generator: torch.Generator) -> Any:
            inputs = self.inputs(rows)
            if self.augment is not None:
                inputs = self.augment(inputs, generator)
            return inputs if self.labels is None else (inputs, self.targets(rows))

        return Epochs(len(self), size, make, seed)


@dataclasses.dataclass(frozen=True)
class Batches:
    """Batches in order; every run through them is the same.

    Attributes:
        count: samples in all.
        size: samples of a batch; the last one may be smaller.
        make: makes a batch of the samples at some rows.
    """

    count: int
    size: int
    make: Callable[[Indices], Any]

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def __iter__(self) -> Iterator[Any]:
        for first in range(0, self.count, self.size):
            yield self.make(np.arange(first, min(first + self.size, self.count)))


class Epochs:
    """Shuffled batches; each run through them is the next epoch, with another order and other augmentations.

    Two of these with the same arguments give the same epochs. A last batch of less than half the size is left out,
    because batch norms fail on few samples.
    """

    def __init__(self, count: int, size: int, make: Callable[[Indices, torch.Generator], Any], seed: int = 0) -> None:
        self.count = count
        self.size = min(size, count)
        self.seed = seed
        self.epoch = 0
        self._make = make

    def __len__(self) -> int:
        return self.count // self.size + (self.count % self.size * 2 >= self.size)

    def __iter__(self) -> Iterator[Any]:
        seed = int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1)[0])
        self.epoch += 1
        order = np.random.default_rng(seed).permutation(self.count)
        generator = torch.Generator().manual_seed(seed)
        for batch in range(len(self)):
            yield self._make(order[batch * self.size : (batch + 1) * self.size], generator)
