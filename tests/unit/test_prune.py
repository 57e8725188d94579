"""Structured pruning: the smaller network computes what the full one computes with zeros in the removed places."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from netpress import InvalidConfig, InvalidModel, RecipeError, Task

torch = pytest.importorskip("torch")
pytest.importorskip("torch_pruning")
from torch import nn  # noqa: E402

from netpress.recipe.prune.channels import CRITERIA, _compatible, prune_channels  # noqa: E402


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads cost more than they bring in networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Block(nn.Module):
    """A residual block of a random kind: plain, grouped or depthwise, with or without batch norm."""

    def __init__(self, inputs: int, outputs: int, groups: int, has_norm: bool, activation: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=not has_norm)
        self.norm = nn.BatchNorm2d(outputs) if has_norm else nn.Identity()
        self.second = nn.Conv2d(outputs, outputs, 1)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.activation = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.second(self.activation(self.norm(self.first(x))))
        return self.activation(y + self.shortcut(x))


class Network(nn.Module):
    """Stem, depthwise convolution, residual blocks, flatten, linear."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        activation = [nn.ReLU(), nn.Sigmoid(), nn.PReLU(), nn.SiLU()][seed % 4]
        widths = [int(w) for w in rng.choice([8, 12, 16], 3)]
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.stem_norm = nn.BatchNorm2d(widths[0])
        self.depthwise = nn.Conv2d(widths[0], widths[0], 3, padding=1, groups=widths[0])
        self.blocks = nn.ModuleList()
        for a, b in itertools.pairwise(widths):
            groups = int(rng.choice([1, 2, 4]))
            self.blocks.append(Block(a, b, groups, bool(rng.integers(2)), activation))
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.hidden = nn.Linear(widths[-1] * 4, 12)
        self.output = nn.Linear(12, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.depthwise(torch.relu(self.stem_norm(self.stem(x))))
        for block in self.blocks:
            x = block(x)
        x = torch.flatten(self.pool(x), 1)
        return self.output(torch.relu(self.hidden(x)))


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    module = Network(seed)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.2, 2)
            nn.init.normal_(m.bias)
            nn.init.normal_(m.running_mean)
            nn.init.uniform_(m.running_var, 0.3, 3)
    return module.eval()


def task(seed: int = 0, **fields: object) -> Task:
    generator = torch.Generator().manual_seed(seed)
    data = [torch.randn(4, 3, 8, 8, generator=generator) for _ in range(2)]
    return Task(calibration_batches=data, outputs="logits", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(8))
def test_scattered_values_compute_the_same(seed: int) -> None:
    module = network(seed)
    before = {name: t.clone() for name, t in module.state_dict().items()}
    criterion, scope = CRITERIA[seed % 3], ("global", "layer")[seed % 2]
    pruned = prune_channels(module, task(), share=0.4, criterion=criterion, scope=scope)
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    values, removed = pruned.module.state_dict(), 0
    assert list(values) == list(before)
    for name, value in values.items():
        assert pruned.shapes[name] == tuple(before[name].shape)
        assert tuple(len(k) for k in pruned.kept[name]) == tuple(value.shape)
        np.testing.assert_array_equal(value.numpy(), before[name].numpy()[np.ix_(*pruned.kept[name])])
        removed += before[name].numel() - value.numel()
    assert removed > 0.05 * sum(t.numel() for t in before.values())
    full = network(seed)
    full.load_state_dict({name: torch.from_numpy(v) for name, v in pruned.full_state().items()}, strict=True)
    x = torch.randn(3, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(pruned.module(x), full(x), rtol=1e-4, atol=1e-5)
        assert pruned.module(x).shape == (3, 5)
    assert "output" in pruned.protected


def test_weak_channels_go_first() -> None:
    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 36, 2)).eval()
    with torch.no_grad():
        module[0].weight[[1, 4]] *= 1e-3
        module[3].weight.view(2, 6, 36)[:, [1, 4]] *= 1e-3
    data = Task(calibration_batches=[torch.randn(2, 1, 8, 8)])
    pruned = prune_channels(module, data, share=1 / 3)
    np.testing.assert_array_equal(pruned.kept["0.weight"][0], [0, 2, 3, 5])
    # After flatten each channel is 36 columns.
    np.testing.assert_array_equal(pruned.kept["3.weight"][1], [c * 36 + i for c in (0, 2, 3, 5) for i in range(36)])


def test_batch_norm_scales_decide() -> None:
    module = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)).eval()
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([1, 0.01, 1, 1, 0.02, 1]))
    data = Task(calibration_batches=[torch.randn(2, 1, 8, 8)])
    pruned = prune_channels(module, data, share=1 / 3, criterion="batch_norm")
    np.testing.assert_array_equal(pruned.kept["1.running_var"][0], [0, 2, 3, 5])


def test_sensitivity_uses_the_loss() -> None:
    module = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        module[0].weight.fill_(1.0)
        module[1].weight.copy_(torch.tensor([[5.0, 1, 1, 1], [0, 1, 1, 1]]))
    # The largest weight leads to an output that the loss never looks at... but for one small part of it.
    data = Task(
        train_batches=[torch.ones(3, 4)],
        loss=lambda network, batch: network(batch)[:, 1].sum() + 1e-3 * network(batch)[:, 0].sum(),
    )
    np.testing.assert_array_equal(
        prune_channels(module, data, share=0.25, criterion="sensitivity").kept["0.weight"][0], [1, 2, 3]
    )
    assert 0 in prune_channels(module, data, share=0.25).kept["0.weight"][0]


def test_normalisation_over_channels_is_left_alone() -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm = nn.Linear(4, 8), nn.LayerNorm(8)
            self.b, self.c = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(torch.relu(self.b(self.norm(self.a(x)))))

    pruned = prune_channels(Normalised().eval(), Task(calibration_batches=[torch.randn(5, 4)]), share=0.5)
    assert set(pruned.protected) == {"a", "c"}
    assert pruned.module.a.out_features == 8
    assert pruned.module.b.out_features == 4


class Concatenated(nn.Module):
    """Two convolutions whose outputs are concatenated, with or without spatial positions left."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 1)
        self.pool = nn.AdaptiveAvgPool2d(positions)
        self.hidden, self.output = nn.Linear(20 * positions**2, 6), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.a(x)
        x = torch.cat([self.b(torch.relu(first)), first], 1)
        x = self.pool(x).flatten(1) if self.pool.output_size > 1 else x.mean((2, 3))
        return self.output(self.hidden(x))


def test_concatenation() -> None:
    module = Concatenated(1).eval()
    pruned = prune_channels(module, task(), share=0.5, scope="layer")
    assert set(pruned.protected) == {"output"}
    assert tuple(pruned.module.hidden.weight.shape) == (3, 10)
    module.load_state_dict({name: torch.from_numpy(v) for name, v in pruned.full_state().items()})
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(pruned.module(x), module(x), rtol=1e-4, atol=1e-5)


def test_what_torch_pruning_cannot_follow_stays() -> None:
    # It miscounts the columns where concatenated channels are flattened (torch-pruning 1.6.1).
    pruned = prune_channels(Concatenated(2).eval(), task(), share=0.5, scope="layer")
    assert {"output", "a", "b"} >= set(pruned.protected)
    assert pruned.module.hidden.out_features == 3
    with pytest.raises(RecipeError, match="cannot follow"):
        prune_channels(nn.Identity(), Task(calibration_batches=["text"], forward=lambda m, b: b), share=0.5)


def test_layers_to_keep_and_nothing_to_do() -> None:
    module = network(1)
    pruned = prune_channels(module, task(), share=0.5, keep=["hidden"], scope="layer")
    assert pruned.module.hidden.out_features == 12
    same = prune_channels(module, task(), share=0.0)
    for name, value in same.full_state().items():
        np.testing.assert_array_equal(value, module.state_dict()[name].numpy())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"share": 1.0}, InvalidConfig),
        ({"share": -0.1}, InvalidConfig),
        ({"share": 0.5, "criterion": "size"}, InvalidConfig),
        ({"share": 0.5, "scope": "block"}, InvalidConfig),
        ({"share": 0.5, "most": 0}, InvalidConfig),
        ({"share": 0.5, "keep": ["nothing"]}, InvalidModel),
    ],
)
def test_options_are_checked(options: dict, error: type[Exception]) -> None:
    with pytest.raises(error):
        prune_channels(network(0), task(), **options)
    with pytest.raises(InvalidConfig, match="no batches"):
        prune_channels(network(0), Task(calibration_batches=[]), share=0.5)


class Padded(nn.Module):
    """A shortcut that pads channels, which torch-pruning does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 3, padding=1)
        self.second, self.third = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 1)
        self.hidden, self.output = nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        y = self.second(torch.relu(self.first(x)))
        x = torch.relu(y + nn.functional.pad(x, (0, 0, 0, 0, 4, 4)))
        return self.output(torch.relu(self.hidden(self.third(x).mean((2, 3)))))


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_shortcuts_that_pad_channels(share: float, scope: str) -> None:
    torch.manual_seed(1)
    module = Padded().eval()
    pruned = prune_channels(module, task(), share=share, scope=scope)
    assert sum(p.numel() for p in pruned.module.parameters()) < sum(p.numel() for p in module.parameters())
    module.load_state_dict({name: torch.from_numpy(v) for name, v in pruned.full_state().items()})
    x = torch.randn(2, 3, 5, 5)
    torch.testing.assert_close(pruned.module(x), module(x), rtol=1e-4, atol=1e-5)


def test_steps_that_do_not_go_together_are_left_out() -> None:
    module = Concatenated(2).eval()
    history = [("hidden", True, [0, 1]), ("a", True, [0]), ("b", True, [3])]
    accepted, dropped = _compatible(module, task(), task().calibration_batches[0], history)  # type: ignore[index]
    assert accepted[0] == history[0]
    assert sorted(dropped + [name for name, _, _ in accepted]) == ["a", "b", "hidden"]
    assert dropped


def test_without_torch_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InvalidConfig, match=r"netpress\[prune\]"):
        prune_channels(network(0), task(), share=0.5)
