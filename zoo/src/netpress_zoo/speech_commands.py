"""A network of depthwise separable convolutions that hears spoken commands.

Source: Zhang et al., Hello Edge: Keyword Spotting on Microcontrollers (2017).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Task
from netpress.evaluate.classification import classification_task
from netpress.evaluate.data import DataFolder, layers_of
from netpress.evaluate.samples import Samples, choose

__all__ = ["DSCNN", "kws_ds_cnn"]

_WIDTH = 276
_EPSILON = 1e-3
_CALIBRATION = 512
_TRAIN, _TEST = "mfcc_finetune_1290.npz", "mfcc_test_2400.npz"


def kws_ds_cnn(data: Path, limit: int | None = None) -> Task:
    """DS-CNN-L: 91.37 % of the 2400 test clips."""
    files = {
        "ds_cnn_l.safetensors": "weights",
        _TEST: "mfcc, float16 (n, 49, 10), and labels, uint8 (n,)",
        _TRAIN: "clips to train with, likewise",
    }
    folder = DataFolder("kws-ds-cnn", data, "kws-speech-commands", files)
    test, train = folder.arrays(_TEST), folder.arrays(_TRAIN)
    apart = _unseen(train["mfcc"], test["mfcc"])

    def read_train(rows: np.ndarray) -> Tensor:
        return _prepare(train["mfcc"][rows])

    return classification_task(
        "kws-ds-cnn",
        network=DSCNN,
        weights=folder.path / "ds_cnn_l.safetensors",
        test=Samples(lambda rows: _prepare(test["mfcc"][rows]), choose(len(test["mfcc"]), limit), test["labels"]),
        calibration=Samples(read_train, apart[choose(len(apart), _CALIBRATION)]),
        train=Samples(read_train, apart, train["labels"], _shift_in_time),
        description={
            "use case": "keyword spotting in audio",
            "network": "DS-CNN-L, depthwise separable convolutions over 49 frames of 10 cepstral coefficients",
            "layers": layers_of(DSCNN),
            "data": "Speech Commands v0.02, official test set, 12 classes: 2400 clips to test; 1261 others, none a "
            f"copy of one of those, to train; calibration with {_CALIBRATION} of the latter without their labels",
            "source": "weights: ARM-software/ML-KWS-for-MCU; audio: thegtagamer/PICO-tinyML-benchmark (Warden 2018)",
            "licence": "weights: Apache-2.0; audio: CC BY 4.0",
        },
    )


def _unseen(clips: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Indices of the clips that are not in the test set too: some recordings are in the data more than once."""
    seen = {clip.tobytes() for clip in test}
    return np.array([place for place, clip in enumerate(clips) if clip.tobytes() not in seen])


def _prepare(mfcc: np.ndarray) -> Tensor:
    return torch.from_numpy(mfcc.astype(np.float32))[:, None]


def _shift_in_time(clips: Tensor, generator: torch.Generator) -> Tensor:
    """Move each clip by up to two frames of 20 ms; the frame at the edge is repeated."""
    frames = clips.shape[2]
    shifts = torch.randint(-2, 3, (len(clips), 1), generator=generator)
    places = (torch.arange(frames) + shifts).clamp(0, frames - 1)
    return clips.gather(2, places[:, None, :, None].expand_as(clips))


def _pad_same(x: Tensor, kernel: tuple[int, int], stride: tuple[int, int]) -> Tensor:
    """Pad so that a convolution keeps ceil(size / stride); the odd zero goes to the bottom and to the right."""
    totals = [
        max((-(-size // step) - 1) * step + length - size, 0)
        for size, length, step in zip(x.shape[2:], kernel, stride, strict=True)
    ]
    (top, left) = (total // 2 for total in totals)
    return nn.functional.pad(x, (left, totals[1] - left, top, totals[0] - top))


class _Separable(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(_WIDTH, _WIDTH, 3, stride, groups=_WIDTH)
        self.dw_bn = nn.BatchNorm2d(_WIDTH, _EPSILON)
        self.pw = nn.Conv2d(_WIDTH, _WIDTH, 1)
        self.pw_bn = nn.BatchNorm2d(_WIDTH, _EPSILON)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.dw_bn(self.dw(_pad_same(x, (3, 3), (self.stride, self.stride)))))
        return torch.relu(self.pw_bn(self.pw(x)))


class DSCNN(nn.Module):
    """One convolution and five depthwise separable ones of 276 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, _WIDTH, (10, 4), (2, 1))
        self.bn1 = nn.BatchNorm2d(_WIDTH, _EPSILON)
        self.ds1 = _Separable(2)
        self.ds2 = _Separable(1)
        self.ds3 = _Separable(1)
        self.ds4 = _Separable(1)
        self.ds5 = _Separable(1)
        self.fc = nn.Linear(_WIDTH, 12)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 12) of cepstral coefficients (n, 1, 49, 10)."""
        x = torch.relu(self.bn1(self.conv1(_pad_same(x, (10, 4), (2, 1)))))
        x = self.ds5(self.ds4(self.ds3(self.ds2(self.ds1(x)))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits
