"""Batches in order and shuffled, augmentation, measures, weights."""

from __future__ import annotations

import math
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("PIL")

from safetensors.torch import save_file  # noqa: E402

from netpress import InvalidModel  # noqa: E402
from netpress.evaluate import augmentation, metrics  # noqa: E402
from netpress.evaluate.data import build, layers_of  # noqa: E402
from netpress.evaluate.samples import Batches, Epochs, Samples, choose, inference  # noqa: E402


def test_choice() -> None:
    assert choose(5, None).tolist() == choose(5, 9).tolist() == [0, 1, 2, 3, 4]
    chosen = choose(1000, 20)
    assert len(set(chosen)) == 20
    assert chosen.tolist() == sorted(chosen) == choose(1000, 20).tolist()
    assert chosen.max() > 500


def test_batches() -> None:
    samples = Samples(lambda rows: torch.from_numpy(rows * 10), np.array([3, 5, 6]), np.arange(7, dtype=np.uint8))
    assert [batch.tolist() for batch in samples.batches(2)] == [[30, 50], [60]]
    assert len(samples.batches(2)) == 2
    assert [(a.tolist(), b.tolist()) for a, b in samples.labelled_batches(2)] == [([30, 50], [3, 5]), ([60], [6])]
    assert samples.targets(np.array([0])).dtype == torch.int64


def test_epochs() -> None:
    def run(epochs: Epochs) -> list[list[int]]:
        return [rows.tolist() for rows in epochs]

    def make(seed: int = 0) -> Epochs:
        return Epochs(11, 4, lambda rows, generator: rows, seed)

    epochs = make()
    first, second = run(epochs), run(epochs)
    assert [len(batch) for batch in first] == [4, 4, 3]
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(11))
    assert first != second
    anew = make()
    assert [run(anew), run(anew)] == [first, second]
    assert run(make(1)) != first
    assert [len(batch) for batch in run(Epochs(9, 4, lambda rows, generator: rows))] == [4, 4]
    assert len(Epochs(9, 4, lambda rows, generator: rows)) == 2
    assert len(epochs) == 3


def test_augmentation() -> None:
    images = torch.arange(1, 1 + 8 * 3 * 6 * 6, dtype=torch.float32).reshape(8, 3, 6, 6)
    moved = augmentation.shift_and_flip(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    for before, after in zip(images, moved, strict=True):
        kept = after[after > 0]
        assert set(kept.tolist()) <= set(before.flatten().tolist())
    cut = augmentation.random_crop(images, 4, torch.Generator().manual_seed(0))
    windows = images.unfold(2, 4, 1).unfold(3, 4, 1)  # (8, 3, 3, 3, 4, 4)
    for image, square in zip(windows, cut, strict=True):
        places = [image[:, y, x] for y in range(3) for x in range(3)]
        assert any(torch.equal(square, place) or torch.equal(square.flip(2), place) for place in places)


def test_inference_restores_modes() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)).train()
    module[1].eval()
    with inference(module) as device:
        assert device.type == "cpu"
        assert not module.training
        assert not module(torch.ones(3, 2)).requires_grad
    assert [layer.training for layer in module] == [True, False]


def test_psnr() -> None:
    image = torch.zeros(4, 4)
    assert metrics.psnr(image, image) == math.inf
    assert metrics.psnr(image + 255, image) == pytest.approx(0)
    assert metrics.psnr(image + 25.5, image) == pytest.approx(20)
    assert metrics.mean_psnr(np.zeros(3)) == math.inf
    assert metrics.mean_psnr(np.array([0, 2 * 25.5**2])) == pytest.approx(20)


def test_entropy() -> None:
    assert metrics.entropy_bits(np.array([7, 7, 7])) == 0
    assert metrics.entropy_bits(np.array([0.0, 1, 2, 3] * 2)) == 16


def test_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"

    def network() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))

    state = network().state_dict()
    del state["1.num_batches_tracked"]
    save_file(state, path)
    random_state = torch.get_rng_state()
    module = build(network, path)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.equal(module.get_parameter("0.weight"), state["0.weight"])
    assert not module.training
    save_file({**state, "more": torch.ones(1)}, path)
    with pytest.raises(InvalidModel, match=r"unexpected \['more'\]"):
        build(network, path)
    save_file({"0.bias": state["0.bias"]}, path)
    with pytest.raises(InvalidModel, match=r"missing.*0\.weight"):
        build(network, path)
    save_file({**state, "0.bias": torch.ones(4)}, path)
    with pytest.raises(InvalidModel, match="size mismatch"):
        build(network, path)
    assert layers_of(network) == "1 Linear, 1 BatchNorm1d; 15 parameters"


def test_length_of_batches() -> None:
    assert len(Batches(5, 2, lambda rows: rows)) == 3


def test_luma() -> None:
    colours = torch.tensor([[0, 255, 255], [0, 255, 0], [0, 255, 0]], dtype=torch.uint8)[:, None]
    assert metrics.luma(colours)[0].tolist() == pytest.approx([16, 235, 16 + 65.481], abs=0.02)


def test_spearman() -> None:
    pytest.importorskip("scipy")
    assert metrics.spearman(np.array([[0, 1], [1, 10], [2, 100]])) == pytest.approx(1)
    assert metrics.spearman(np.array([[0, 3], [1, 2], [2, 1]])) == pytest.approx(-1)
