"""Sensitivities of layers, corrected by measurements on samples kept apart."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import netpress  # noqa: E402
from netpress.calibration.measured import measure_densities, with_densities  # noqa: E402
from netpress.calibration.quantizer import layer_densities  # noqa: E402

nn = torch.nn


def network() -> nn.Module:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 9, 32),
        nn.ReLU(),
        nn.Linear(32, 5),
    ).eval()
    with torch.no_grad():
        module[7].weight.mul_(20)  # as sure of its classes as a trained network
    return module


def batches(count: int, size: int = 12) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 1, 6, 6, generator=generator) for _ in range(count)]


def test_a_layer_with_fewer_samples_than_columns_gets_finer_steps() -> None:
    # 288 columns and 48 samples: feedback fits the samples it was made from, which closed forms take for the truth.
    module, samples = network(), batches(4)
    closed = netpress.calibrate(module, samples, measure=False)
    measured = netpress.calibrate(module, samples)
    coarse, fine = (netpress.quantize_model(module, known, qp=-20) for known in (closed, measured))
    assert fine["5.weight"].qp < coarse["5.weight"].qp
    assert fine["2.weight"].qp > coarse["2.weight"].qp
    for name, layer in measured.layers.items():
        np.testing.assert_allclose(layer.moments, closed.layers[name].moments, rtol=1e-4, atol=1e-5)


def test_the_divergence_on_other_samples_is_smaller_at_the_same_mean_step() -> None:
    module, samples, others = network(), batches(4), torch.cat(batches(40)[8:])
    with torch.no_grad():
        wanted = module(others).log_softmax(-1)

    def divergence(calibration: netpress.Calibration) -> float:
        changed = copy.deepcopy(module)
        quantized = netpress.quantize_model(module, calibration, qp=-14)
        state = {name: torch.from_numpy(tensor.values(2)) for name, tensor in quantized.items()}
        changed.load_state_dict(state, strict=False)
        with torch.no_grad():
            found = changed(others).log_softmax(-1)
        return float((wanted.exp() * (wanted - found)).sum(-1).mean())

    closed = netpress.calibrate(module, samples, measure=False)
    assert divergence(netpress.calibrate(module, samples)) < divergence(closed)


def test_measuring_changes_neither_the_network_nor_its_mode() -> None:
    module = network().train()
    before = copy.deepcopy(module.state_dict())
    calls: list[tuple[int, int, str]] = []
    netpress.calibrate(module, batches(4), progress=lambda *call: calls.append(call))
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert [call for call in calls if call[1]] == [
        (place, 4, f"{layer}.weight") for place, layer in enumerate((0, 2, 5, 7))
    ]


def test_three_batches_are_too_few_to_keep_one_apart() -> None:
    module, samples = network(), batches(3)
    plain, measured = (netpress.calibrate(module, samples, measure=measure) for measure in (False, True))
    for name, layer in plain.layers.items():
        np.testing.assert_array_equal(layer.sensitivity, measured.layers[name].sensitivity)


def test_sensitivities_follow_what_was_found() -> None:
    module = network()
    closed = netpress.calibrate(module, batches(4), outputs="values", measure=False)
    before = layer_densities(module, closed)
    found = {**before, "0.weight": before["0.weight"] * 3, "7.weight": before["7.weight"] * 1e9}
    after = layer_densities(module, with_densities(module, closed, found))
    sizes = {name: parameter.numel() for name, parameter in module.named_parameters() if name in found}
    shifts = {name: math.log(after[name] / before[name]) for name in found}
    assert math.isclose(shifts["0.weight"] - shifts["2.weight"], math.log(3), rel_tol=1e-6)
    assert math.isclose(shifts["7.weight"] - shifts["5.weight"], math.log(16), rel_tol=1e-6)
    assert abs(sum(sizes[name] * shift for name, shift in shifts.items())) < 1e-6 * sum(sizes.values())


def test_measured_densities_agree_with_the_closed_form_where_it_holds() -> None:
    # A linear network and many samples: what is measured is what the closed form says.
    torch.manual_seed(3)
    first, second = nn.Linear(16, 16, bias=False), nn.Linear(16, 16, bias=False)
    module = nn.Sequential(first, second).eval()
    inputs = [torch.randn(256, 16) for _ in range(8)]
    calibration = netpress.calibrate(module, inputs[:4], outputs="values", measure=False)
    found = measure_densities(module, calibration, inputs[4:], outputs="values")
    one = measure_densities(module, calibration, inputs[4:5], outputs="values")
    assert measure_densities(module, calibration, inputs[4:], outputs="values", memory_bytes=1) == one
    expected = layer_densities(module, calibration)
    ratio = (found["0.weight"] / found["1.weight"]) / (expected["0.weight"] / expected["1.weight"])
    assert 0.8 < ratio < 1.25
