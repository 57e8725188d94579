"""A recurrent network that continues Shakespeare character by character."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.data import DataFolder, build, layers_of
from netpress.evaluate.samples import Batches, Epochs, choose, inference

__all__ = [
    "CHARACTERS",
    "TEXT_FILES",
    "TEXT_FOLDER",
    "CharacterLSTM",
    "charlm_lstm",
    "held_back",
    "passages",
    "read_codes",
]

CHARACTERS = 65
_WIDTH = 128
_ROWS, _LENGTH = 16, 1000
_IGNORED = 20
"""First predictions of a row that do not count: the network has seen too little."""
_TRAIN_LENGTH = 200
_CALIBRATION = 256
TEXT_FOLDER = "charlm-lstm"
TEXT_FILES = {
    "shakespeare_vocab.json": "a dictionary, character -> index",
    "tinyshakespeare.txt": "the text",
}


def charlm_lstm(data: Path, limit: int | None = None) -> Task:
    """LSTM of two layers: 1.945 bits per character on the last 16000 characters of the text, a part it was trained on.

    A sample is a row of 1000 characters; ``limit`` counts rows, of 16.
    """
    folder = DataFolder("charlm-lstm", data, TEXT_FOLDER, {"shakespeare.safetensors": "weights", **TEXT_FILES})
    before, last = held_back(read_codes(folder))
    rows = torch.from_numpy(last[:-1].reshape(_ROWS, _LENGTH))[choose(_ROWS, limit)]
    starts = choose(len(before) // _TRAIN_LENGTH - 1, _CALIBRATION) * _TRAIN_LENGTH
    calibration = torch.from_numpy(np.stack([before[start : start + _TRAIN_LENGTH] for start in starts]))
    return Task(
        name="charlm-lstm",
        model=lambda: build(CharacterLSTM, folder.path / "shakespeare.safetensors"),
        train_batches=lambda: passages(before, _TRAIN_LENGTH, 200, 32),
        calibration_batches=Batches(len(calibration), 32, lambda places: calibration[places]),
        evaluation_batches=Batches(len(rows), _ROWS, lambda places: rows[places, :-1]),
        loss=_loss,
        evaluate=lambda module: _bits_per_character(module, rows),
        metric="bits per character",
        unit="bit",
        direction="min",
        outputs="logits",
        description={
            "use case": "language model",
            "network": "embedding, LSTM of two layers of 128, linear layer over 65 characters",
            "layers": layers_of(CharacterLSTM),
            "data": f"tiny Shakespeare: the last {_ROWS * _LENGTH} characters evaluate, from a zero state in {_ROWS} "
            f"rows, the first {_IGNORED} of each not counted; the text before trains, {_CALIBRATION} passages of it "
            "calibrate. The network was trained on all of the text",
            "source": "ml5js/ml5-data-and-models",
            "licence": "weights: MIT; text: public domain",
        },
    )


def read_codes(folder: DataFolder) -> np.ndarray:
    """Return the text as int64 codes of its characters, 0 to 64."""
    vocabulary = json.loads((folder.path / "shakespeare_vocab.json").read_text(encoding="utf-8"))
    text = (folder.path / "tinyshakespeare.txt").read_text(encoding="utf-8")
    return np.array([vocabulary[character] for character in text], np.int64)


def held_back(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the text without its last 16001 characters, and these."""
    count = _ROWS * _LENGTH + 1
    return codes[:-count], codes[-count:]


def passages(codes: np.ndarray, length: int, count: int, size: int) -> Epochs:
    """Return passages of some characters and the characters that follow, from places that move with every epoch.

    Args:
        codes: the text.
        length: of a passage.
        count: passages in an epoch.
        size: passages in a batch.
    """

    def make(rows: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        starts = torch.randint(0, len(codes) - length - 1, (len(rows),), generator=generator).tolist()
        windows = torch.from_numpy(np.stack([codes[start : start + length + 1] for start in starts]))
        return windows[:, :-1], windows[:, 1:]

    return Epochs(count, size, make)


def _loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross entropy in nats, without the first predictions of each passage."""
    logits = module(batch[0])[:, _IGNORED:]
    following = batch[1][:, _IGNORED:].to(logits.device)
    return nn.functional.cross_entropy(logits.flatten(0, 1), following.flatten())


def _bits_per_character(module: nn.Module, rows: Tensor) -> Scores:
    """Mean bits of each row; all rows have the same number of predictions."""
    with inference(module) as device:
        logits = module(rows[:, :-1].to(device)).cpu()[:, _IGNORED:]
    nats = nn.functional.cross_entropy(logits.transpose(1, 2), rows[:, 1 + _IGNORED :], reduction="none")
    return Scores(nats.double().mean(1).numpy() / math.log(2))


class CharacterLSTM(nn.Module):
    """Embedding, two recurrent layers, and a linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, _WIDTH)
        self.lstm = nn.LSTM(_WIDTH, _WIDTH, 2, batch_first=True)
        self.out = nn.Linear(_WIDTH, CHARACTERS)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (n, length, 65) for the characters after each of (n, length) codes, int64 from 0 to 64."""
        logits: Tensor = self.out(self.lstm(self.embedding(codes))[0])
        return logits
