"""Performance maps filled from measurements."""

import dataclasses
import io
import itertools

import numpy as np
import pytest

from netpress import InvalidConfig, Task
from netpress.bitstream import ModelParameterSet, Start, UnitReader, UnitWriter

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from netpress.recipe.performance_maps.measure import (  # noqa: E402
    measure_decomposition,
    measure_pruning,
    measure_sparsification,
    measure_unification,
)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 3)).eval()


def task(**fields: object) -> Task:
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))
    wanted = network()(x).detach()

    def evaluate(module: nn.Module) -> float:
        with torch.no_grad():
            return float((module(x) - wanted).square().mean())

    fields = {"evaluate": evaluate, **fields}
    return Task(calibration_batches=[x], direction="min", **fields)  # type: ignore[arg-type]


def metrics(values: list[float]) -> list[float]:
    """No change at first, more and more then."""
    assert values[0] == pytest.approx(0, abs=1e-10)
    assert all(b > a for a, b in itertools.pairwise(values))
    return values


def test_sparsification() -> None:
    module, seen = network(), []
    result = measure_sparsification(module, task(), [0, 0.1, 0.2], progress=lambda n, m: seen.append((n, m)))
    entries = result.entries
    metrics([e.spm_nn_accuracy for e in entries])
    assert seen == [(i + 1, e.spm_nn_accuracy) for i, e in enumerate(entries)]
    weights = np.concatenate([module[i].weight.detach().numpy().ravel() for i in (0, 2)])
    assert [e.non_zero_ratio for e in entries] == [float(np.mean(np.abs(weights) >= t)) for t in (0, 0.1, 0.2)]


def test_pruning() -> None:
    pytest.importorskip("torch_pruning")
    entries = measure_pruning(network(), task(), [0, 0.25, 0.5]).entries
    metrics([e.ppm_nn_accuracy for e in entries])
    # 24 hidden units, of 8 + 1 + 3 parameters each.
    assert [e.pruning_ratio for e in entries] == pytest.approx([0, 6 * 12 / 291, 12 * 12 / 291])


def test_unification() -> None:
    entries = measure_unification(network(), task(), [0, 0.5, 1], block=(2, 2), super_block=(4, 4)).entries
    metrics([e.upm_nn_accuracy for e in entries])
    assert [e.unification_threshold for e in entries] == sorted(e.unification_threshold for e in entries)
    assert entries[1].block_dimensions == (2, 2)
    assert entries[1].super_block_dimensions == (4, 4)


def test_decomposition() -> None:
    module = network()
    power = np.linalg.svd(module[0].weight.detach().double().numpy(), compute_uv=False) ** 2
    for rank in (1, 3):
        threshold = float(power[rank:].sum() / (8 * 24) * (1 + 1e-6))
        (entry,) = measure_decomposition(module[:1], Task(evaluate=lambda m: 0.0), [threshold]).entries
        assert entry.nn_reduction_ratio == pytest.approx(rank * 32 / 192)
    entries = measure_decomposition(module, task(), [0, 0.01, 0.02]).entries
    metrics([e.dpm_nn_accuracy for e in entries])
    assert entries[0].nn_reduction_ratio == 1
    assert entries[2].nn_reduction_ratio < entries[1].nn_reduction_ratio < 1


def test_maps_travel_in_the_parameter_set() -> None:
    pytest.importorskip("torch_pruning")
    module = network()
    written = ModelParameterSet(
        sparsification_performance_map=measure_sparsification(module, task(), [0.1, 0.2]),
        pruning_performance_map=measure_pruning(module, task(), [0.25]),
        unification_performance_map=measure_unification(module, task(), [0.5], block=(2, 2), super_block=(4, 4)),
        decomposition_performance_map=measure_decomposition(module, task(), [0.01]),
    )
    sink = io.BytesIO()
    writer = UnitWriter(sink)
    for content in (Start(1), written):
        writer.write(content)
    read = list(UnitReader(sink.getvalue()))[1].content
    assert isinstance(read, ModelParameterSet)
    for name in ("sparsification", "pruning", "unification", "decomposition"):
        before, after = (getattr(m, f"{name}_performance_map").entries for m in (written, read))
        assert len(after) == len(before)
        for one, other in zip(before, after, strict=True):
            for field in dataclasses.fields(one):
                value = getattr(one, field.name)
                expected = float(np.float32(value)) if isinstance(value, float) else value
                assert getattr(other, field.name) == expected


def test_options_are_checked() -> None:
    for values in ([-1.0], [float("nan")], [0.1] * 255):
        with pytest.raises(InvalidConfig, match="strengths"):
            measure_sparsification(network(), task(), values)
    with pytest.raises(InvalidConfig, match="no evaluate"):
        measure_sparsification(network(), Task(), [0.1])
    with pytest.raises(InvalidConfig, match="8 bits"):
        measure_unification(network(), task(), [0.5], block=(1, 256))
    with pytest.raises(InvalidConfig, match="two or more"):
        measure_sparsification(nn.PReLU(), task(), [0.1])
