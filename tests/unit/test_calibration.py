import subprocess
import sys
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn = torch.nn

import netpress  # noqa: E402
from netpress.errors import InvalidConfig, InvalidModel  # noqa: E402
from netpress.quantize.feedback import form_error  # noqa: E402

NetpressWarning = netpress.NetpressWarning


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def run(module, *inputs, **options):
    options = {"outputs": "values", "measure": False, **options}
    return netpress.calibrate(module, list(inputs), **options)


def output_energy(layer, delta, x):
    """Sum over outputs of the mean squared change that a change of the weight makes, over all positions."""
    with torch.no_grad():
        before = layer(x).double()
        layer.weight.add_(delta)
        after = layer(x).double()
        layer.weight.sub_(delta)
    change = (after - before).square()
    if isinstance(layer, nn.Linear):
        return change.reshape(-1, change.shape[-1]).mean(0).sum().item()
    return change.transpose(0, 1).flatten(1).mean(1).sum().item()


CONVOLUTIONS = [
    (nn.Conv1d(4, 6, 3, stride=2, padding=1), (5, 4, 17)),
    (nn.Conv2d(3, 5, 3), (4, 3, 9, 8)),
    (nn.Conv2d(3, 5, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)), (4, 3, 9, 8)),
    (nn.Conv2d(4, 6, 1, stride=2, bias=False), (3, 4, 7, 7)),
    (nn.Conv2d(6, 4, 3, groups=2, padding="same"), (3, 6, 6, 6)),
    (nn.Conv2d(5, 10, 3, groups=5, padding=1, padding_mode="reflect"), (3, 5, 6, 6)),
    (nn.Conv3d(2, 3, (2, 3, 1), padding=1), (2, 2, 4, 5, 3)),
    (nn.Linear(7, 4), (11, 7)),
    (nn.Linear(7, 4, bias=False), (3, 5, 7)),
]


class TestMoments:
    @pytest.mark.parametrize(("layer", "shape"), CONVOLUTIONS, ids=lambda v: str(v)[:40])
    def test_they_tell_what_errors_do_to_the_outputs(self, layer, shape):
        x = torch.randn(shape) + 0.3
        statistics = run(layer, x).layers["weight"]
        assert statistics.layout == "columns"
        delta = torch.randn_like(layer.weight)
        energy = form_error(delta.numpy(), statistics.moments)
        assert energy == pytest.approx(output_energy(layer, delta, x), rel=1e-4)

    @pytest.mark.parametrize(
        ("layer", "shape"),
        [
            (nn.ConvTranspose1d(3, 2, 4, stride=2, padding=1), (4, 3, 6)),
            (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (3, 4, 5, 4)),
            (nn.ConvTranspose2d(3, 2, (2, 3), dilation=(2, 1)), (3, 3, 4, 4)),
            (nn.ConvTranspose3d(2, 3, 2, stride=2), (2, 2, 3, 3, 3)),
        ],
        ids=lambda v: str(v)[:40],
    )
    def test_transposed_convolutions(self, layer, shape):
        x = torch.randn(shape) + 0.3
        statistics = run(layer, x).layers["weight"]
        assert statistics.layout == "rows"
        delta = torch.randn_like(layer.weight)
        # One row of errors per output, in the groups' order.
        errors = delta.reshape(layer.groups, -1, *delta.shape[1:]).transpose(1, 2).flatten(0, 1).flatten(1)
        energy = form_error(errors.numpy(), statistics.moments)
        assert energy == pytest.approx(output_energy(layer, delta, x), rel=1e-4)

    def test_means(self):
        x = torch.randn(20, 6) + 1
        statistics = run(nn.Linear(6, 2), x[:7], x[7:]).layers["weight"]
        np.testing.assert_allclose(statistics.mean[0], x.mean(0).numpy(), rtol=1e-5)
        assert statistics.count == 20

    def test_some_positions_stand_for_all(self):
        layer = nn.Conv2d(2, 3, 3)
        x = torch.randn(40, 2, 34, 34)
        statistics = run(layer, x).layers["weight"]
        assert statistics.count == 4096
        delta = torch.randn_like(layer.weight)
        energy = form_error(delta.numpy(), statistics.moments)
        assert energy == pytest.approx(output_energy(layer, delta, x), rel=0.1)

    def test_lstm_and_gru_cells_are_seen_step_by_step(self):
        for kind in (nn.LSTM, nn.GRU):
            cells = kind(4, 5, num_layers=2, batch_first=True)
            x = torch.randn(3, 6, 4)
            found = run(cells, x, forward=lambda m, b: m(b)[0]).layers
            assert set(found) == {"weight_ih_l0", "weight_hh_l0", "weight_ih_l1", "weight_hh_l1"}
            flat = x.reshape(-1, 4)
            np.testing.assert_allclose(found["weight_ih_l0"].moments[0], (flat.T @ flat / 18).numpy(), rtol=1e-4)
            with torch.no_grad():
                hidden = cells(x)[0]
            earlier = torch.cat([torch.zeros(3, 1, 5), hidden[:, :-1]], 1).reshape(-1, 5)
            np.testing.assert_allclose(
                found["weight_hh_l1"].moments[0], (earlier.T @ earlier / 18).numpy(), rtol=1e-4, atol=1e-6
            )

    def test_attention(self):
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        x = torch.randn(3, 5, 8)
        found = run(attention, x, forward=lambda m, b: m(b, b, b)[0]).layers
        assert set(found) == {"in_proj_weight", "out_proj.weight"}
        flat = x.reshape(-1, 8)
        np.testing.assert_allclose(found["in_proj_weight"].moments[0], (flat.T @ flat / 15).numpy(), rtol=1e-4)
        with torch.no_grad():
            attention.out_proj.weight.copy_(torch.eye(8))
            attention.out_proj.bias.zero_()
            heads = attention(x, x, x)[0].reshape(-1, 8)
        np.testing.assert_allclose(found["out_proj.weight"].moments[0], (heads.T @ heads / 15).numpy(), rtol=1e-3)

    def test_attention_to_something_else_has_a_group_per_projection(self):
        attention = nn.MultiheadAttention(8, 2, batch_first=True)
        q, k, v = torch.randn(3, 3, 5, 8)
        found = run(attention, (q, k, v), forward=lambda m, b: m(*b)[0]).layers["in_proj_weight"]
        assert found.moments.shape == (3, 8, 8)
        for group, x in enumerate((q, k, v)):
            flat = x.reshape(-1, 8)
            np.testing.assert_allclose(found.moments[group], (flat.T @ flat / 15).numpy(), rtol=1e-4)

    def test_transformer_layers(self):
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        calibration = run(layer, torch.randn(3, 5, 8))
        assert calibration.unreached == ()
        assert set(calibration.layers) == {
            "self_attn.in_proj_weight",
            "self_attn.out_proj.weight",
            "linear1.weight",
            "linear2.weight",
        }

    def test_products_with_the_inputs_in_the_first_dimension(self):
        class Layer(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.randn(4, 3))

            def forward(self, x):
                return x @ self.weight

        x = torch.randn(9, 4)
        statistics = run(Layer(), x).layers["weight"]
        assert statistics.layout == "rows"
        np.testing.assert_allclose(statistics.moments[0], (x.T @ x / 9).numpy(), rtol=1e-5)

    def test_embeddings_count_uses(self):
        table = nn.Embedding(5, 3)
        statistics = run(table, torch.tensor([[0, 1, 1, 3]])).layers["weight"]
        assert statistics.layout == "table"
        np.testing.assert_allclose(statistics.moments[0, :, 0], [0.25, 0.5, 0, 0.25, 0])

    def test_a_shared_weight_is_collected_once_for_all_its_uses(self):
        class Shared(nn.Module):
            def __init__(self):
                super().__init__()
                self.first = nn.Linear(4, 4, bias=False)
                self.second = self.first

            def forward(self, x):
                return self.second(self.first(x))

        module = Shared()
        x = torch.randn(6, 4)
        found = run(module, x).layers
        y = module.first(x).detach()
        assert found["first.weight"] is found["second.weight"]
        np.testing.assert_allclose(
            found["first.weight"].moments[0], ((x.T @ x + y.T @ y) / 12).numpy(), rtol=1e-4, atol=1e-6
        )

    def test_blocks_where_memory_is_short(self):
        layer = nn.Linear(256, 3)
        x = torch.randn(50, 256)
        whole = run(layer, x).layers["weight"].moments
        blocks = run(layer, x, memory_bytes=4 * 256 * 100).layers["weight"].moments
        assert blocks.shape == (1, 256, 64)
        for start in range(0, 256, 64):
            here = slice(start, start + 64)
            np.testing.assert_allclose(blocks[0, here], whole[0, here, here], rtol=1e-4, atol=1e-5)


class TestSensitivities:
    @pytest.mark.parametrize("outputs", ["values", "logits"])
    def test_they_predict_the_divergence_of_white_errors(self, outputs):
        module = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(6 * 16, 5))
        x = torch.randn(192, 2, 6, 6)
        calibration = run(module, *x.split(16), outputs=outputs)
        with torch.no_grad():
            before = module(x).double()
        for name in ("0.weight", "3.weight"):
            layer = calibration.layers[name]
            deviation = 0.003
            parameter = module.get_parameter(name)
            measured, predicted = [], []
            for _ in range(20):
                delta = deviation * torch.randn_like(parameter)
                with torch.no_grad():
                    parameter.add_(delta)
                    after = module(x).double()
                    parameter.sub_(delta)
                if outputs == "values":
                    divergence = (after - before).square().sum(1).mean() / 2
                else:
                    p, q = before.log_softmax(1), after.log_softmax(1)
                    divergence = (p.exp() * (p - q)).sum(1).mean()
                measured.append(divergence.item())
            trace = np.trace(layer.moments[0])
            predicted = deviation**2 * trace * layer.sensitivity.sum() / 2
            assert predicted == pytest.approx(np.mean(measured), rel=0.3)

    def test_without_them_no_gradient_is_needed(self):
        calibration = run(nn.Linear(3, 2), torch.randn(4, 3), sensitivities=False)
        assert calibration.layers["weight"].sensitivity is None
        assert not calibration.has_sensitivities
        assert not calibration.vectors

    def test_vectors(self):
        calibration = run(nn.Linear(3, 2), torch.randn(400, 3))
        # A bias is its output: its squared gradient is 1 for values.
        np.testing.assert_allclose(calibration.vectors["bias"], [1, 1], rtol=2)
        assert calibration.has_sensitivities


class TestCalibrate:
    def test_the_module_is_left_as_it_was(self):
        module = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))
        module[0].eval()
        module[0].weight.requires_grad_(False)
        before = {n: p.clone() for n, p in module.state_dict().items()}
        run(module, torch.randn(5, 3))
        assert [m.training for m in module.modules()] == [True, False, True, True]
        assert [p.requires_grad for p in module.parameters()] == [False, True, True, True]
        assert all(torch.equal(p, before[n]) for n, p in module.state_dict().items())
        assert all(p.grad is None for p in module.parameters())

    def test_inputs_that_are_not_finite(self):
        module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
        with torch.no_grad():
            module[0].bias[1] = torch.inf
        with pytest.raises(InvalidModel, match=r"1\.weight.*not finite"):
            run(module, torch.randn(2, 3))

    def test_weights_that_are_not_reached(self):
        module = nn.Linear(3, 2)
        module.other = nn.Linear(3, 2)
        with pytest.warns(NetpressWarning, match=r"other\.weight"):
            calibration = run(module, torch.randn(2, 3))
        assert calibration.unreached == ("other.weight",)

    def test_no_batches(self):
        with pytest.raises(InvalidConfig, match="no calibration batches"):
            run(nn.Linear(3, 2))
        with pytest.raises(InvalidConfig, match="outputs"):
            run(nn.Linear(3, 2), torch.randn(1, 3), outputs="labels")

    def test_progress_and_dictionaries(self):
        seen = []
        batches = [{"input": torch.randn(4, 3)}, {"input": torch.randn(2, 3)}]
        calibration = netpress.calibrate(nn.Linear(3, 2), lambda: batches, progress=lambda *a: seen.append(a))
        assert calibration.samples == 6
        assert [done for done, _, _ in seen] == [4, 6]

    def test_the_same_seed_gives_the_same_statistics(self):
        module = nn.Conv2d(2, 3, 3)
        x = torch.randn(20, 2, 20, 20)
        first, second = run(module, x).layers["weight"], run(module, x).layers["weight"]
        np.testing.assert_array_equal(first.moments, second.moments)
        np.testing.assert_array_equal(first.sensitivity, second.sensitivity)

    def test_importing_netpress_does_not_import_torch(self):
        code = "import sys, netpress; netpress.calibrate; sys.exit('torch' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class TestContainer:
    def test_files(self, tmp_path):
        module = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
        calibration = run(module, torch.randn(5, 3))
        calibration.save(tmp_path / "c.safetensors")
        again = netpress.Calibration.load(tmp_path / "c.safetensors")
        assert again.samples == 5
        assert list(again.layers) == list(calibration.layers)
        for name, layer in calibration.layers.items():
            for field in ("layout", "count"):
                assert getattr(again.layers[name], field) == getattr(layer, field)
            for field in ("moments", "mean", "sensitivity"):
                np.testing.assert_array_equal(getattr(again.layers[name], field), getattr(layer, field))
        np.testing.assert_array_equal(again.vectors["0.bias"], calibration.vectors["0.bias"])

    def test_other_files(self, tmp_path):
        (tmp_path / "c").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
        with pytest.raises(InvalidModel, match="not a calibration"):
            netpress.Calibration.load(tmp_path / "c")
        with pytest.raises(FileNotFoundError):
            netpress.Calibration.load(tmp_path / "d")

    def test_merged_halves_are_the_whole(self):
        module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
        x = torch.randn(30, 3)
        whole = run(module, x[:10], x[10:], sensitivities=False)
        parts = [run(module, part, sensitivities=False) for part in (x[:10], x[10:])]
        merged = parts[0].merge(parts[1])
        assert merged.samples == 30
        for name, layer in whole.layers.items():
            np.testing.assert_allclose(merged.layers[name].moments, layer.moments, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(merged.layers[name].mean, layer.mean, rtol=1e-4, atol=1e-6)

    def test_what_does_not_fit_together(self):
        first, second = (run(nn.Linear(n, 2), torch.randn(4, n)) for n in (3, 4))
        with pytest.raises(InvalidConfig, match="cannot be merged"):
            first.merge(second)


def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 12, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 6, 3, stride=2),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(6 * 9, 10),
    )


def outputs_after(module, quantized, x):
    state = netpress.decode(netpress.encode(module, quantized=quantized))
    again = network()
    again.load_state_dict({n: torch.tensor(a) for n, a in state.items()})
    with torch.no_grad():
        return again(x)


class TestQuantizeModel:
    @pytest.mark.parametrize("use_dq", [False, True])
    def test_outputs_are_better_than_without_data(self, use_dq):
        module = network()
        mixing = torch.randn(3 * 64, 12) @ torch.randn(12, 3 * 64) / 8  # images of twelve patterns
        data = (torch.randn(400, 3 * 64) @ mixing).reshape(-1, 3, 8, 8)
        calibration = run(module, *data[:256].split(64))
        test = data[256:]
        with torch.no_grad():
            wanted = module(test)
        errors, sizes = [], []
        quantized = netpress.quantize_model(
            module, calibration, qp=-30, use_dq=use_dq, lambda_scale=0, sensitivity_exponent=0
        )
        for given in (quantized, {n: free(module, n, -30, use_dq) for n in quantized}):
            errors.append((outputs_after(module, given, test) - wanted).square().mean().item())
            sizes.append(len(netpress.encode(module, quantized=given)))
        assert errors[0] < 0.5 * errors[1]
        assert sizes[0] < 1.05 * sizes[1]

    def test_steps_follow_sensitivities(self):
        module = network()
        calibration = run(module, torch.randn(64, 3, 8, 8))
        flat = netpress.quantize_model(module, calibration, qp=-16, sensitivity_exponent=0)
        steps = netpress.quantize_model(module, calibration, qp=-16)
        assert {t.qp for t in flat.values()} == {-16}
        qps = {n: t.qp for n, t in steps.items()}
        assert len(set(qps.values())) > 1
        sizes = {n: p.numel() for n, p in module.named_parameters() if n in qps}
        mean = sum(qps[n] * sizes[n] for n in qps) / sum(sizes.values())
        assert mean == pytest.approx(-16, abs=1)
        exact = netpress.quantize_model(module, calibration, qp=-16, qps={"0.weight": -30})
        assert exact["0.weight"].qp == -30
        assert exact["3.weight"].qp == qps["3.weight"]

    def test_issue_6_same_steps_where_outputs_do_not_depend_on_a_layer(self):
        module = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
        with torch.no_grad():
            module[2].weight.zero_()  # no gradient passes
        calibration = run(module, torch.randn(20, 6))
        for exponent, expected in ((0, -16), (1, -4)):
            quantized = netpress.quantize_model(module, calibration, qp=-16, sensitivity_exponent=exponent)
            assert quantized["0.weight"].qp == expected

    def test_weights_without_statistics_are_quantised_without_data(self):
        module = nn.Linear(30, 20)
        module.other = nn.Linear(30, 20)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NetpressWarning)
            calibration = run(module, torch.randn(50, 30))
        quantized = netpress.quantize_model(module, calibration, qp=-20)
        step = 2.0**-5
        for name in ("weight", "other.weight"):
            error = module.get_parameter(name).detach().numpy() - quantized[name].values()
            assert np.abs(error).max() < 3 * step

    def test_embeddings(self):
        module = nn.Sequential(nn.Embedding(40, 8), nn.Flatten(), nn.Linear(8 * 4, 5))
        tokens = torch.randint(0, 20, (100, 4))
        quantized = netpress.quantize_model(module, run(module, tokens), qp=-8, lambda_scale=1)
        error = np.square(module[0].weight.detach().numpy() - quantized["0.weight"].values()).mean(axis=1)
        assert error[:20].mean() < error[20:].mean()

    def test_steps_too_fine_for_feedback(self):
        module = nn.Linear(6, 4)
        calibration = run(module, torch.randn(20, 6))
        quantized = netpress.quantize_model(module, calibration, qp=-110)
        np.testing.assert_allclose(quantized["weight"].values(), module.weight.detach().numpy(), atol=1e-6)

    def test_differences_to_a_base(self):
        module, mixing = nn.Linear(24, 16), torch.randn(24, 24)
        base = {name: value.numpy().copy() for name, value in module.state_dict().items()}
        with torch.no_grad():
            module.weight += 0.05 * torch.randn_like(module.weight)
        x = torch.randn(400, 24) @ mixing
        new = {name: value.numpy().copy() for name, value in module.state_dict().items()}
        quantized = netpress.quantize_model(module, run(module, x), qp=-18, base=base)
        data = netpress.encode(new, base=base, quantized=quantized, qp=-18)
        decoded = netpress.decode(data, base=base)
        plain = netpress.decode(netpress.encode(new, base=base, qp=-18, lambda_scale=0.0), base=base)

        def error(state):
            change = torch.from_numpy(state["weight"] - new["weight"])
            return (x @ change.T).square().mean().item()

        assert np.array_equal(decoded["weight"], base["weight"] + quantized["weight"].values())
        assert error(decoded) < 0.8 * error(plain)
        for other in ({"bias": base["bias"]}, {**base, "weight": np.zeros((2, 24), np.float32)}):
            with pytest.raises(InvalidModel, match="has no difference"):
                netpress.quantize_model(module, run(module, x), qp=-18, base=other)

    def test_what_does_not_fit(self):
        calibration = run(nn.Linear(6, 4), torch.randn(20, 6))
        with pytest.raises(InvalidModel, match="weight"):
            netpress.quantize_model(nn.Linear(5, 4), calibration, qp=-20)
        with pytest.raises(InvalidModel, match="does not have it"):
            netpress.quantize_model({"other": np.zeros((4, 6), "f4")}, calibration, qp=-20)
        with pytest.raises(InvalidConfig, match="lambda_scale"):
            netpress.quantize_model(nn.Linear(6, 4), calibration, qp=-20, lambda_scale=-1)


def free(module, name, qp, use_dq):
    from netpress.quantize.levels import quantize

    weights = module.get_parameter(name).detach().numpy()
    return netpress.QuantizedTensor(quantize(weights, qp=qp, qp_density=2, dependent=use_dq)[0], qp, use_dq)


class TestJointRows:
    def test_they_are_the_matrix_of_the_outputs(self):
        # What follows the layer is linear: the divergence of values is half the squared change of its outputs.
        torch.manual_seed(1)
        module = nn.Sequential(nn.Linear(12, 6, bias=False), nn.Linear(6, 3, bias=False))
        layer = run(module, *torch.randn(1600, 12).split(100)).layers["0.weight"]
        behind = module[1].weight.detach().numpy().astype(float)
        wanted = behind.T @ behind
        wanted /= np.trace(wanted) / 6
        np.testing.assert_allclose(layer.row_moments, wanted, atol=0.1)

    def test_batches_that_cannot_be_split(self):
        class Mixing(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(10, 6)

            def forward(self, x):
                return self.layer(x) - self.layer(x).mean(0)  # samples see each other

        calibration = run(Mixing(), *torch.randn(60, 10).split(20))
        assert calibration.layers["layer.weight"].row_moments.shape == (6, 6)

    def test_layers_without_them(self):
        calibration = run(network(), torch.randn(32, 3, 8, 8))
        assert {n for n, layer in calibration.layers.items() if layer.row_moments is None} == {"2.weight", "5.weight"}

    def test_dictionaries_and_tuples_are_split(self):
        from netpress.calibration.rows import split_batch

        x, other = torch.arange(5), torch.arange(3)
        parts = list(split_batch({"x": (x, other), "n": 4}, 5, 2))
        assert [p["x"][0].tolist() for p in parts] == [[0, 1], [2, 3], [4]]
        assert all(p["n"] == 4 and p["x"][1] is other for p in parts)

    def test_outputs_are_better_with_them(self):
        module = nn.Sequential(nn.Linear(40, 60, bias=False), nn.Linear(60, 4, bias=False)).eval()
        x = torch.randn(1000, 40) @ torch.randn(40, 40)
        calibration = run(module, *x[:500].split(100))
        wanted = module(x[500:])
        qps = {"1.weight": -60}
        errors = []
        for row_damping in (None, 0.3):
            quantized = netpress.quantize_model(
                module, calibration, qp=-20, qps={"0.weight": -20, **qps}, row_damping=row_damping, lambda_scale=0
            )
            state = {n: torch.tensor(t.values()) for n, t in quantized.items()}
            with torch.no_grad():
                change = torch.func.functional_call(module, state, (x[500:],)) - wanted
            errors.append(change.square().mean().item())
        assert errors[1] < 0.5 * errors[0]


class TestBiases:
    def test_what_is_added_to_the_outputs(self):
        class Two(nn.Module):
            def __init__(self):
                super().__init__()
                self.first = nn.Conv1d(4, 6, 1)
                self.second = nn.Linear(6, 5)
                self.third = nn.Linear(5, 5, bias=False)
                self.fourth = nn.Linear(5, 5)

            def forward(self, x):
                return self.fourth(self.third(self.second(self.first(x).mean(2))))

        module = Two()
        layers = run(module, torch.randn(9, 4, 3)).layers
        assert {n: layer.bias for n, layer in layers.items()} == {
            "first.weight": "first.bias",
            "second.weight": "second.bias",
            "third.weight": None,
            "fourth.weight": "fourth.bias",
        }
        module.fourth.bias = module.second.bias
        corrected = netpress.quantize_corrected(module, run(module, torch.randn(9, 4, 3) + 1), qp=-8).source
        changed = [n for n, p in module.state_dict().items() if (corrected.load(n) != p.numpy()).any()]
        assert changed == ["first.bias"]

    def test_recurrent_cells_and_attention(self):
        layers = run(nn.LSTM(4, 5, batch_first=True), torch.randn(3, 6, 4), forward=lambda m, b: m(b)[0]).layers
        assert {n: layer.bias for n, layer in layers.items()} == {
            "weight_ih_l0": "bias_ih_l0",
            "weight_hh_l0": "bias_hh_l0",
        }
        x = torch.randn(3, 5, 8)
        layers = run(nn.MultiheadAttention(8, 2, batch_first=True), x, forward=lambda m, b: m(b, b, b)[0]).layers
        assert layers["in_proj_weight"].bias == "in_proj_bias"
        assert layers["out_proj.weight"].bias == "out_proj.bias"


def normed(bias=False):
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(3, 12, 3, bias=bias),
        nn.BatchNorm2d(12),
        nn.ReLU(),
        nn.Conv2d(12, 8, 3),
        nn.Flatten(),
        nn.Linear(32, 6),
    ).eval()
    norm = module[1]
    with torch.no_grad():
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 4)
        norm.weight.uniform_(0.1, 3)
        norm.bias.normal_()
    return module


def test_a_weight_without_gradients_is_seen_behind_transposed_inputs():
    layer = nn.Linear(6, 4)
    x = torch.randn(5, 7, 6)
    seen = run(layer, x, sensitivities=False, forward=lambda m, b: m(b.transpose(0, 1))).layers
    rows = x.reshape(-1, 6)
    np.testing.assert_allclose(seen["weight"].moments[0], rows.T @ rows / len(rows), rtol=1e-4, atol=1e-5)
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    again = run(layer, x, sensitivities=False, forward=lambda m, b: m(b.transpose(0, 1))).layers
    np.testing.assert_allclose(again["weight"].moments, seen["weight"].moments, rtol=1e-4, atol=1e-5)


class TestCorrections:
    @pytest.mark.parametrize("bias", [False, True])
    def test_the_function_stays(self, bias):
        module = normed(bias)
        x = torch.randn(300, 3, 6, 6).abs()
        calibration = run(module, *x.split(50))
        corrected = netpress.quantize_corrected(module, calibration, qp=-60)
        again = normed(bias)
        again.load_state_dict({n: torch.tensor(corrected.source.load(n)) for n in corrected.source.names})
        # Rows are scaled, by what the batch norm takes back.
        ratios = (again[0].weight / module[0].weight).detach().flatten(1)
        assert float(ratios.amax() / ratios.amin()) > 1.2
        np.testing.assert_allclose(ratios, ratios[:, :1].expand_as(ratios), rtol=1e-3)
        with torch.no_grad():
            torch.testing.assert_close(again(x), module(x), rtol=1e-3, atol=1e-3)

    def test_shifts_of_the_outputs_are_taken_up(self):
        module = normed()
        x = torch.randn(400, 3, 6, 6).abs() + 1
        calibration = run(module, *x.split(50))
        corrected = netpress.quantize_corrected(module, calibration, qp=-8)
        state = {n: torch.tensor(corrected.source.load(n)) for n in corrected.source.names}
        state.update({n: torch.tensor(t.values()) for n, t in corrected.quantized.items()})
        with torch.no_grad():
            plain = {**state, "1.running_mean": module[1].running_mean * state["0.weight"].new_tensor(1)}
            shifts = []
            for given in (state, plain):
                again = normed()
                again.load_state_dict(given)
                shifts.append((again[:2](x) - module[:2](x)).mean((0, 2, 3)).abs().mean().item())
        assert shifts[0] < 0.02
        assert shifts[1] > 5 * shifts[0]

    def test_streams_are_better_with_them(self):
        module = normed()
        x = torch.randn(600, 3, 6, 6).abs() + 0.5
        calibration = run(module, *x[:300].split(50))
        errors = np.zeros((2, 5))
        for i, qp in enumerate(range(-22, -12, 2)):
            quantized = netpress.quantize_model(module, calibration, qp=qp)
            plain = netpress.encode(module, quantized=quantized, qp=qp, nonweight_qp=qp - 14, fold_batch_norm=True)
            corrected = netpress.encode(module, calibration=calibration, qp=qp, fold_batch_norm=True)
            assert len(corrected) < 1.1 * len(plain)
            for k, data in enumerate((plain, corrected)):
                again = normed()
                again.load_state_dict({n: torch.tensor(a) for n, a in netpress.decode(data).items()})
                with torch.no_grad():
                    errors[k, i] = (again(x[300:]) - module(x[300:])).square().mean().item()
        assert np.log(errors[1] / errors[0]).mean() < np.log(0.8)

    def test_weights_with_two_names_are_left_alone(self):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.first = nn.Linear(10, 10)
                self.second = nn.Linear(10, 10)
                self.second.weight = self.first.weight

            def forward(self, x):
                return self.second(self.first(x).relu())

        module = Tied()
        calibration = run(module, torch.randn(100, 10))
        corrected = netpress.quantize_corrected(module, calibration, qp=-16)
        for name, value in module.state_dict().items():
            np.testing.assert_array_equal(corrected.source.load(name), value.numpy())

    def test_encode_is_both_steps(self):
        module = nn.Linear(30, 20)
        calibration = run(module, torch.randn(64, 30) + 1)
        corrected = netpress.quantize_corrected(module, calibration, qp=-20, passes=1)
        expected = netpress.encode(corrected.source, quantized=corrected.quantized, qp=-20, nonweight_qp=-34)
        assert netpress.encode(module, calibration=calibration, qp=-20) == expected

    def test_small_variances_keep_their_values(self):
        """A batch norm that cannot be folded, with variances over many octaves."""
        module = nn.Sequential(nn.ReLU(), nn.BatchNorm1d(12), nn.Linear(12, 12)).eval()
        module[1].running_var.copy_(torch.logspace(-4, 0, 12))
        calibration = run(module, torch.randn(64, 12))
        found = netpress.decode(netpress.encode(module, calibration=calibration, qp=-16, fold_batch_norm=True))
        np.testing.assert_allclose(found["1.running_var"], module[1].running_var.numpy(), rtol=0.05)

    @pytest.mark.parametrize(
        "options", [{}, {"qp": -20, "bit_depth": 4}, {"qp": -20, "base": {}}, {"qp": -20, "quantized": {}}]
    )
    def test_what_encode_refuses(self, options):
        module = nn.Linear(6, 4)
        calibration = run(module, torch.randn(20, 6))
        with pytest.raises(InvalidConfig, match="calibra"):
            netpress.encode(module, calibration=calibration, **options)
        with pytest.raises(InvalidConfig, match="step"):
            netpress.quantize_corrected(module, calibration, qp=-20, step=1)


class TestBadInput:
    def test_undefined_activations(self):
        module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
        x = torch.randn(8, 3)
        x[3, 1] = torch.nan
        with pytest.raises(InvalidModel, match=r"0\.weight.*not finite"):
            run(module, x)

    def test_fewer_samples_than_columns(self):
        module = nn.Sequential(nn.Linear(200, 30), nn.Linear(30, 5))
        calibration = run(module, torch.randn(3, 200))
        quantized = netpress.quantize_corrected(module, calibration, qp=-20).quantized
        error = module[0].weight.detach().numpy() - quantized["0.weight"].values()
        # Directions that no sample showed are not free: errors stay within a few steps.
        assert np.abs(error).max() < 8 * 2.0**-5

    def test_a_layer_that_the_calibration_misses(self):
        module = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 5))
        calibration = run(module, torch.randn(50, 30))
        layers = {n: layer for n, layer in calibration.layers.items() if n != "1.weight"}
        partial = netpress.Calibration(layers, calibration.samples, calibration.vectors)
        with pytest.warns(NetpressWarning, match=r"does not know these weights.*1\.weight"):
            data = netpress.encode(module, calibration=partial, qp=-20)
        restored = netpress.decode(data)["1.weight"]
        assert np.abs(restored - module[1].weight.detach().numpy()).max() < 3 * 2.0**-5

    def test_a_transposed_convolution_whose_moments_were_cut(self):
        module = nn.ConvTranspose2d(20, 4, 3)
        calibration = run(module, torch.randn(10, 20, 5, 5), memory_bytes=8 * 180 * 100)
        assert calibration.layers["weight"].moments.shape == (1, 180, 90)
        with pytest.warns(NetpressWarning, match="parts of the moments.*weight"):
            quantized = netpress.quantize_model(module, calibration, qp=-20)
        assert np.abs(quantized["weight"].values() - module.weight.detach().numpy()).max() < 3 * 2.0**-5

    def test_inputs_that_do_not_change(self):
        module = nn.Sequential(nn.Conv2d(6, 6, 3, groups=6), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6, 3)).eval()
        x = torch.randn(40, 6, 3, 3)
        x[:, 2:] = 1e3 + 7 / 9
        corrected = netpress.quantize_corrected(module, run(module, *x.split(8)), qp=-20)
        again = torch.func.functional_call(
            module,
            {n: torch.tensor(corrected.source.load(n)) for n in corrected.source.names}
            | {n: torch.tensor(t.values()) for n, t in corrected.quantized.items()},
            (x,),
        )
        # Whatever the weights are, the batch norm takes up what constant inputs make of their errors.
        torch.testing.assert_close(again, module(x), atol=0.3, rtol=0)
