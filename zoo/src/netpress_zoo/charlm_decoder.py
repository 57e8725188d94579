"""A small transformer that continues Shakespeare character by character, trained here: the recipe is in this file.

Sources: Vaswani et al., Attention Is All You Need (2017); Radford et al., Language Models are Unsupervised Multitask
Learners (2019): norms before each part.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from netpress import Scores, Task
from netpress.evaluate.data import DataFolder, layers_of
from netpress.evaluate.samples import Batches, choose, inference
from netpress_zoo.charlm import CHARACTERS, TEXT_FILES, TEXT_FOLDER, held_back, passages, read_codes
from netpress_zoo.training import Recipe, TrainedNetwork

__all__ = ["CharacterDecoder", "charlm_decoder"]

_NAME = "charlm-decoder"
_WIDTH, _HEADS, _BLOCKS, _CONTEXT = 48, 4, 2, 128
_COUNTED = 64
"""Last predictions of a row, which count: at least as many characters stand before each."""
_CALIBRATION = 256
_EPOCHS, _RATE = 10, 6e-3
_PASSAGES, _BATCH = 8000, 32


def charlm_decoder(data: Path, limit: int | None = None, cache: str | Path | None = None) -> Task:
    """Decoder-only transformer: 2.408 bits per character on the last 16000 of the text, which it was not trained on.

    Args:
        data: the folder with all data.
        limit: rows to evaluate, of 249; 64 predictions of each count.
        cache: a folder for the weights, which are trained if they are not there; None takes those of the package.
    """
    folder = DataFolder(_NAME, data, TEXT_FOLDER, TEXT_FILES)
    codes = read_codes(folder)
    before, last = held_back(codes)
    count = (len(last) - 1 - _CONTEXT) // _COUNTED + 1
    starts = choose(count, limit) * _COUNTED
    rows = torch.stack([torch.from_numpy(last[start : start + _CONTEXT + 1]) for start in starts])
    places = choose(len(before) // _CONTEXT - 1, _CALIBRATION) * _CONTEXT
    calibration = torch.stack([torch.from_numpy(before[place : place + _CONTEXT]) for place in places])
    recipe = Recipe(
        name=_NAME,
        network=CharacterDecoder,
        batches=lambda: passages(before, _CONTEXT, _PASSAGES, _BATCH),
        loss=_loss,
        epochs=_EPOCHS,
        learning_rate=_RATE,
        minutes=3,
    )
    network = TrainedNetwork(recipe, cache, Path(__file__).with_name("charlm_decoder.safetensors"))
    return Task(
        name=_NAME,
        model=network.get,
        train_batches=lambda: passages(before, _CONTEXT, 640, _BATCH),
        calibration_batches=Batches(len(calibration), 32, lambda chosen: calibration[chosen]),
        evaluation_batches=Batches(len(rows), 64, lambda chosen: rows[chosen, :-1]),
        loss=_loss,
        evaluate=lambda module: _bits_per_character(module, rows),
        metric="bits per character",
        unit="bit",
        direction="min",
        outputs="logits",
        description={
            "use case": "language model",
            "network": f"decoder-only transformer, {_BLOCKS} blocks of width {_WIDTH} with {_HEADS} heads, {_CONTEXT} "
            f"characters of context, {CHARACTERS} characters",
            "layers": layers_of(CharacterDecoder),
            "data": f"tiny Shakespeare: rows of {_CONTEXT} of the last 16000 characters evaluate, the last {_COUNTED} "
            f"predictions of each; the text before trains, {_CALIBRATION} passages of it calibrate; the network is "
            f"trained here, {_EPOCHS * _PASSAGES // _BATCH} steps of {_BATCH} passages",
            "source": "text: ml5js/ml5-data-and-models",
            "licence": "weights: as netpress; text: public domain",
        },
    )


def _loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Mean cross entropy in nats."""
    logits = module(batch[0])
    return nn.functional.cross_entropy(logits.flatten(0, 1), batch[1].flatten().to(logits.device))


def _bits_per_character(module: nn.Module, rows: Tensor) -> Scores:
    """Mean bits of the predictions of each row that count."""
    samples = []
    with inference(module) as device:
        for first in range(0, len(rows), 64):
            part = rows[first : first + 64]
            logits = module(part[:, :-1].to(device)).cpu()[:, -_COUNTED:].double()
            following = part[:, -_COUNTED:]
            samples.append(nn.functional.cross_entropy(logits.transpose(1, 2), following, reduction="none").mean(1))
    return Scores(torch.cat(samples).numpy() / math.log(2))


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(_WIDTH)
        self.qkv = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.proj = nn.Linear(_WIDTH, _WIDTH)
        self.norm2 = nn.LayerNorm(_WIDTH)
        self.fc1 = nn.Linear(_WIDTH, 4 * _WIDTH)
        self.fc2 = nn.Linear(4 * _WIDTH, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        count, length, width = x.shape
        heads = self.qkv(self.norm1(x)).reshape(count, length, 3, _HEADS, width // _HEADS).permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=True)
        x = x + self.proj(seen.transpose(1, 2).reshape(count, length, width))
        mixed: Tensor = self.fc2(nn.functional.gelu(self.fc1(self.norm2(x))))
        return x + mixed


class CharacterDecoder(nn.Module):
    """Embedding of characters and places, causal blocks, and a linear layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, _WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(_CONTEXT, _WIDTH))
        self.blocks = nn.Sequential(*(_Block() for _ in range(_BLOCKS)))
        self.norm = nn.LayerNorm(_WIDTH)
        self.head = nn.Linear(_WIDTH, CHARACTERS)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, codes: Tensor) -> Tensor:
        """Logits (n, length, 65) for the characters after each of (n, length) codes; the length is at most 128."""
        x = self.embedding(codes) + self.places[: codes.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits
