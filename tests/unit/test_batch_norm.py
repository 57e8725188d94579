from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.errors import InvalidModel
from netpress.parameters import Block, ParameterKind
from netpress.transforms.batch_norm import find_blocks, fold, fold_block, unfold, unfold_block, unpaired_batch_norms

Shapes = dict[str, tuple[int, ...]]


def statistics(n: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {k: rng.standard_normal(n).astype(np.float32) for k in ("gamma", "beta", "mean")}
    return values | {"var": rng.random(n, np.float32)}


def bn(path: str, channels: int) -> Shapes:
    return {f"{path}.{leaf}": (channels,) for leaf in ("weight", "bias", "running_mean", "running_var")}


def paired(shapes: Shapes, **options: Any) -> dict[str, str]:
    return {b.weight: str(b.bn_mean).rpartition(".")[0] for b in find_blocks(shapes, {}, **options)}


def test_fold_in_binary32() -> None:
    s = statistics(50)
    bias, scaling = s["beta"][::-1], s["mean"][::-1] + np.float32(2)
    before = {k: v.copy() for k, v in s.items()}
    alpha, delta = fold(**s, epsilon=1e-3, bias=bias, scaling=scaling.reshape(-1, 1))
    g = s["gamma"] / np.sqrt(s["var"] + np.float32(1e-3))
    assert alpha.dtype == delta.dtype == np.float32
    assert np.array_equal(alpha, scaling * g)
    assert np.array_equal(delta, (bias - s["mean"]) * g + s["beta"])
    assert all(np.array_equal(before[k], s[k]) for k in s)


def test_fold_refuses() -> None:
    s = statistics(4)
    with pytest.raises(InvalidModel, match=r"'w'.*sizes"):
        fold(**s, epsilon=1e-5, bias=np.zeros(3, np.float32), name="w")
    with pytest.raises(InvalidModel, match="variance"):
        fold(**(s | {"var": np.full(4, -1, np.float32)}), epsilon=1e-5)


@given(st.sampled_from([0.0, 1e-12, 1e-6, 1e-5, 1e-3, 0.1, 0.99]), st.integers(0, 50))
def test_unfold_then_fold_is_the_identity(epsilon: float, seed: int) -> None:
    s = statistics(8, seed)
    alpha, delta = s["gamma"], s["beta"]
    result = unfold(delta, epsilon=epsilon, alpha=alpha)
    again = fold(**result._asdict(), epsilon=epsilon)
    assert np.allclose(again[0], alpha, rtol=1.2e-7, atol=0)
    assert np.array_equal(again[1], delta)
    assert (result.var > 0).all()


def test_unfold_with_a_huge_epsilon() -> None:
    s = statistics(8)
    alpha, delta = fold(**unfold(s["beta"], epsilon=2.5, alpha=s["gamma"])._asdict(), epsilon=2.5)
    assert np.allclose(alpha, s["gamma"], rtol=3e-7)
    assert np.array_equal(delta, s["beta"])


def test_unfold_refuses() -> None:
    with pytest.raises(InvalidModel, match="does not fit"):
        unfold(np.ones(3, np.float32), epsilon=1e-5, alpha=np.ones(4, np.float32))
    with pytest.raises(InvalidModel, match="epsilon"):
        unfold(np.ones(3, np.float32), epsilon=-1.0)


def test_blocks() -> None:
    s = statistics(6)
    block = Block("c.weight", None, "c.bias", "n.b", "n.g", "n.m", "n.v", epsilon=1e-3)
    values = {"n.b": s["beta"], "n.g": s["gamma"], "n.m": s["mean"], "n.v": s["var"], "c.bias": s["beta"] * 2}
    folded, new = fold_block(block, values)
    assert folded == Block("c.weight", "c.weight_scaling", "c.bias", epsilon=1e-3)
    assert set(new) == {"c.weight_scaling", "c.bias"}
    assert np.array_equal(new["c.bias"], fold(**s, epsilon=1e-3, bias=values["c.bias"])[1])
    back = unfold_block(block, delta=new["c.bias"], alpha=new["c.weight_scaling"])
    assert set(back) == {"n.b", "n.g", "n.m", "n.v", "c.bias"}
    assert not back["c.bias"].any()
    without = fold_block(Block("c.weight", None, None, "n.b", "n.g", "n.m", "n.v"), values)[1]
    assert set(without) == {"c.weight_scaling", "c.weight.bias"}
    with pytest.raises(InvalidModel, match="lacks"):
        fold_block(block, {})
    with pytest.raises(InvalidModel, match="no batch norm"):
        fold_block(Block("c.weight"), values)


@pytest.mark.parametrize(
    ("layer", "norm"),
    [
        ("conv1", "bn1"),
        ("x.0", "x.1"),
        ("f.dw", "f.dw_bn"),
        ("f.conv", "f.bn"),
        ("l.downsample.0", "l.downsample.1"),
        ("fc", "fc_norm"),
        ("conv_a", "bn_a"),
        ("conv2", "norm2"),
    ],
)
def test_conventions(layer: str, norm: str) -> None:
    shapes = {f"{layer}.weight": (8, 3, 3, 3), f"{layer}.bias": (8,)} | bn(norm, 8)
    kinds = {f"{norm}.weight": ParameterKind.BN_GAMMA}
    (block,) = find_blocks(shapes, kinds, epsilon=1e-3)
    assert block == Block(
        f"{layer}.weight",
        None,
        f"{layer}.bias",
        f"{norm}.bias",
        f"{norm}.weight",
        f"{norm}.running_mean",
        f"{norm}.running_var",
        epsilon=1e-3,
    )
    assert unpaired_batch_norms(shapes, kinds, [block]) == []


@pytest.mark.parametrize(
    ("layer", "norm"),
    [("conv1", "bn2"), ("x.0", "x.2"), ("a.conv", "b.bn"), ("deconv1", "bn1"), ("conv", "act"), ("norm1", "norm2")],
)
def test_other_names_are_left_alone(layer: str, norm: str) -> None:
    shapes = {f"{layer}.weight": (8, 3, 3, 3)} | bn(norm, 8)
    assert paired(shapes) == {}
    assert unpaired_batch_norms(shapes, {}, []) == [norm]


def test_pre_activation_is_left_alone() -> None:
    shapes: Shapes = {"conv0.weight": (16, 3, 3, 3)}
    for i, width in enumerate((16, 16, 32)):
        before = 16
        for j in (1, 2):
            shapes |= bn(f"b.{i}.bn{j}", before if j == 1 else width)
            shapes[f"b.{i}.conv{j}.weight"] = (width, before if j == 1 else width, 3, 3)
    assert paired(shapes) == {}
    assert paired(dict(sorted(shapes.items()))) == {}


def test_sorted_names_need_evidence() -> None:
    shapes: Shapes = dict(sorted(({"conv1.weight": (8, 8, 3, 3)} | bn("bn1", 8)).items()))
    assert paired(shapes) == {}
    shapes = dict(sorted((shapes | {"conv2.weight": (16, 8, 3, 3)} | bn("bn2", 16)).items()))
    assert paired(shapes) == {"conv1.weight": "bn1", "conv2.weight": "bn2"}


def test_one_failure_distrusts_the_pattern() -> None:
    shapes: Shapes = {}
    for i, channels in enumerate((8, 8, 4)):
        shapes |= {f"b.{i}.conv1.weight": (8, 8, 3, 3)} | bn(f"b.{i}.bn1", channels)
    assert paired(shapes) == {}


def test_activated_means() -> None:
    shapes: Shapes = {"conv1.weight": (8, 3, 3, 3)} | bn("bn1", 8)
    mean = np.linspace(-1, 1, 8, dtype=np.float32)
    assert paired(shapes, values={"bn1.running_mean": mean}) == {"conv1.weight": "bn1"}
    assert paired(shapes, values={"bn1.running_mean": np.abs(mean)}) == {}


# The rest needs torch.


def shapes_of(module: Any) -> Shapes:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def test_round_trip_through_a_module() -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    for with_bias, epsilon in ((False, 1e-5), (True, 1e-3)):
        module = torch.nn.Sequential(
            torch.nn.Conv2d(3, 12, 3, bias=with_bias), torch.nn.BatchNorm2d(12, eps=epsilon), torch.nn.ReLU()
        ).eval()
        for name, value in module.state_dict().items():
            if value.ndim == 1:
                value.copy_(torch.rand(12) + 0.1 if "var" in name else torch.randn(12))
        x = torch.randn(2, 3, 8, 8)
        with torch.no_grad():
            expected = module(x)
        values = {k: v.numpy().copy() for k, v in module.state_dict().items()}
        (block,) = find_blocks(shapes_of(module), {}, module)
        assert block.epsilon == epsilon
        folded, new = fold_block(block, values)
        assert folded.scaling is not None
        assert folded.bias is not None
        back = values | unfold_block(block, delta=new[folded.bias], alpha=new[folded.scaling])
        module.load_state_dict({k: torch.from_numpy(v) for k, v in back.items()}, strict=True)
        with torch.no_grad():
            assert torch.allclose(module(x), expected, rtol=1e-5, atol=2e-6)
            convolved = torch.nn.functional.conv2d(x, torch.from_numpy(values["0.weight"]))
            alpha, delta = (torch.from_numpy(new[n]).reshape(1, -1, 1, 1) for n in (folded.scaling, folded.bias))
            assert torch.allclose(module[1](module[0](x)), alpha * convolved + delta, rtol=3e-7, atol=1e-6)


def test_data_flow_decides() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Net(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3)
            self.any = nn.BatchNorm2d(8, eps=0.25)
            self.conv1 = nn.Conv2d(8, 8, 1)
            self.bn1 = nn.BatchNorm2d(8)  # after a rectifier
            self.conv2 = nn.Conv2d(8, 8, 1)
            self.bn2 = nn.BatchNorm2d(8)  # its layer's output is used twice
            self.conv3 = nn.Conv2d(8, 8, 1)
            self.bn3 = nn.BatchNorm2d(8)  # in front of conv3
            self.up = nn.ConvTranspose2d(8, 8, 1)
            self.up_bn = nn.BatchNorm2d(8)

        def forward(self, x: Any) -> Any:
            x = self.any(self.stem(x))
            x = self.bn1(torch.relu(self.conv1(x)))
            y = self.conv2(x)
            x = self.bn2(y) + y
            x = self.conv3(self.bn3(x))
            return self.up_bn(self.up(x))

    net = Net()
    found = find_blocks(shapes_of(net), {}, net)
    assert [(b.weight, b.bn_mean, b.epsilon) for b in found] == [("stem.weight", "any.running_mean", 0.25)]
    assert unpaired_batch_norms(shapes_of(net), {}, found) == ["bn1", "bn2", "bn3", "up_bn"]


def test_untraceable_modules_fall_back() -> None:
    torch = pytest.importorskip("torch")
    nn = torch.nn

    class Branch(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4))
            self.conv1 = nn.Conv2d(4, 8, 1)
            self.bn1 = nn.BatchNorm2d(8, eps=0.5)
            self.fc = nn.ConvTranspose2d(8, 8, 1)
            self.bn = nn.BatchNorm2d(8)

        def forward(self, x: Any) -> Any:
            if x.sum() > 0:
                return x
            return self.bn1(self.conv1(self.features(x)))

    net = Branch()
    found = find_blocks(shapes_of(net), {}, net)
    assert [(b.weight, b.epsilon) for b in found] == [("features.2.weight", 1e-5), ("conv1.weight", 0.5)]
