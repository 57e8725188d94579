"""The one bridge of the benchmarks to NNCodec, with a program that stands for it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch")

from rivals import nncodec  # noqa: E402

FAKE = Path(__file__).resolve().parents[1] / "evaluate" / "data" / "fake_peer.py"


@pytest.fixture
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETPRESS_PEER", shlex.join([sys.executable, str(FAKE)]))


@pytest.mark.usefixtures("_fake")
def test_a_file_there_and_back(tmp_path: Path) -> None:
    source, stream, target = tmp_path / "in.safetensors", tmp_path / "s.nnc", tmp_path / "out.safetensors"
    save_file({"w": np.full((4, 4), 0.26, np.float32)}, source)
    assert nncodec.encode(source, stream, qp=-8)["seconds"] == 0.5
    assert nncodec.decode(stream, target)["seconds"] == 0.25
    assert load_file(target)["w"] == pytest.approx(0.25)
    assert nncodec.decoded_alike(stream.read_bytes(), {"w": np.full((4, 4), 0.25, np.float32)})
    assert not nncodec.decoded_alike(stream.read_bytes(), {"w": np.full((4, 4), 0.26, np.float32)})
    assert not nncodec.decoded_alike(stream.read_bytes(), {"v": np.zeros(3, np.float32)})


@pytest.mark.usefixtures("_fake")
def test_labels_of_the_results() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    with nncodec.tools(module) as tools:
        labels = [tool.name for tool in tools]
        assert tools[0].make(-20).size > 0
    assert labels == [
        *nncodec.MINOR,
        "dependent quantisation, batch norms multiplied in",
        "dependent quantisation, opt_qp, batch norms multiplied in",
        "dependent quantisation, batch norms as factor and bias",
        "dependent quantisation, opt_qp, batch norms as factor and bias",
    ]


def test_without_nncodec(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NETPRESS_PEER", raising=False)
    assert not nncodec.available()
    with nncodec.tools(torch.nn.Linear(2, 2)) as tools:
        assert tools == []
    with pytest.raises(RuntimeError, match="set NETPRESS_PEER"):
        nncodec.decode(tmp_path / "s.nnc", tmp_path / "out.safetensors")
