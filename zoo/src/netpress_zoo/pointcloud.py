"""Shapes of ModelNet10, chairs and monitors: compressed by an autoencoder, and told apart by PointNet.

Source: Qi et al., PointNet: Deep Learning on Point Sets for 3D Classification and Segmentation (2017).
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.classification import classification_task
from netpress.evaluate.data import DataFolder, build, layers_of
from netpress.evaluate.samples import Batches, Samples, choose, inference
from netpress_zoo.rounding import round_through

__all__ = ["PointNet", "VoxelAutoencoder", "pointcloud_autoencoder", "pointcloud_pointnet"]

_FOLDER = "pointcloud-modelnet"
_TEST, _TRAIN = "test_250.npz", "train_904.npz"
_FILES = {
    _TEST: "voxels, uint8 (n, 4096): 32x32x32 bits; labels, uint8 (n,): 0 chair, 1 monitor",
    _TRAIN: "shapes to train with, likewise",
}
_SIDE = 32
_POINTS = 256
_CALIBRATION = 256
_SOURCE = "weights: made with this data; shapes: SomTambe/ModelNet10-dataset"
_LICENCE = "weights: free to use; shapes: for research"
_DATA = f"ModelNet10, chairs and monitors: 250 shapes evaluate, 904 others train, {_CALIBRATION} of these calibrate"


def pointcloud_autoencoder(data: Path, limit: int | None = None) -> Task:
    """Autoencoder of 32x32x32 voxels: intersection over union 0.6364 over the 250 test shapes."""
    name, weights = "pointcloud-autoencoder", "voxel_ae.safetensors"
    folder = DataFolder(name, data, _FOLDER, {weights: "weights", **_FILES})
    test, train = (_voxels(folder.arrays(file)["voxels"]) for file in (_TEST, _TRAIN))
    evaluation = Samples(lambda rows: _occupancy(test[rows]), choose(len(test), limit)).batches(32)
    shapes = Samples(lambda rows: _occupancy(train[rows]), choose(len(train), None))
    return Task(
        name=name,
        model=lambda: build(VoxelAutoencoder, folder.path / weights),
        train_batches=lambda: shapes.epochs(16),
        calibration_batches=Samples(shapes.read, choose(len(train), _CALIBRATION)).batches(32),
        evaluation_batches=evaluation,
        loss=_loss,
        evaluate=lambda module: _overlap(module, evaluation),
        metric="intersection over union",
        description={
            "use case": "compression of point clouds",
            "network": "autoencoder of three 3D convolutions and three transposed ones, 8 channels of integers between",
            "layers": layers_of(VoxelAutoencoder),
            "data": _DATA,
            "source": _SOURCE,
            "licence": _LICENCE,
        },
    )


def pointcloud_pointnet(data: Path, limit: int | None = None) -> Task:
    """PointNet without the transforms of its inputs: 100 % of the 250 test shapes; an easy task."""
    name, weights = "pointcloud-pointnet", "pointnet_2class.safetensors"
    folder = DataFolder(name, data, _FOLDER, {weights: "weights", **_FILES})
    test, train = (folder.arrays(file) for file in (_TEST, _TRAIN))
    test_points, train_points = (_choose_points(_voxels(arrays["voxels"])) for arrays in (test, train))
    shapes = Samples(
        lambda rows: torch.from_numpy(train_points[rows]), choose(len(train_points), None), train["labels"], _jitter
    )
    return classification_task(
        name,
        network=PointNet,
        weights=folder.path / weights,
        test=Samples(lambda rows: torch.from_numpy(test_points[rows]), choose(len(test_points), limit), test["labels"]),
        calibration=Samples(shapes.read, choose(len(train_points), _CALIBRATION)),
        train=shapes,
        description={
            "use case": "classification of point clouds",
            "network": f"PointNet over {_POINTS} points, two classes",
            "layers": layers_of(PointNet),
            "data": _DATA,
            "source": _SOURCE,
            "licence": _LICENCE,
        },
    )


def _voxels(packed: np.ndarray) -> np.ndarray:
    """Occupied voxels as 0 and 1, (n, 32, 32, 32)."""
    return np.unpackbits(packed, axis=1).reshape(-1, _SIDE, _SIDE, _SIDE)


def _occupancy(voxels: np.ndarray) -> Tensor:
    return torch.from_numpy(voxels)[:, None].float()


def _choose_points(voxels: np.ndarray) -> np.ndarray:
    """Choose 256 occupied voxels of each shape, float32 (n, 3, 256), coordinates from -1 to 1."""
    random = np.random.default_rng(0)
    points = np.empty((len(voxels), 3, _POINTS), np.float32)
    for shape, filled in zip(points, voxels, strict=True):
        places = np.argwhere(filled)
        chosen = places[random.choice(len(places), _POINTS, replace=len(places) < _POINTS)]
        shape[:] = (chosen / ((_SIDE - 1) / 2) - 1).T
    return points


def _jitter(points: Tensor, generator: torch.Generator) -> Tensor:
    """Move the points of each shape a little, less than the distance of voxels."""
    return points + 0.02 * torch.randn(points.shape, generator=generator)


def _overlap(module: nn.Module, batches: Batches) -> Scores:
    """Intersection and union of each shape with its copy, in voxels."""
    samples = []
    with inference(module) as device:
        for occupied in batches:
            found = module(occupied.to(device)).cpu() > 0
            wanted = occupied > 0
            both, either = (voxels.flatten(1).sum(1) for voxels in (found & wanted, found | wanted))
            samples.append(torch.stack([both, either], 1).numpy())
    return Scores(np.concatenate(samples), lambda counts: float(counts[:, 0].sum() / counts[:, 1].sum()))


def _loss(module: nn.Module, batch: Tensor) -> Tensor:
    """Binary cross entropy of the voxels, in nats."""
    return nn.functional.binary_cross_entropy_with_logits(module(batch), batch)


class VoxelAutoencoder(nn.Module):
    """Encoder and decoder; the eighths between them are what would be coded."""

    def __init__(self) -> None:
        super().__init__()
        down, up = ((1, 16), (16, 32), (32, 8)), ((8, 32), (32, 16), (16, 1))
        self.enc = nn.ModuleList(nn.Conv3d(width_in, width, 4, 2, 1) for width_in, width in down)
        self.dec = nn.ModuleList(nn.ConvTranspose3d(width_in, width, 4, 2, 1) for width_in, width in up)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of occupation (n, 1, 32, 32, 32) of voxels 0 or 1 (n, 1, 32, 32, 32); gradients skip the rounding."""
        x = torch.relu(self.enc[1](torch.relu(self.enc[0](x))))
        latents = self.enc[2](x)
        x = round_through(latents * 8) / 8
        logits: Tensor = self.dec[2](torch.relu(self.dec[1](torch.relu(self.dec[0](x)))))
        return logits


class PointNet(nn.Module):
    """The same four layers for every point, the maximum over the points, and two layers more."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 64, 64, 128, 256)
        pairs = list(itertools.pairwise(widths))
        self.mlp = nn.ModuleList(nn.Conv1d(width_in, width, 1) for width_in, width in pairs)
        self.bn = nn.ModuleList(nn.BatchNorm1d(width) for _, width in pairs)
        self.fc1 = nn.Linear(widths[-1], 128)
        self.fc2 = nn.Linear(128, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 2) of points (n, 3, count), coordinates from -1 to 1."""
        for layer, norm in zip(self.mlp, self.bn, strict=True):
            x = torch.relu(norm(layer(x)))
        logits: Tensor = self.fc2(torch.relu(self.fc1(x.amax(2))))
        return logits
