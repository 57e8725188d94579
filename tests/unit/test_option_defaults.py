"""Options that several quantisers have: one type, None for the default, and old names for one release."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import netpress  # noqa: E402
from netpress.errors import InvalidConfig  # noqa: E402

Quantised = dict[str, tuple[int, bytes]]
QUANTISERS = ["quantize_model", "quantize_corrected", "quantize_blocks"]


def comparable(tensors: Any) -> Quantised:
    return {name: (tensor.qp, np.ascontiguousarray(tensor.levels).tobytes()) for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def run() -> Callable[..., Quantised]:
    """Runs one of the quantisers on a small network with some options."""
    torch.manual_seed(0)
    blocks = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    module = torch.nn.Sequential(torch.nn.Linear(6, 8), blocks, torch.nn.Linear(8, 3)).eval()
    batches = [torch.randn(32, 6) * torch.logspace(0, -1, 6) for _ in range(5)]
    calibration = netpress.calibrate(module, batches)

    def quantised(name: str, **options: Any) -> Quantised:
        if name == "quantize_blocks":
            return comparable(netpress.quantize_blocks(module, batches, qp=-16, **options))
        result = getattr(netpress, name)(module, calibration, qp=-16, **options)
        return comparable(result.quantized if name == "quantize_corrected" else result)

    return quantised


@pytest.mark.parametrize("name", QUANTISERS)
def test_none_is_the_default(run: Callable[..., Quantised], name: str) -> None:
    plain = run(name)
    assert run(name, lambda_scale=None, sensitivity_exponent=None) == plain
    assert run(name, lambda_scale=0.5, sensitivity_exponent=0.8) == plain
    assert run(name, lambda_scale=2.0) != plain
    assert run(name, sensitivity_exponent=0.0) != plain


@pytest.mark.parametrize("name", QUANTISERS)
def test_the_old_name_of_the_exponent_warns(run: Callable[..., Quantised], name: str) -> None:
    with pytest.warns(DeprecationWarning, match="allocation is called sensitivity_exponent") as warned:
        old = run(name, allocation=0.0)
    assert [warning.filename for warning in warned] == [__file__]
    assert old == run(name, sensitivity_exponent=0.0)
    message = "allocation is the old name of sensitivity_exponent"
    with pytest.warns(DeprecationWarning, match="allocation"), pytest.raises(InvalidConfig, match=message):
        run(name, allocation=0.0, sensitivity_exponent=0.5)


@pytest.mark.parametrize("name", QUANTISERS[:2])
@pytest.mark.parametrize("options", [{"lambda_scale": -1}, {"sensitivity_exponent": 3}])
def test_out_of_range(run: Callable[..., Quantised], name: str, options: dict[str, float]) -> None:
    with pytest.raises(InvalidConfig, match="lambda_scale must be at least 0 and sensitivity_exponent"):
        run(name, **options)


def test_outputs_are_logits_unless_a_task_says_nothing() -> None:
    torch.manual_seed(0)
    module, batches = torch.nn.Linear(6, 3).eval(), [torch.randn(32, 6) for _ in range(5)]
    sensitivities = [
        netpress.calibrate(module, batches, **options).layers["weight"].sensitivity.tobytes()
        for options in ({}, {"outputs": None}, {"outputs": "logits"}, {"outputs": "values"})
    ]
    assert sensitivities[0] == sensitivities[1] == sensitivities[2] != sensitivities[3]
    first, second = (
        comparable(
            netpress.quantize_blocks(
                torch.nn.Sequential(torch.nn.Sequential(module)), batches, qp=-16, outputs=outputs, blocks="0"
            )
        )
        for outputs in (None, "logits")
    )
    assert first == second
    assert netpress.Task().outputs == "values"


def test_a_stage_writes_only_what_differs_from_its_defaults() -> None:
    assert netpress.Quantize(lambda_scale=0.35, sensitivity_exponent=1.0).to_dict() == {"stage": "quantize"}
    assert netpress.Quantize(lambda_scale=0.25).to_dict() == {"stage": "quantize", "lambda_scale": 0.25}


def test_a_stage_of_an_old_recipe_runs_with_a_warning_and_is_written_as_before() -> None:
    content = {"stages": [{"stage": "quantize", "qp": -16, "allocation": 0.5}]}
    with pytest.warns(DeprecationWarning, match="stage quantize: allocation is called sensitivity_exponent"):
        old = netpress.Recipe.from_dict(content)
    assert old.to_dict()["stages"] == content["stages"]
    module, inputs = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 3)).eval(), torch.randn(64, 6)
    task = netpress.Task(calibration_batches=[inputs])
    new = netpress.Recipe([netpress.Quantize(qp=-16, sensitivity_exponent=0.5)])
    facts = [recipe.run(module, task).reports[-1].facts["qps"] for recipe in (old, new)]
    assert facts[0] == facts[1]
    with pytest.warns(DeprecationWarning, match="allocation"), pytest.raises(InvalidConfig, match="give only one"):
        netpress.Quantize(allocation=0.5, sensitivity_exponent=0.5)
