"""Encoding with a look at the outputs of the network."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import netpress
from netpress.errors import InvalidConfig

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]
    return nn.Sequential(*layers).eval()


def inputs(count: int = 256) -> torch.Tensor:
    return torch.randn(count, 32, generator=torch.Generator().manual_seed(1))


def error_of(module: nn.Module, data: bytes, batch: torch.Tensor) -> float:
    state = {name: torch.from_numpy(value.copy()) for name, value in netpress.decode(data, reconstruct=True).items()}
    with torch.no_grad():
        wanted, got = module(batch), torch.func.functional_call(module, state, (batch,))
    return float((got - wanted).norm() / wanted.norm())


def test_reports_what_it_sees():
    module = network()
    data = netpress.encode(module, check=inputs())
    assert data == netpress.encode(module)
    assert data.check.kept
    assert data.check.trials == 1
    assert data.check.finer == {}
    assert data.check.change.relative_error == pytest.approx(error_of(module, data, inputs()), rel=1e-4)
    assert 0.9 < data.check.change.agreement <= 1
    assert str(data.check).startswith("outputs change by ")


def test_finer_steps_until_the_outputs_fit():
    module = network()
    coarse = netpress.encode(module, qp=-10)
    before = error_of(module, coarse, inputs())
    data = netpress.encode(module, qp=-10, check=netpress.Check(inputs=inputs(), max_error=before / 4))
    assert data.check.kept
    assert data.check.trials > 1
    assert error_of(module, data, inputs()) <= before / 4
    fine = next(
        stream
        for stream in (netpress.encode(module, qp=qp) for qp in range(-11, -40, -1))
        if error_of(module, stream, inputs()) <= before / 4
    )
    assert len(data) <= 1.05 * len(fine)


def test_only_what_stands_out_becomes_finer():
    module = network()
    data = netpress.encode(module, qp_per_tensor={"2.weight": 0}, check=netpress.Check(inputs=inputs(), max_error=0.02))
    assert data.check.kept
    assert "2.weight" in data.check.finer
    assert len(data.check.finer) < 6
    assert data.check.finer["2.weight"] < 0


def test_a_bound_that_cannot_be_kept(caplog):
    module = network()
    check = netpress.Check(inputs=inputs(), max_error=1e-9, trials=2)
    with caplog.at_level(logging.INFO, "netpress.codec.check"), pytest.warns(netpress.NetpressWarning, match="allowed"):
        data = netpress.encode(module, check=check)
    assert not data.check.kept
    assert data.check.trials == 2
    assert len(caplog.records) == 2


def test_a_single_trial_only_reports():
    with pytest.warns(netpress.NetpressWarning, match="more than the 1e-07 %"):
        data = netpress.encode(network(), check=netpress.Check(inputs=inputs(), max_error=1e-9, trials=1))
    assert data == netpress.encode(network())


@pytest.mark.parametrize("form", ["array", "tuple", "list", "dictionary", "function"])
def test_forms_of_inputs(form):
    module, batch = network(), inputs(64)
    given = {
        "array": batch.numpy(),
        "tuple": (batch, torch.zeros(64)),
        "list": [batch[:32], batch[32:]],
        "dictionary": {"input": batch},
        "function": netpress.Check(inputs=batch, forward=lambda net, x: (net(x), None)[0], outputs="values"),
    }[form]
    data = netpress.encode(module, check=given)
    assert data.check.change.relative_error == pytest.approx(error_of(module, data, batch), rel=1e-4)
    assert (data.check.change.agreement is None) == (form == "function")


def test_with_a_calibration_and_in_a_file(tmp_path):
    module = network()
    calibration = netpress.calibrate(module, [inputs()])
    data = netpress.encode(
        module, calibration=calibration, qp=-8, check=netpress.Check(inputs=inputs(), max_error=0.03)
    )
    assert data.check.kept
    netpress.save(module, tmp_path / "n.nnc", check=inputs())
    np.testing.assert_array_equal(
        netpress.load(tmp_path / "n.nnc")["0.weight"], netpress.decode(netpress.encode(module))["0.weight"]
    )


def test_the_network_stays_as_it_was():
    module = network().train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    netpress.encode(module, check=netpress.Check(inputs=inputs(), max_error=0.001))
    assert module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("source", "check", "message"),
    [
        ({"w": np.ones((2, 2), "f4")}, np.ones((1, 2), "f4"), "torch module"),
        (network(), np.ones((1, 5), "f4"), "does not run on the inputs"),
        (network(), [], "no inputs"),
        (network(), 7, "are tensors, not int"),
        (nn.LSTM(4, 4), torch.zeros(2, 1, 4), "returns tuple"),
    ],
)
def test_what_cannot_be_checked(source, check, message):
    with pytest.raises(InvalidConfig, match=message):
        netpress.encode(source, check=check)


@pytest.mark.parametrize("options", [{"max_error": 0.0}, {"trials": 0}])
def test_options_out_of_range(options):
    with pytest.raises(InvalidConfig):
        netpress.Check(inputs=inputs(), **options)


def test_not_with_a_base():
    with pytest.raises(InvalidConfig, match="excludes a base"):
        netpress.encode(network(), base=network(1), check=inputs())
