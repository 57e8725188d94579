"""Scenes as networks: radiance fields that are rendered from any place.

Source: Mildenhall et al., NeRF: Representing Scenes as Neural Radiance Fields for View Synthesis (2020).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.data import DataFolder, build, layers_of
from netpress.evaluate.metrics import mean_psnr
from netpress.evaluate.samples import Batches, Epochs, choose, inference

__all__ = ["RadianceField", "nerf_hotdog", "nerf_lego"]

_SIDE = 100
_ANGLE = 0.6911112  # of view, horizontally, in radians
_NEAR, _FAR = 2.0, 6.0
_COARSE, _FINE = 64, 64
"""Points of a ray at equal distances, and points that are added where the first ones saw something."""
_CALIBRATION = 512


def nerf_lego(data: Path, limit: int | None = None) -> Task:
    """Lego scene: PSNR against the images of the float network, over 55 dB for itself. A sample is a row of pixels."""
    return _task("nerf-lego", "lego", data, limit)


def nerf_hotdog(data: Path, limit: int | None = None) -> Task:
    """Hot dog scene: PSNR against the images of the float network. A sample is a row of 100 pixels."""
    return _task("nerf-hotdog", "hotdog", data, limit)


def _task(name: str, scene: str, data: Path, limit: int | None) -> Task:
    weights, views = f"{scene}.safetensors", f"{scene}_views.npz"
    contents = "poses, float32 (views, 4, 4); float_render, uint8 (views, 100, 100, 3)"
    folder = DataFolder(name, data, "nerf-lowres", {weights: "weights", views: contents})
    poses = torch.from_numpy(folder.arrays(views)["poses"])
    rendered = torch.from_numpy(folder.arrays(views)["float_render"]).flatten(0, 1)
    rays = torch.stack([_rays(pose) for pose in poses]).flatten(0, 1)  # (views * 100, 100, 6)
    chosen = choose(len(rays), limit)
    evaluation = Batches(len(chosen), 20, lambda rows: rays[chosen[rows]].flatten(0, 1))
    other = _other_rays(poses, _CALIBRATION, torch.Generator().manual_seed(0))

    def model() -> nn.Module:
        return build(RadianceField, folder.path / weights)

    return Task(
        name=name,
        model=model,
        train_batches=lambda: _Rendered(model, poses).epochs(),
        loss=_loss,
        calibration_batches=Batches(_CALIBRATION, 256, lambda rows: other[rows]),
        evaluation_batches=evaluation,
        evaluate=lambda module: _errors(module, evaluation, rendered[chosen]),
        metric="PSNR against the images of the float network",
        unit="dB",
        description={
            "use case": "novel views of a scene",
            "network": f"NeRF of the {scene} scene, a coarse and a fine perceptron of width 128",
            "layers": layers_of(RadianceField),
            "data": f"{len(poses)} views of {_SIDE}x{_SIDE} pixels by the float network evaluate; rays from the same "
            f"cameras turned about the scene train on the network's own outputs, {_CALIBRATION} of them calibrate",
            "source": "krrish94/nerf-pytorch",
            "licence": "MIT",
        },
    )


def _rays(pose: Tensor) -> Tensor:
    """Origin and direction of the ray of each pixel, (100, 100, 6), for a camera (4, 4)."""
    focal = _SIDE / 2 / math.tan(_ANGLE / 2)
    rows, columns = torch.meshgrid(torch.arange(_SIDE), torch.arange(_SIDE), indexing="ij")
    x, y = (columns - _SIDE / 2) / focal, -(rows - _SIDE / 2) / focal
    directions = torch.stack([x, y, -torch.ones_like(x)], -1) @ pose[:3, :3].T
    return torch.cat([pose[:3, 3].expand_as(directions), directions], -1)


def _other_rays(poses: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Rays (count, 6) of pixels of the cameras after a turn of 5 to 355 degrees about the vertical axis."""
    views = torch.stack([_rays(pose) for pose in poses]).flatten(0, 2)
    chosen = views[torch.randint(0, len(views), (count,), generator=generator)]
    angle = torch.deg2rad(5 + 350 * torch.rand(count, generator=generator))
    zero, one = torch.zeros(count), torch.ones(count)
    turn = torch.stack([angle.cos(), -angle.sin(), zero, angle.sin(), angle.cos(), zero, zero, zero, one], -1)
    turned = torch.einsum("nij,nkj->nki", turn.reshape(count, 3, 3), chosen.reshape(count, 2, 3))
    return turned.reshape(count, 6)


class _Rendered:
    """Rays of other cameras with the colours that both fields of the float network give them."""

    def __init__(self, model: Callable[[], nn.Module], poses: Tensor) -> None:
        self._float = model()
        self._poses = poses

    def epochs(self) -> Epochs:
        """Batches (rays, colours by the coarse field, colours by the fine field)."""
        return Epochs(8192, 512, self._make)

    def _make(self, rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        rays = _other_rays(self._poses, len(rows), generator)
        with torch.no_grad():
            coarse, fine = self._float.render(rays)  # type: ignore[operator]
        return rays, coarse, fine


def _loss(module: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Sum of the mean squared errors of both fields."""
    found = module.render(batch[0])  # type: ignore[operator]
    errors = [nn.functional.mse_loss(image, wanted) for image, wanted in zip(found, batch[1:], strict=True)]
    return errors[0] + errors[1]


def _errors(module: nn.Module, rays: Batches, wanted: Tensor) -> Scores:
    """Mean squared error of each row of pixels, of values from 0 to 255; the metric is the PSNR of all of them."""
    with inference(module) as device:
        found = torch.cat([module(batch.to(device)).cpu() for batch in rays])
    values = (found.clamp(0, 1) * 255).reshape(wanted.shape)
    return Scores((values - wanted).double().square().mean((1, 2)).numpy(), mean_psnr)


def _encode(values: Tensor, frequencies: int) -> Tensor:
    """The values and their sines and cosines at doubling frequencies, (..., 3 + 6 * frequencies)."""
    parts = [values]
    for power in range(frequencies):
        parts += [torch.sin(2**power * values), torch.cos(2**power * values)]
    return torch.cat(parts, -1)


class _Field(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width, place, direction = 128, 63, 27
        self.layer1 = nn.Linear(place, width)
        self.layers_xyz = nn.ModuleList(nn.Linear(width, width) for _ in range(3))
        self.fc_feat = nn.Linear(width, width)
        self.fc_alpha = nn.Linear(width, 1)
        self.layers_dir = nn.ModuleList([nn.Linear(width + direction, width // 2)])
        self.fc_rgb = nn.Linear(width // 2, 3)

    def forward(self, places: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Densities (n, points) and colours (n, points, 3) at places (n, points, 3) seen along directions (n, 3)."""
        x = self.layer1(_encode(places, 10))
        for layer in self.layers_xyz:
            x = torch.relu(layer(x))
        encoded = _encode(directions, 4)[:, None].expand(-1, places.shape[1], -1)
        y = torch.relu(self.layers_dir[0](torch.cat([torch.relu(self.fc_feat(x)), encoded], -1)))
        return torch.relu(self.fc_alpha(x)[..., 0]), torch.sigmoid(self.fc_rgb(y))


class RadianceField(nn.Module):
    """A coarse field that finds where something is, and a fine one that is rendered."""

    def __init__(self) -> None:
        super().__init__()
        self.coarse = _Field()
        self.fine = _Field()

    def forward(self, rays: Tensor) -> Tensor:
        """Colours (n, 3), 0 to 1, of rays (n, 6): origin and direction; the background is white."""
        return self.render(rays)[1]

    def render(self, rays: Tensor) -> tuple[Tensor, Tensor]:
        """Colours (n, 3) by the coarse field, which learns from them alone, and by the fine one."""
        origins, directions = rays[:, :3], rays[:, 3:]
        depths = torch.linspace(_NEAR, _FAR, _COARSE, device=rays.device).expand(len(rays), -1)
        weights, coarse = _render(self.coarse, origins, directions, depths)
        added = _sample((depths[:, 1:] + depths[:, :-1]) / 2, weights[:, 1:-1].detach())
        depths, _ = torch.cat([depths, added], -1).sort(-1)
        return coarse, _render(self.fine, origins, directions, depths)[1]


def _render(field: _Field, origins: Tensor, directions: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (n, points) of the points of rays at depths (n, points), and colours (n, 3) of the rays."""
    lengths = directions.norm(dim=-1, keepdim=True)
    places = origins[:, None] + directions[:, None] * depths[..., None]
    densities, colours = field(places, directions / lengths)
    last = torch.full_like(depths[:, :1], 1e10)
    intervals = torch.cat([depths[:, 1:] - depths[:, :-1], last], -1) * lengths
    opacity = 1 - torch.exp(-densities * intervals)
    passed = torch.cumprod(1 - opacity + 1e-10, -1)
    weights = opacity * torch.cat([torch.ones_like(passed[:, :1]), passed[:, :-1]], -1)
    image = (weights[..., None] * colours).sum(1)
    return weights, image + 1 - weights.sum(-1, keepdim=True)


def _sample(edges: Tensor, weights: Tensor) -> Tensor:
    """Depths (n, 64) at equal steps of the cumulative weights of the intervals between edges."""
    weights = weights + 1e-5
    shares = torch.cumsum(weights / weights.sum(-1, keepdim=True), -1)
    shares = torch.cat([torch.zeros_like(shares[:, :1]), shares], -1)
    wanted = torch.linspace(0, 1, _FINE, device=edges.device).expand(len(edges), -1).contiguous()
    above = torch.searchsorted(shares, wanted, right=True)
    low, high = (above - 1).clamp(min=0), above.clamp(max=shares.shape[1] - 1)
    start, width = shares.gather(1, low), shares.gather(1, high) - shares.gather(1, low)
    width = torch.where(width < 1e-5, torch.ones_like(width), width)
    left = edges.gather(1, low)
    return left + (wanted - start) / width * (edges.gather(1, high) - left)
