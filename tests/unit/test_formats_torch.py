"""PyTorch modules, tensors and files as sources, and decoded tensors as PyTorch files."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from netpress.errors import InvalidModel
from netpress.formats import SUPPORTED_DTYPES, open_source, save_tensors
from netpress.parameters import ParameterKind

torch = pytest.importorskip("torch")


def test_dictionary_of_tensors_of_every_type() -> None:
    model = {dtype.name: torch.arange(6).reshape(2, 3).to(getattr(torch, dtype.name)) for dtype in SUPPORTED_DTYPES}
    model["scalar"] = torch.tensor(1.5, dtype=torch.bfloat16)
    model["empty"] = torch.zeros(0, 3, dtype=torch.float8_e5m2)
    model["gradient"] = torch.ones(2, requires_grad=True)
    model["parameter"] = torch.nn.Parameter(torch.ones(2, 2))
    model["transposed"] = torch.arange(6.0).reshape(2, 3).T
    source = open_source(model)
    for dtype in SUPPORTED_DTYPES:
        value = source.load(dtype.name)
        assert value.dtype == dtype
        np.testing.assert_array_equal(value.astype(np.float64), model[dtype.name].to(torch.float64).numpy())
    assert source.load("scalar") == 1.5
    assert source.load("empty").shape == (0, 3)
    np.testing.assert_array_equal(source.load("transposed"), [[0, 3], [1, 4], [2, 5]])
    assert source.origin == "dict"
    assert source.kind("parameter") is ParameterKind.WEIGHT


def test_tensors_are_not_copied() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        tensor = torch.zeros(4, 4, dtype=dtype)
        assert open_source({"w": tensor}).load("w").ctypes.data == tensor.data_ptr()


def quantised() -> Any:
    return torch.quantize_per_tensor(torch.zeros(2, 2), 0.1, 0, torch.qint8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.eye(2).to_sparse(), "sparse_coo"),
        (lambda: torch.eye(2).to_sparse_csr(), "sparse_csr"),
        (quantised, "quantised"),
        (lambda: torch.zeros(2, dtype=torch.complex64), "complex"),
        (lambda: torch.zeros(2, device="meta"), "no data"),
        (lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "nested"),
        (lambda: torch.nn.UninitializedParameter(), "not initialised"),
    ],
)
def test_unsupported_tensors(make: Any, message: str) -> None:
    with pytest.raises(InvalidModel, match=message) as caught:
        open_source({"good": torch.zeros(2), "bad": make()})
    assert caught.value.tensor == "bad"


class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
    """One of every kind of layer that matters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 4, 3)
        self.bn = torch.nn.BatchNorm2d(4)
        self.instance = torch.nn.InstanceNorm1d(4, affine=True, track_running_stats=True)
        self.layer = torch.nn.LayerNorm(4)
        self.linear = torch.nn.Linear(4, 4, dtype=torch.bfloat16)
        self.linear.weight_scaling = torch.nn.Parameter(torch.ones(4, 1))
        self.tied = torch.nn.Linear(4, 4, bias=False)
        self.tied.weight = self.linear.weight
        self.alpha = torch.nn.Parameter(torch.ones(3))
        self.scale = torch.nn.Parameter(torch.ones(()))


def test_module_kinds_names_and_order() -> None:
    net = Net()
    source = open_source(net)
    assert source.origin == "torch"
    assert source.torch_module is net
    assert source.names == list(net.state_dict())
    kinds = {name: source.kind(name).value for name in source.names}
    assert kinds == {
        "alpha": "unspecified",
        "scale": "unspecified",
        "conv.weight": "weight",
        "conv.bias": "bias",
        "bn.weight": "bn.gamma",
        "bn.bias": "bn.beta",
        "bn.running_mean": "bn.mean",
        "bn.running_var": "bn.var",
        "bn.num_batches_tracked": "unspecified",
        "instance.weight": "bn.gamma",
        "instance.bias": "bn.beta",
        "instance.running_mean": "bn.mean",
        "instance.running_var": "bn.var",
        "instance.num_batches_tracked": "unspecified",
        "layer.weight": "unspecified",
        "layer.bias": "bias",
        "linear.weight": "weight",
        "linear.bias": "bias",
        "linear.weight_scaling": "weight.ls",
        "tied.weight": "weight",
    }
    assert source.dtype("linear.weight").name == "bfloat16"
    assert source.dtype("bn.num_batches_tracked") == np.int64
    assert source.load("tied.weight").ctypes.data == source.load("linear.weight").ctypes.data


def test_module_that_is_a_batch_norm_itself() -> None:
    source = open_source(torch.nn.BatchNorm1d(3))
    assert source.kind("weight") is ParameterKind.BN_GAMMA
    assert source.kind("running_var") is ParameterKind.BN_VAR


def test_state_dictionary() -> None:
    state = Net().state_dict()
    source = open_source(state)
    assert source.names == list(state)
    assert source.kind("bn.weight") is ParameterKind.UNSPECIFIED


def test_module_with_other_state() -> None:
    class Extra(torch.nn.Linear):  # type: ignore[misc, name-defined]
        def get_extra_state(self) -> dict[str, int]:
            return {"a": 1}

    with pytest.raises(InvalidModel, match=r"_extra_state.*dict"):
        open_source(Extra(2, 2))
    with pytest.raises(InvalidModel, match="not initialised"):
        open_source(torch.nn.LazyLinear(3))
    with pytest.raises(InvalidModel, match="no tensors"):
        open_source(torch.nn.ReLU())


@pytest.mark.parametrize("extension", [".pt", ".pth", ".bin"])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dictionary_files(tmp_path: Path, extension: str, zipped: bool) -> None:
    state = Net().state_dict()
    path = tmp_path / f"model{extension}"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    source = open_source(path)
    assert source.origin == "pt"
    assert source.names == list(state)
    for name, value in state.items():
        np.testing.assert_array_equal(source.load(name).astype(np.float64), value.to(torch.float64).numpy())


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_checkpoints(tmp_path: Path, key: str) -> None:
    state = OrderedDict((f"module.{name}", value) for name, value in Net().state_dict().items())
    torch.save({"epoch": 3, key: state, "optimizer": {"lr": 0.1}}, tmp_path / "c.pt")
    assert open_source(tmp_path / "c.pt").names == list(Net().state_dict())


def test_prefix_is_kept_unless_common(tmp_path: Path) -> None:
    torch.save({"module.a": torch.zeros(2), "b": torch.zeros(2)}, tmp_path / "c.pt")
    assert open_source(tmp_path / "c.pt").names == ["module.a", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"a": torch.zeros(2)}, "state_dict": {"a": torch.zeros(2)}}, "'state_dict' and 'model'"),
        ({"params_ema": {"a": torch.zeros(2)}, "params": {"a": torch.zeros(2)}}, "'params_ema', 'params'"),
        ({"model": {"sub": {"a": torch.zeros(2)}}}, "'sub'"),
        ({"w": torch.zeros(2), "epoch": 3}, "'epoch'.*int"),
        ({1: torch.zeros(2)}, "names are strings"),
        (torch.zeros(2), "Tensor"),
        ([torch.zeros(2)], "list"),
        ({}, "no tensors"),
    ],
)
def test_files_without_one_state_dictionary(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(InvalidModel, match=message):
        open_source(tmp_path / "c.pt")


@pytest.mark.filterwarnings("ignore")
def test_files_that_are_no_tensors(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(InvalidModel, match=r"state_dict\(\)"):
        open_source(path)
    for content in (b"", b"garbage", b"PK\x03\x04garbage"):
        path.write_bytes(content)
        with pytest.raises(InvalidModel):
            open_source(path)
    torch.save({"w": torch.zeros(1000)}, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidModel):
        open_source(path)


def test_written_files(tmp_path: Path) -> None:
    model: dict[str, Any] = {dtype.name: np.arange(6).reshape(2, 3).astype(dtype) for dtype in SUPPORTED_DTYPES}
    model["scalar"] = np.array(1.5, np.dtype("bfloat16"))
    model["empty"] = np.zeros((0, 3), np.float32)
    model["frozen"] = np.ones(3, np.float32)
    model["frozen"].flags.writeable = False
    save_tensors(model, tmp_path / "model.pt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt"]
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    assert list(state) == list(model)
    for name, value in model.items():
        assert str(state[name].dtype) == f"torch.{value.dtype.name}"
        assert tuple(state[name].shape) == value.shape
    source = open_source(tmp_path / "model.pt")
    for name, value in model.items():
        assert source.load(name).tobytes() == value.tobytes()


def test_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    torch.save({"w": torch.zeros(2)}, path)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(InvalidModel, match="pip install torch"):
        open_source(path)
    with pytest.raises(InvalidModel, match="pip install torch"):
        save_tensors({"w": np.zeros(2)}, tmp_path / "out.pt")
    assert not (tmp_path / "out.pt").exists()
    assert open_source({"w": np.zeros(2)}).names == ["w"]
