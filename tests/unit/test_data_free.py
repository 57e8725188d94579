"""What is known about the inputs of layers without data, and what quantisation makes of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

import netpress
from netpress.calibration.data_free import data_free_calibration
from netpress.config import EncodeConfig
from netpress.errors import InvalidModel
from netpress.quantize.feedback import factor, factor_with_mean, form_error, quantize_feedback
from netpress.quantize.levels import quantize, quantize_with_form
from netpress.quantize.step_size import step_size

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from netpress.calibration.propagation import input_distributions  # noqa: E402


def norm(channels: int, kind: type = nn.BatchNorm2d) -> nn.Module:
    """A norm with gains and shifts of its own."""
    layer = kind(channels)
    generator = torch.Generator().manual_seed(channels)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(channels, generator=generator) + 0.5)
        layer.bias.copy_(torch.randn(channels, generator=generator) * 0.5)
    return layer


def sampled(function, gain: torch.Tensor, shift: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of a function of normal variables, from many of them."""
    draws = torch.randn(200_000, len(gain), generator=torch.Generator().manual_seed(1))
    values = function(draws * gain + shift).detach()
    return values.mean(0).numpy(), values.var(0).numpy()


class TestDistributions:
    @pytest.mark.parametrize("activation", [nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.Sigmoid(), nn.Tanh()])
    def test_norm_and_activation(self, activation):
        network = nn.Sequential(nn.Conv2d(3, 6, 3), norm(6), activation, nn.Conv2d(6, 2, 1))
        found = input_distributions(network)
        assert set(found) == {"3.weight"}
        mean, variance = sampled(activation, network[1].weight, network[1].bias)
        np.testing.assert_allclose(found["3.weight"].mean, mean, atol=0.01)
        np.testing.assert_allclose(found["3.weight"].variance, variance, atol=0.02)

    def test_relu_in_closed_form(self):
        network = nn.Sequential(norm(4, nn.BatchNorm1d), nn.ReLU(), nn.Linear(4, 2))
        gain, shift = (p.detach().double().numpy() for p in (network[0].weight, network[0].bias))
        ratio = shift / gain
        below = np.array([0.5 * (1 + math.erf(r / math.sqrt(2))) for r in ratio])
        density = np.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
        mean = shift * below + gain * density
        found = input_distributions(network)["2.weight"]
        np.testing.assert_allclose(found.mean, mean, rtol=1e-3)
        np.testing.assert_allclose(
            found.variance, (shift**2 + gain**2) * below + shift * gain * density - mean**2, rtol=1e-3
        )

    def test_residual_sum_and_flattening(self):
        class Residual(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = norm(4), norm(4)
                self.conv, self.fc = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4 * 9, 2)

            def forward(self, x):
                x = self.first(x)
                x = torch.relu(x + self.second(self.conv(x)))
                return self.fc(functional.adaptive_avg_pool2d(x, 3).flatten(1))

        network = Residual()
        found = input_distributions(network)
        np.testing.assert_allclose(found["conv.weight"].mean, network.first.bias.detach())
        gain = (network.first.weight**2 + network.second.weight**2).sqrt()
        mean, _ = sampled(torch.relu, gain, network.first.bias + network.second.bias)
        np.testing.assert_allclose(found["fc.weight"].mean, mean, atol=0.01)
        layers = data_free_calibration(network).layers
        # A channel is a run of 9 inputs after flattening.
        np.testing.assert_allclose(
            layers["fc.weight"].mean[0].reshape(4, 9), np.tile(found["fc.weight"].mean, (9, 1)).T
        )

    def test_a_network_whose_code_looks_at_sizes(self):
        class Same(nn.Module):
            def __init__(self):
                super().__init__()
                self.bn, self.conv = norm(3), nn.Conv2d(3, 5, 3, 2)

            def forward(self, x):
                totals = [max((-(-size // 2) - 1) * 2 + 3 - size, 0) for size in x.shape[2:]]
                return self.conv(functional.pad(self.bn(x), (0, totals[1], 0, totals[0])))

        network = Same()
        found = input_distributions(network)
        np.testing.assert_allclose(found["conv.weight"].mean, network.bn.bias.detach())

    def test_only_parts_can_be_followed(self):
        class Opaque(nn.Module):
            def __init__(self):
                super().__init__()
                self.body = nn.Sequential(norm(4, nn.LayerNorm), nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 2))

            def forward(self, x, y):
                if float(x.sum()) > 0:
                    raise RuntimeError("only for some inputs")
                return self.body(x) * y

        found = input_distributions(Opaque())
        assert set(found) == {"body.1.weight", "body.3.weight"}

    def test_recurrent_attention_and_embedding(self):
        class Words(nn.Module):
            def __init__(self):
                super().__init__()
                self.table, self.ln = nn.Embedding(50, 8), norm(8, nn.LayerNorm)
                self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
                self.lstm = nn.LSTM(8, 4)

            def forward(self, words):
                x = self.table(words)
                y = self.ln(x)
                y, _ = self.attention(y, y, y)
                return self.lstm(x)[0], y

        network = Words()
        found = input_distributions(network)
        assert set(found) == {"attention.in_proj_weight", "lstm.weight_ih_l0"}
        table = network.table.weight.detach().numpy()
        np.testing.assert_allclose(found["lstm.weight_ih_l0"].mean, table.mean(0), rtol=1e-5)
        np.testing.assert_allclose(found["attention.in_proj_weight"].mean, network.ln.bias.detach())

    def test_the_network_is_left_as_it_was(self):
        network = nn.Sequential(nn.Conv2d(1, 4, 3), norm(4), nn.Dropout(0.5), nn.Conv2d(4, 4, 3)).train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        input_distributions(network)
        assert network.training
        for name, value in network.state_dict().items():
            assert torch.equal(value, before[name])


class TestForm:
    @pytest.mark.parametrize(("groups", "channels", "block"), [(1, 5, 1), (2, 4, 3), (3, 1, 9)])
    def test_is_that_of_the_whole_matrix(self, groups, channels, block):
        rng = np.random.default_rng(block)
        columns = channels * block
        mean = rng.normal(size=(groups, columns))
        whole = mean[:, :, None] * mean[:, None, :]
        blocks = np.zeros((groups, columns, block))
        for first in range(0, columns, block):
            own = slice(first, first + block)
            half = rng.normal(size=(groups, block, block))
            whole[:, own, own] += half @ half.swapaxes(1, 2)
            blocks[:, own] = whole[:, own, own]
        form = factor_with_mean(blocks, mean, damping=0.02)
        dense = factor(whole, damping=0.02)
        np.testing.assert_allclose(form.importance, dense.importance, rtol=1e-4)
        # With the fine steps that leave no choice between levels, both take up the same errors.
        weights = rng.normal(size=(groups * 2, columns)).astype(np.float32)
        errors = []
        for one in (form, dense):
            levels = quantize_feedback(weights, one, qp=-30, dependent=False)
            errors.append(form_error(weights - levels * np.float32(step_size(-30, 2)), whole))
        assert errors[0] == pytest.approx(errors[1], rel=0.05)

    @pytest.mark.parametrize("mean", [np.zeros((1, 3)), np.full((1, 4), np.nan)])
    def test_what_does_not_fit(self, mean):
        with pytest.raises(InvalidModel):
            factor_with_mean(np.ones((1, 4, 2)), mean)

    def test_errors_add_up_to_nothing(self):
        rng = np.random.default_rng(0)
        weights = rng.normal(size=(64, 96, 3, 3)).astype(np.float32)
        form = data_free_calibration({"w": weights}).layers["w"].form(damping=0.1)
        step = np.float32(step_size(-8, 2))
        sums = {}
        for name, levels in (
            ("plain", quantize(weights, qp=-8, qp_density=2, dependent=True, reference=False)[0]),
            ("fed back", quantize_with_form(weights, form, qp=-8, qp_density=2, dependent=True)[0]),
            ("rate", quantize_with_form(weights, form, qp=-8, qp_density=2, dependent=True, lambda_scale=0.25)[0]),
            ("uniform", quantize_with_form(weights, form, qp=-8, qp_density=2, dependent=False)[0]),
        ):
            errors = weights - levels * step
            assert np.abs(errors).max() < 6 * step
            sums[name] = float(np.square(errors.reshape(64, -1).sum(1)).mean())
        assert max(sums["fed back"], sums["rate"], sums["uniform"]) < sums["plain"] / 50

    def test_weights_that_are_too_large_are_quantised_all_the_same(self):
        weights = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
        weights[0, 0] = 1e6
        form = data_free_calibration({"w": weights}).layers["w"].form(damping=0.1)
        levels, qp = quantize_with_form(weights, form, qp=-60, qp_density=2, dependent=True)
        plain, plain_qp = quantize(weights, qp=-60, qp_density=2, dependent=True, reference=False)
        assert qp == plain_qp
        np.testing.assert_array_equal(levels, plain)


class TestEncoding:
    @staticmethod
    def network() -> nn.Module:
        torch.manual_seed(3)
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [nn.Conv2d(48, 48, 1, bias=False), norm(48), nn.ReLU()]
        network = nn.Sequential(*layers).train()
        with torch.no_grad():
            for _ in range(30):  # statistics of the batch norms
                network(torch.randn(8, 48, 8, 8))
        return network.eval()

    def outputs_error(self, network: nn.Module, **options) -> tuple[float, int]:
        data = netpress.encode(network, **options)
        state = {name: torch.from_numpy(value.copy()) for name, value in netpress.decode(data).items()}
        inputs = torch.randn(16, 48, 8, 8, generator=torch.Generator().manual_seed(5))
        with torch.no_grad():
            wanted = network(inputs)
            got = torch.func.functional_call(network, state, (inputs,))
        return float((got - wanted).square().mean()), len(data)

    @pytest.mark.parametrize("options", [{}, {"qp": -16}, {"effort": 2}, {"effort": 8}])
    def test_outputs_are_nearer_in_as_many_bytes(self, options):
        network = self.network()
        error, size = self.outputs_error(network, **options)
        plain, plain_size = self.outputs_error(network, error_feedback=False, **options)
        assert error < 0.8 * plain
        assert size < 1.02 * plain_size

    def test_it_serves_as_a_calibration(self):
        network = self.network()
        known = data_free_calibration(network)
        plain, size = self.outputs_error(network, qp=-16, error_feedback=False)
        error, calibrated = self.outputs_error(network, qp=-16, calibration=known)
        assert error < 0.8 * plain
        assert calibrated < 1.02 * size
        weight = {"w": network[0].weight.detach().numpy()}
        integers = netpress.quantize_model(weight, data_free_calibration(weight), qp=-16)["w"]
        errors, steps = integers.values() - weight["w"], step_size(-16, 2)
        assert np.abs(errors.reshape(48, -1).sum(1)).mean() < 2 * steps

    def test_inputs_beyond_single_precision_are_unknown(self):
        class Growing(nn.Module):
            def __init__(self):
                super().__init__()
                self.bn, self.fc = norm(4, nn.BatchNorm1d), nn.Linear(4, 3)

            def forward(self, x):
                return self.fc(torch.exp(100 * self.bn(x)))

        network = Growing()
        assert not (input_distributions(network)["fc.weight"].mean < 1e38).any()
        assert np.unique(data_free_calibration(network).layers["fc.weight"].mean).size == 1
        assert netpress.decode(netpress.encode(network))["fc.weight"].shape == (3, 4)

    def test_where_it_does_not_apply(self):
        weights = {"w": np.random.default_rng(0).normal(size=(32, 48)).astype(np.float32)}
        old = {"w": weights["w"] * np.float32(0.9)}
        coarse = {"sparsity": 0.5, "qp": -20}
        for options in ({"scan_order": 1}, {"bit_depth": 6}, {"use_dq": False}, coarse, {"base": old}):
            on = netpress.encode(weights, **options)
            assert on == netpress.encode(weights, error_feedback=False, **options)
        reference = EncodeConfig.reference(qp=-20)
        assert netpress.encode(weights, reference) == netpress.encode(weights, reference, error_feedback=False)

    def test_a_file_is_not_known_as_well_as_a_module(self):
        network = self.network()
        assert len(data_free_calibration(network).layers) == 4
        state = data_free_calibration(dict(network.state_dict())).layers
        assert sorted(state) == ["0.weight", "3.weight", "6.weight", "9.weight"]
        assert np.unique(state["3.weight"].mean).size == 1

    def test_it_can_be_kept(self, tmp_path):
        calibration = data_free_calibration(self.network())
        calibration.save(tmp_path / "known.safetensors")
        again = netpress.Calibration.load(tmp_path / "known.safetensors")
        for name, layer in calibration.layers.items():
            np.testing.assert_array_equal(again.layers[name].moments, layer.moments)
            np.testing.assert_array_equal(again.layers[name].mean, layer.mean)
