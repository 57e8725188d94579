"""The zoo as a package: what it offers, and what it says where something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus import CORPUS, needs_corpus

import netpress.evaluate
from netpress import InvalidConfig


def test_missing_data(tmp_path: Path) -> None:
    """The message names the folder that was searched, and everything that should be there."""
    pytest.importorskip("PIL")
    (tmp_path / "cifar10-resnet").mkdir()
    (tmp_path / "cifar10-resnet" / "test_2000.npz").touch()
    with pytest.raises(InvalidConfig) as caught:
        netpress.evaluate.load("cifar10-resnet20", tmp_path)
    message = str(caught.value)
    assert f"no resnet20.safetensors, train_5000.npz in {tmp_path / 'cifar10-resnet'}" in message
    assert "cifar10-resnet/test_2000.npz: test images, uint8 (n, 32, 32, 3)" in message


@needs_corpus
def test_unknown_option() -> None:
    with pytest.raises(InvalidConfig, match="does not take size; its options are: data, limit"):
        netpress.evaluate.load("cifar10-resnet20", CORPUS, size=3)
