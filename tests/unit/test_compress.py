"""The quality contract."""

import numpy as np
import pytest

import netpress
from netpress import EncodeConfig, EvaluationFailed, InvalidConfig, Scores, Task, compress

RNG = np.random.default_rng(2)
WEIGHT = RNG.normal(size=(48, 64)).astype(np.float32)
MODEL = {"w": WEIGHT, "b": RNG.normal(size=48).astype(np.float32)}
INPUTS = RNG.normal(size=(200, 64)).astype(np.float32)
WANTED = INPUTS @ WEIGHT.T + MODEL["b"]


def errors(model: dict[str, np.ndarray]) -> np.ndarray:
    """Squared error of each sample's outputs, relative to the mean power."""
    return np.square(INPUTS @ model["w"].T + model["b"] - WANTED).mean(1) / np.square(WANTED).mean()


def test_smallest_stream_within_the_promise() -> None:
    result = compress(MODEL, evaluate=errors, max_drop=0.01, direction="min", confidence=0.5)
    assert result.met
    assert result.metric <= 0.01
    assert float(errors(netpress.decode(result.data)).mean()) == pytest.approx(result.metric)
    assert len(result.curve) <= 11
    # One step coarser was tried and broke the promise.
    qp = result.chosen.qp
    assert not next(trial for trial in result.curve if trial.qp == qp + 1).kept


def test_margin_for_chance_counts_as_drop() -> None:
    sure, median = (
        compress(MODEL, evaluate=lambda m: errors(m)[:9], max_drop=0.01, direction="min", confidence=c)
        for c in (0.999, 0.5)
    )
    assert all(trial.margin == 0 for trial in median.curve)
    assert all(trial.margin > 0 for trial in sure.curve)
    assert all(
        trial.kept == (max(trial.drop, trial.expected + trial.margin) <= 0.01) for trial in (*sure.curve, *median.curve)
    )
    assert sure.met
    assert median.met
    assert len(sure.data) > len(median.data)


def test_a_number_is_exact() -> None:
    result = compress(MODEL, evaluate=lambda m: float(errors(m).mean()), max_drop=0.01, direction="min")
    assert result.met
    assert all(trial.expected == trial.drop and trial.margin == 0 for trial in result.curve)
    assert all(trial.kept == (trial.drop <= 0.01) for trial in result.curve)


def accuracy(model: dict[str, np.ndarray]) -> np.ndarray:
    """Whether the largest output is what it was, for one in six of the samples by chance not."""
    same = (INPUTS @ model["w"].T + model["b"]).argmax(1) == WANTED.argmax(1)
    return np.where(np.arange(len(INPUTS)) % 6 == 0, ~same, same)


def test_samples_kept_apart_have_the_last_look() -> None:
    result = compress(MODEL, evaluate=accuracy, max_drop=0.05, verify=0.25)
    look = result.verification
    assert look is not None
    assert look.samples == 50
    assert look.standard_error > 0
    assert look.confirmed == (look.drop <= 0.05)
    assert result.met == (look.confirmed and result.chosen.kept)
    # All samples together are those of the search and those kept apart.
    whole = float(accuracy(netpress.decode(result.data)).mean())
    apart_metric = float(accuracy(MODEL).mean()) * 200 - result.baseline * 150 - 50 * look.drop
    assert 150 * result.metric + apart_metric == pytest.approx(200 * whole)
    assert "50 samples kept apart" in result.report()


def test_a_last_look_can_deny() -> None:
    def evaluate(model: dict[str, np.ndarray]) -> np.ndarray:
        order = np.random.default_rng(0).permutation(100)
        return np.ones(100) if model["w"] is WEIGHT else np.where(np.isin(np.arange(100), order[:25]), 0.0, 1.0)

    result = compress(MODEL, evaluate=evaluate, max_drop=0.1, verify=0.25)
    assert result.chosen.kept
    assert result.verification is not None
    assert result.verification.drop == 1
    assert not result.met
    assert "NOT within" in result.report()


def test_drop_as_a_share_of_the_metric() -> None:
    def quality(model: dict[str, np.ndarray]) -> float:
        return 80 - 100 * float(errors(model).mean())

    result = compress(MODEL, evaluate=quality, max_drop="2%")
    assert result.met
    assert 80 - 1.6 <= result.metric < 80


def test_best_metric_under_a_size() -> None:
    result = compress(MODEL, evaluate=errors, max_bytes=1500, direction="min")
    assert result.met
    assert len(result.data) <= 1500
    finer = [trial for trial in result.curve if trial.bytes > 1500]
    assert finer
    assert all(trial.metric >= result.metric for trial in result.curve if trial.kept)
    assert min(trial.qp for trial in result.curve if trial.kept) - max(trial.qp for trial in finer) == 1


def test_other_densities_reach_the_same_steps() -> None:
    usual, coarse, fine = (
        compress(MODEL, evaluate=errors, max_drop=1e-5, direction="min", confidence=0.5, qp_density=density)
        for density in (2, 0, 4)
    )
    assert usual.met
    assert coarse.met
    assert fine.met
    # Finer qps come closer to the promise; a density of 0 has only every fourth.
    assert 0.97 * len(usual.data) <= len(fine.data) <= 1.01 * len(usual.data)
    assert len(usual.data) <= len(coarse.data) <= 1.35 * len(usual.data)


def test_promise_that_cannot_be_kept() -> None:
    result = compress(MODEL, evaluate=lambda model: 1.0 if model["w"] is WEIGHT else 0.0, max_drop=0.1, budget=5)
    assert not result.met
    assert result.metric == 0.0
    assert "NOT KEPT" in result.report()
    # The finest step is the last resort.
    assert min(trial.qp for trial in result.curve) == -48
    small = compress(MODEL, evaluate=errors, max_bytes=10, direction="min", budget=6)
    assert not small.met
    assert len(small.data) > 10


def test_nothing_is_lost_at_any_step() -> None:
    result = compress(MODEL, evaluate=lambda model: 1.0, max_drop=0.0)
    assert result.met
    assert len(result.data) < 700


def test_failing_evaluate_keeps_what_was_found() -> None:
    calls = []

    def evaluate(model: object) -> float:
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("out of patience")
        return 1.0

    with pytest.raises(EvaluationFailed, match="after 2 trials: RuntimeError: out of patience") as caught:
        compress(MODEL, evaluate=evaluate, max_drop=0.1)
    assert len(caught.value.curve) == 2
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either max_drop or max_bytes"),
        ({"max_drop": 1, "max_bytes": 1}, "either max_drop or max_bytes"),
        ({"max_drop": -1}, "max_drop"),
        ({"max_drop": "1"}, "max_drop"),
        ({"max_drop": "x%"}, "max_drop"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_drop": 1, "budget": 2}, "too small"),
        ({"max_drop": 1, "budget": "2 weeks"}, "budget"),
        ({"max_drop": 1, "confidence": 1.0}, "confidence"),
        ({"max_drop": 1, "verify": 1.0}, "verify is 1.0, outside"),
        ({"max_bytes": 999, "verify": 0.5}, "verify is for max_drop"),
        ({"max_drop": 1, "verify": 0.005}, "fewer than 2"),
        ({"max_drop": 1, "verify": 0.5, "evaluate": lambda model: 1.0}, "fewer than 2"),
        ({"max_drop": 1, "qp": -20}, "qp itself"),
        ({"max_drop": 1, "config": EncodeConfig.reference()}, "qp itself"),
        ({"max_drop": 1, "calibration": [1]}, "torch module"),
        ({"max_drop": 1, "evaluate": None}, "evaluate"),
        ({"max_drop": 1, "evaluate": lambda model: float("nan")}, "NaN"),
    ],
)
def test_arguments_are_checked(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        compress(MODEL, **{"evaluate": errors, **arguments})


def test_time_as_a_budget() -> None:
    result = compress(MODEL, evaluate=errors, max_drop=0.01, direction="min", budget="0.001s")
    assert len(result.curve) == 2


def test_module_with_calibration(tmp_path) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        *(torch.nn.Linear(40, 60), torch.nn.BatchNorm1d(60), torch.nn.ReLU(), torch.nn.Linear(60, 10))
    ).eval()
    x = torch.randn(600, 40) * torch.logspace(0, -1.5, 40)
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(network[1], name).uniform_(0.5, 2)
        wanted = network(x[300:])

    def evaluate(module):
        with torch.no_grad():
            return Scores((module(x[300:]) - wanted).square().mean(1).numpy() / float(wanted.square().mean()))

    task = Task(name="toy", model=lambda: network, evaluate=evaluate, direction="min", metric="error", outputs="values")
    plain = compress(task=task, max_drop=0.01)
    calibrated = compress(task=task, max_drop=0.01, calibration=[x[:300]])
    assert plain.met
    assert calibrated.met
    assert len(calibrated.data) < 0.9 * len(plain.data)
    assert "| qp | bytes | error |" in calibrated.report()
    assert plain.change is None
    assert calibrated.change is not None
    assert calibrated.change.agreement is None
    # Outputs on the inputs of the calibration change about as much as on others: the metric here is the square.
    assert calibrated.change.relative_error**2 == pytest.approx(calibrated.metric, rel=0.5)
    assert "Outputs change by" in calibrated.report()
    assert [point.bytes for point in calibrated.band] == [t.bytes for t in sorted(calibrated.curve, key=lambda t: t.qp)]
    assert all(point.low < point.expected < point.high for point in calibrated.band)
    network.load_state_dict({k: torch.from_numpy(v) for k, v in netpress.decode(calibrated.data).items()})
    assert calibrated.save(tmp_path / "toy.nnc") == (tmp_path / "toy.nnc").stat().st_size
    pytest.importorskip("matplotlib")
    calibrated.plot(tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
