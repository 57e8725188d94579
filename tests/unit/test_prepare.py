"""From sources to data units and back: blocks, batch norms, factors, scalings, sparsity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import netpress
from netpress.bitstream import DataUnit, MemberRole, PayloadType, UnitReader, payload_members
from netpress.codec.prepare import prepare_model
from netpress.config import EncodeConfig
from netpress.formats import open_source
from netpress.transforms.decompose import decompose
from netpress.transforms.local_scaling import apply_scaling

GENERATOR = np.random.default_rng(3)
WEIGHT = GENERATOR.normal(0, 0.1, (8, 4, 3, 3)).astype(np.float32)
LAYER = {
    "conv.weight": WEIGHT,
    "conv.bias": GENERATOR.normal(0, 0.1, 8).astype(np.float32),
    "conv.scaling": GENERATOR.uniform(0.5, 2, 8).astype(np.float32),
    "bn.weight": GENERATOR.uniform(0.5, 2, 8).astype(np.float32),
    "bn.bias": GENERATOR.normal(0, 0.1, 8).astype(np.float32),
    "bn.running_mean": GENERATOR.normal(0, 0.1, 8).astype(np.float32),
    "bn.running_var": GENERATOR.uniform(0.5, 2, 8).astype(np.float32),
}
BATCH_NORM: dict[str, Any] = {
    "bn_beta": "bn.bias",
    "bn_gamma": "bn.weight",
    "bn_mean": "bn.running_mean",
    "bn_var": "bn.running_var",
}
FULL = netpress.Block("conv.weight", scaling="conv.scaling", bias="conv.bias", **BATCH_NORM)
FINE: dict[str, Any] = {"qp": -60, "nonweight_qp": -100}


def data_units(data: bytes) -> list[DataUnit]:
    return [unit.content for unit in UnitReader(data) if isinstance(unit.content, DataUnit)]


def close(decoded: dict[str, Any], model: dict[str, Any], tolerance: float = 1e-3) -> None:
    assert list(decoded) == list(model)
    for name, value in model.items():
        assert decoded[name].shape == value.shape, name
        np.testing.assert_allclose(decoded[name], value, atol=tolerance, rtol=tolerance, err_msg=name)


@pytest.mark.parametrize(
    "block",
    [
        netpress.Block("conv.weight", bias="conv.bias"),
        netpress.Block("conv.weight", scaling="conv.scaling"),
        netpress.Block("conv.weight", **BATCH_NORM),
        FULL,
    ],
    ids=["bias", "scaling", "batch norm", "all"],
)
@pytest.mark.parametrize("profile", [0, 1])
@pytest.mark.parametrize("scan_order", [0, 1])
def test_blocks(block: netpress.Block, profile: int, scan_order: int) -> None:
    data = netpress.encode(LAYER, blocks=(block,), profile=profile, scan_order=scan_order, **FINE)
    units = data_units(data)
    assert [unit.is_block for unit in units].count(True) == 1
    close(netpress.decode(data), LAYER)


def test_order_within_a_block() -> None:
    unit = data_units(netpress.encode(LAYER, blocks=(FULL,)))[0]
    assert unit.topology_elem_ids == (
        *("conv.weight", "conv.scaling", "bn.bias", "bn.weight", "bn.running_mean", "bn.running_var", "conv.bias"),
    )
    assert [member.role for member in payload_members(unit)][-1] is MemberRole.WEIGHT


def test_scaling_is_applied_on_request() -> None:
    data = netpress.encode(LAYER, blocks=(FULL,), **FINE)
    plain, scaled = netpress.decode(data), netpress.decode(data, reconstruct=True)
    assert "conv.scaling" not in scaled
    assert list(scaled) == [name for name in LAYER if name != "conv.scaling"]
    expected = apply_scaling(plain["conv.weight"], plain["conv.scaling"])
    assert scaled["conv.weight"].tobytes() == expected.tobytes()


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("profile", [0, 1])
@pytest.mark.parametrize("codebook_mode", [0, 1])
def test_factors(scaled: bool, profile: int, codebook_mode: int) -> None:
    g, h = decompose(WEIGHT, 5)
    model = {"first": np.ones(3, np.float32), "w_G": g, "w_H": h, "b": LAYER["conv.bias"]}
    block = netpress.Block("w", bias="b", dimensions=WEIGHT.shape)
    if scaled:
        model["s"] = LAYER["conv.scaling"]
        block = netpress.Block("w", bias="b", scaling="s", dimensions=WEIGHT.shape)
    options = {"profile": profile, "codebook_mode": codebook_mode, "use_dq": False, "qp": -32}
    data = netpress.encode(model, blocks=(block,), **options)
    close(netpress.decode(data), model, 0.02)
    restored = netpress.decode(data, reconstruct=True)
    assert set(restored) == {"first", "w", "b"}
    product = (g * model["s"][:, None] if scaled else g) @ h
    np.testing.assert_allclose(restored["w"], product.reshape(WEIGHT.shape), atol=0.05)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (netpress.Block("missing", bias="conv.bias"), "missing"),
        (netpress.Block("conv.weight", bias="other"), "other"),
        (netpress.Block("conv.weight"), "two members"),
        (netpress.Block("conv.weight", bias="bn.bias", **BATCH_NORM), "twice|two blocks|same"),
        (netpress.Block("conv.weight", bias="short"), "shape"),
        (netpress.Block("w", dimensions=(8, 36)), "w_G"),
        (netpress.Block("v", dimensions=(8, 9)), "factors"),
    ],
    ids=str,
)
def test_blocks_that_do_not_fit(block: netpress.Block, message: str) -> None:
    model = {**LAYER, "short": np.ones(3, np.float32), "v_G": np.ones((8, 2), "f4"), "v_H": np.ones((2, 8), "f4")}
    with pytest.raises(netpress.InvalidModel, match=message):
        netpress.encode(model, blocks=(block,))


def test_tensors_in_two_blocks() -> None:
    blocks = (netpress.Block("conv.weight", bias="conv.bias"), netpress.Block("other", bias="conv.bias"))
    with pytest.raises(netpress.InvalidModel, match="two blocks"):
        netpress.encode({**LAYER, "other": WEIGHT}, blocks=blocks)


def test_half_a_batch_norm() -> None:
    with pytest.raises(netpress.InvalidModel, match="four"):
        netpress.Block("w", bn_gamma="g")


@pytest.mark.parametrize("names", [set(), {"conv.bias"}, {"conv.scaling"}, {"conv.bias", "conv.scaling"}], ids=str)
def test_folding_is_undone(names: set[str]) -> None:
    """All four tensors come back; what they compute is the same, though not each of their values."""
    model = {n: v for n, v in LAYER.items() if n not in ("conv.bias", "conv.scaling") or n in names}
    block = netpress.Block(
        "conv.weight",
        bias="conv.bias" if "conv.bias" in names else None,
        scaling="conv.scaling" if "conv.scaling" in names else None,
        epsilon=1e-3,
        **BATCH_NORM,
    )
    data = netpress.encode(model, blocks=(block,), fold_batch_norm=True, **FINE)
    assert len(data_units(data)[0].topology_elem_ids) == 3
    restored = netpress.decode(data)
    assert set(restored) == set(model)
    assert [restored[n].shape for n in model] == [v.shape for v in model.values()]
    for gain_of in (gain, shift):
        np.testing.assert_allclose(gain_of(restored), gain_of(model), rtol=1e-4, atol=1e-5)


def gain(model: dict[str, Any]) -> Any:
    return model.get("conv.scaling", 1) * model["bn.weight"] / np.sqrt(model["bn.running_var"].astype("f8") + 1e-3)


def shift(model: dict[str, Any]) -> Any:
    factor = model["bn.weight"] / np.sqrt(model["bn.running_var"].astype("f8") + 1e-3)
    return (model.get("conv.bias", 0) - model["bn.running_mean"]) * factor + model["bn.bias"]


def test_batch_norms_of_a_torch_module() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Network(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, bias=False)
            self.norm = nn.BatchNorm2d(8, eps=1e-2)
            self.second = nn.Conv2d(8, 6, 3)
            self.other = nn.BatchNorm2d(6)
            self.head = nn.Linear(6, 4)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.norm(self.first(x)))
            x = torch.relu(self.other(self.second(x)))
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    network = Network()
    with torch.no_grad():
        for _ in range(5):
            network(torch.randn(16, 3, 12, 12) * 2 + 1)
    network.eval()
    images = torch.randn(4, 3, 12, 12)
    expected = network(images).detach()
    data = netpress.encode(network, fold_batch_norm=True, **FINE)
    assert sum(unit.is_block for unit in data_units(data)) == 2
    restored = netpress.decode(data)
    assert list(restored) == list(network.state_dict())
    fresh = Network().eval()
    fresh.load_state_dict({name: torch.from_numpy(value) for name, value in restored.items()}, strict=True)
    torch.testing.assert_close(fresh(images).detach(), expected, atol=2e-3, rtol=2e-3)
    plain = Network().eval()
    decoded = netpress.decode(netpress.encode(network, **FINE))
    plain.load_state_dict({name: torch.from_numpy(value) for name, value in decoded.items()}, strict=True)
    torch.testing.assert_close(plain(images).detach(), expected, atol=2e-3, rtol=2e-3)


def test_names_that_other_decoders_cannot_read() -> None:
    model = {"w_G": WEIGHT, "w_G~": WEIGHT, "w_H": np.arange(4, dtype=np.int32)}
    prepared = prepare_model(open_source(model), EncodeConfig())
    names = [parameter.name for parameter in prepared.parameters]
    assert len(set(names)) == 3
    assert not any(name.endswith(("_G", "_H")) for name in names)
    assert [prepared.original_name(name) for name in names] == list(model)


def test_plain_models_have_no_record() -> None:
    model = {"w": WEIGHT, "n": np.arange(4, dtype=np.int32)}
    assert prepare_model(open_source(model), EncodeConfig()).record(["w", "n"]).is_empty()
    assert b"netpress" not in netpress.encode(model)
    assert b"netpress" in netpress.encode({"w": WEIGHT.astype(np.float16)})


def test_integers_and_floats_in_one_block_travel_alone() -> None:
    model = {"w": np.arange(12, dtype=np.int32).reshape(4, 3), "b": np.ones(4, np.float32)}
    data = netpress.encode(model, blocks=(netpress.Block("w", bias="b"),))
    types = [unit.nnr_compressed_data_unit_payload_type for unit in data_units(data)]
    assert sorted(types) == [PayloadType.INT, PayloadType.FLOAT]
    close(netpress.decode(data), model)


def test_folding_a_dictionary_needs_the_epsilon() -> None:
    rng = np.random.default_rng(3)
    model = {
        "conv1.weight": rng.normal(0, 0.2, (6, 3, 3, 3)).astype(np.float32),
        "bn1.weight": rng.uniform(0.5, 2, 6).astype(np.float32),
        "bn1.bias": rng.normal(0, 1, 6).astype(np.float32),
        "bn1.running_mean": rng.normal(0, 1, 6).astype(np.float32),
        "bn1.running_var": rng.uniform(0.5, 2, 6).astype(np.float32),
    }
    with pytest.raises(netpress.InvalidConfig, match="batch_norm_epsilon"):
        netpress.encode(model, fold_batch_norm=True)
    restored = netpress.decode(netpress.encode(model, fold_batch_norm=True, batch_norm_epsilon=1e-3, qp=-60))
    assert list(restored) == list(model)
    x = rng.normal(0, 1, 6).astype(np.float32)

    def normalised(state: dict[str, Any]) -> Any:
        scale = state["bn1.weight"] / np.sqrt(state["bn1.running_var"] + np.float32(1e-3))
        return (x - state["bn1.running_mean"]) * scale + state["bn1.bias"]

    np.testing.assert_allclose(normalised(restored), normalised(model), atol=1e-4)
