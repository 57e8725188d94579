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
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    limit: int = 2
    """Samples for the quick tests."""


STATED = [
    Stated("cifar10-resnet20", 81.40, 0.1, slow=False, limit=16),
    Stated("cifar10-resnet32", 83.60, 0.1, limit=16),
    Stated("cifar10-resnet56", 83.60, 0.1, limit=16),
    Stated("image-autoencoder", 28.347, 0.02, slow=False),
    Stated("image-autoencoder-rate", 0.3991, 0.0004, slow=False),
    Stated("imagenet-darknet", 65.38, 0.1, options={"all_images": True}, limit=16),
    Stated("imagenet-mobilenetv1", 83.13, 0.1, options={"all_images": True}, limit=16),
    Stated("kws-ds-cnn", 91.37, 0.1, limit=16),
]
