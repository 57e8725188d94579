"""Stages of recipes on small networks."""

from __future__ import annotations

import copy

import pytest
import torch
from networks import NETWORKS, make
from torch import nn

import netpress
from netpress import (
    BatchNormFold,
    Cluster,
    EncodeConfig,
    LocalScaling,
    LowRank,
    PerformanceMaps,
    Prune,
    Quantize,
    Recipe,
    RecipeError,
    Retrain,
    Sparsify,
    Task,
    Unify,
)
from netpress.bitstream import ModelParameterSet, UnitReader
from netpress.recipe import InferenceOptimisedQp, Stage
from netpress.recipe.candidate import Candidate
from netpress.recipe.layers import RowScaling, TuckerConv, scaled_layers, scaling_of

FINE = EncodeConfig(qp=-60)


def outputs(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return module(x)


def relative_error(module: nn.Module, x: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((outputs(module, x) - wanted).square().mean() / wanted.square().mean())


def run(stages: list[Stage], name: str, config: EncodeConfig = FINE, **task: object):
    network, x = make(name)
    before = copy.deepcopy(network.state_dict())
    result = Recipe(stages, config).run(network, Task(calibration_batches=[x], **task))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    # What a stream gives back is what the original network loads.
    decoded = netpress.decode(result.data, reconstruct=True)
    assert decoded.keys() == before.keys()
    assert all(decoded[key].shape == tuple(value.shape) for key, value in before.items())
    return network, x, result


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["conv", "1d", "3d"])
def test_folding_changes_nothing_but_rounding(name: str, seed: int) -> None:
    network, x = make(name, seed)
    result = Recipe([BatchNormFold()], EncodeConfig(qp=-70)).run(network, Task())
    assert result.reports[-1].facts["left"] == []
    assert result.reports[-1].facts["folded"] == sum(
        isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in network.modules()
    )
    assert relative_error(result.module, x, outputs(network, x)) < 1e-7
    coded = netpress.decode(result.data, reconstruct=False)
    assert coded.keys() == network.state_dict().keys()


def test_folding_makes_streams_smaller() -> None:
    network, _ = make("conv")
    sizes = [len(Recipe(stages, FINE).run(network).data) for stages in ([], [BatchNormFold()])]
    assert sizes[1] < sizes[0] - 100


@pytest.mark.parametrize("method", ["rows", "columns", "auto"])
@pytest.mark.parametrize("name", NETWORKS)
def test_full_rank_changes_nothing_but_rounding(name: str, method: str) -> None:
    network, x = make(name)
    candidate = Candidate.start(network, Task(), {"qp": -70})
    probe = LowRank(energy=1.0, method=method)
    ranks = {}
    for path, layer in probe._layers(candidate.module).items():
        plan = probe._plan(layer, None)
        ranks[path] = len(plan.spectrum.values)
    facts = LowRank(ranks=ranks, method=method, weighted=False).run(candidate, None)
    assert facts["layers"].keys() == ranks.keys()
    wanted = outputs(network, x)
    assert relative_error(candidate.module, x, wanted) < 1e-8
    assert relative_error(candidate.restored(candidate.encode()), x, wanted) < 1e-6


def test_tucker_runs_as_three_layers() -> None:
    network, x = make("conv")
    candidate = Candidate.start(network, Task(), {"qp": -70})
    LowRank(ranks={"c2": 20}, method="tucker", weighted=False).run(candidate, None)
    assert isinstance(candidate.module.c2, TuckerConv)
    decoded = candidate.restored(candidate.encode())
    assert relative_error(decoded, x, outputs(candidate.module, x)) < 1e-6


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.8])
def test_kept_share_of_parameters(kept: float) -> None:
    network, _, result = run([LowRank(kept=kept)], "attention")
    before = sum(p.numel() for p in network.parameters())
    # Biases, norms and the attention's input projection cannot be decomposed.
    fixed = before - sum(p.weight.numel() for p in network.feed if isinstance(p, nn.Linear))
    assert result.reports[-1].parameters <= max(kept * before, fixed + 96)


def test_inputs_matter_for_low_rank() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(24, 24, bias=False))
    x = torch.randn(500, 24) * torch.logspace(0, -3, 24)
    wanted = outputs(network, x)
    errors = []
    for weighted in (False, True):
        recipe = Recipe([LowRank(ranks={"0": 6}, weighted=weighted)], FINE)
        result = recipe.run(network, Task(calibration_batches=[x]))
        errors.append(relative_error(result.module, x, wanted))
    assert errors[1] < 0.3 * errors[0]


def test_retraining_learns_from_the_original() -> None:
    _, _, result = run([LowRank(energy=0.7), Retrain(epochs=30, learning_rate=(1e-2, 1e-3))], "attention")
    losses = result.reports[-1].facts["losses"]
    assert losses[-1] < 0.5 * losses[0]


def test_retraining_is_reproducible_and_seeded() -> None:
    def states(seed: int) -> torch.Tensor:
        stage = Retrain(epochs=2, seed=seed, dropout=0.5, learning_rate=(1e-2, 1e-2))
        _, _, result = run([LowRank(energy=0.9), stage], "attention")
        return result.working_module.state_dict()["feed.0.bias"]

    assert torch.equal(states(1), states(1))
    assert not torch.equal(states(1), states(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_scaling_by_one_changes_nothing(name: str) -> None:
    network, x = make(name)
    candidate = Candidate.start(network, Task(), {"qp": -60, "error_feedback": False})
    plain = candidate.restored(candidate.encode())
    for _, layer, leaf in list(scaled_layers(candidate.module)):
        weight = getattr(layer, leaf).detach()
        torch.nn.utils.parametrize.register_parametrization(layer, leaf, RowScaling(weight, 0))
    scaled = candidate.restored(candidate.encode(nonweight_qp=-75))
    assert torch.equal(outputs(candidate.module, x), outputs(network, x))
    assert relative_error(scaled, x, outputs(plain, x)) < 1e-9


@pytest.mark.parametrize("name", ["conv", "1d", "attention"])
def test_local_scaling_is_trained(name: str) -> None:
    _, x = make(name)
    network, x, result = run(
        [BatchNormFold(), LocalScaling(epochs=20, learning_rate=(1e-2, 1e-3))] if name != "attention"
        else [LocalScaling(epochs=20, learning_rate=(1e-2, 1e-3))],
        name, EncodeConfig(qp=-18, nonweight_qp=-60), train_batches=[x],
    )  # fmt: skip
    wanted = outputs(network, x)
    without = Recipe([BatchNormFold()] if name != "attention" else [], EncodeConfig(qp=-18, nonweight_qp=-60))
    assert relative_error(result.module, x, wanted) < 0.9 * relative_error(without.run(network).module, x, wanted)


def test_local_scaling_on_a_folded_batch_norm_costs_little() -> None:
    network, x = make("conv")
    config = EncodeConfig(qp=-20, nonweight_qp=-40)
    task = Task(train_batches=[x])
    sizes = [
        len(Recipe(stages, config).run(network, task).data)
        for stages in ([BatchNormFold()], [BatchNormFold(), LocalScaling(epochs=1)], [LocalScaling(epochs=1)])
    ]
    assert sizes[1] < sizes[2]


def test_local_scaling_fits_each_row() -> None:
    """The factor is the least-squares solution: the error of a row's outputs is orthogonal to the outputs."""
    torch.manual_seed(0)
    network, x = nn.Sequential(nn.Linear(20, 12, bias=False)).eval(), torch.randn(300, 20) * torch.linspace(0.1, 2, 20)
    candidate = Candidate.start(network, Task(calibration_batches=[x]), {"qp": -9})
    LocalScaling(method="fit").run(candidate, None)
    scaled = outputs(candidate.module, x)
    unscaled = x @ candidate.module[0].parametrizations.weight.original.detach().T
    wanted = outputs(network, x)
    used = unscaled.abs().sum(0) > 0
    best = ((unscaled * wanted).sum(0) / unscaled.square().sum(0))[used]
    found = (scaled.sum(0) / unscaled.sum(0))[used]
    # Damping keeps the fit a little away from the solution on these samples.
    torch.testing.assert_close(found, best, rtol=0.05, atol=0.02)
    assert (scaled - wanted).square().mean() < (unscaled - wanted).square().mean()
    assert scaling_of(candidate.module[0]) is not None


class Uneven(nn.Module):
    """Two branches, of which one hardly matters."""

    def __init__(self) -> None:
        super().__init__()
        self.strong, self.weak = nn.Linear(32, 40, bias=False), nn.Linear(32, 40, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.strong(x) + 0.01 * self.weak(x)


def test_search_of_qps_makes_coarser_what_hardly_matters() -> None:
    torch.manual_seed(0)
    network, x = Uneven().eval(), torch.randn(64, 32)
    wanted = outputs(network, x)

    def evaluate(module: nn.Module) -> float:
        return -relative_error(module, x, wanted)

    recipe = Recipe([InferenceOptimisedQp(largest=True)], EncodeConfig(qp=-24))
    result = recipe.run(network, Task(evaluate=evaluate))
    facts = result.reports[-1].facts
    assert facts["evaluations"] == 3 + 2 * 8
    assert facts["moved"]["weak.weight"] == 4
    assert facts["moved"].get("strong.weight", 0) <= 0
    cost = [-r.metric + facts["exchange"] * r.bytes for r in result.reports]
    assert cost[1] < cost[0]
    assert result.reports[-1].metric == pytest.approx(facts["metric"], rel=1e-6)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (lambda: LowRank(ranks={"c9": 2}), "layer 'c9': there is no such layer"),
        (lambda: LowRank(ranks={"b1": 2}), "layer 'b1': a BatchNorm2d cannot"),
        (lambda: LowRank(ranks={"fc": 11}), "layer 'fc': rank 11 is larger than the full rank 10"),
        (lambda: LowRank(kept=0.5, layers=("x*",)), "no layer"),
        (lambda: LowRank(kept=0.5, weighted=True), "calibration_batches"),
        (lambda: Retrain(), "train_batches"),
        (lambda: LocalScaling(), "calibration_batches"),
        (lambda: InferenceOptimisedQp(), "evaluate"),
    ],
)
def test_what_cannot_run_is_said_before_anything_starts(stage, message: str) -> None:
    network, _ = make("conv")
    made = stage()
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe([made]).run(network, Task())
    assert caught.value.stage == made.name


@pytest.mark.parametrize(
    "settings",
    [
        {"stage": "low_rank"},
        {"stage": "low_rank", "kept": 2},
        {"stage": "low_rank", "kept": 0.5, "energy": 0.5},
        {"stage": "low_rank", "kept": 0.5, "method": "bend"},
        {"stage": "low_rank", "ranks": {"a": 0}},
        {"stage": "retrain", "learning_rate": [0, 1]},
        {"stage": "retrain", "epochs": 0},
        {"stage": "retrain", "optimizer": "luck"},
        {"stage": "local_scaling", "method": "guess"},
        {"stage": "inference_optimised_qp", "offsets": []},
        {"stage": "nothing"},
        {"stage": "retrain", "epoch": 3},
    ],
)
def test_settings_are_checked(settings: dict) -> None:
    with pytest.raises(netpress.InvalidConfig):
        Recipe.from_dict({"stages": [settings]})


def test_folding_needs_a_batch_norm() -> None:
    network, _ = make("attention")
    with pytest.raises(RecipeError, match="no batch norm"):
        Recipe([BatchNormFold()]).run(network)


def test_loss_that_is_not_finite() -> None:
    network, x = make("conv")
    before = copy.deepcopy(network.state_dict())
    task = Task(train_batches=[x], loss=lambda module, batch: module(batch).sum() * float("nan"))
    with pytest.raises(RecipeError, match=r"stage retrain: the loss is nan in epoch 1"):
        Recipe([Retrain(epochs=2)]).run(network, task)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_inputs_that_are_not_finite() -> None:
    network, x = make("conv")
    with pytest.raises(RecipeError, match="stage low_rank, layer 'c1': its inputs are not finite"):
        Recipe([LowRank(kept=0.5)]).run(network, Task(calibration_batches=[x * float("inf")]))


@pytest.mark.parametrize("importance", ["none", "density", "sensitivity"])
@pytest.mark.parametrize("name", ["conv", "3d", "attention"])
def test_clusters_are_few_and_coded_exactly(name: str, importance: str) -> None:
    _, _, result = run([Cluster(bits=3, importance=importance)], name, EncodeConfig(nonweight_qp=-60))
    state = result.module.state_dict()
    for key, entries in result.reports[-1].facts["entries"].items():
        assert entries <= 8
        assert len(state[key].unique()) <= 8
        assert torch.equal(state[key], result.working_module.state_dict()[key])


def test_clusters_of_folded_and_decomposed_layers() -> None:
    stages = [BatchNormFold(), LowRank(ranks={"c2": 6, "t": 4, "fc": 3}), Cluster(bits=4, smallest=16)]
    _, x, result = run(stages, "conv", EncodeConfig(nonweight_qp=-60))
    entries = result.reports[-1].facts["entries"]
    assert {"c1.weight", "c2.weight_G", "c2.weight_H", "t.weight_G", "fc.weight_H"} <= entries.keys()
    wanted = outputs(result.working_module, x)
    assert relative_error(result.module, x, wanted) < 1e-6


def test_clusters_that_look_at_the_rate_make_smaller_streams() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(200, 100, bias=False)).eval()
    nn.init.normal_(network[0].weight)
    sizes, errors = [], []
    for stage in (Cluster(bits=5), Cluster(bits=5, rate=4.0)):
        result = Recipe([stage]).run(network)
        sizes.append(len(result.data))
        errors.append(float((result.module[0].weight - network[0].weight).detach().square().mean()))
    assert sizes[1] < 0.95 * sizes[0]
    assert errors[1] < 5 * errors[0]


def test_retraining_leaves_clusters_alone() -> None:
    _, _, result = run([Cluster(bits=2), Retrain(epochs=2)], "attention", EncodeConfig(nonweight_qp=-60))
    assert len(result.module.state_dict()["feed.0.weight"].unique()) <= 4
    network, _ = make("attention")
    assert not torch.equal(result.module.state_dict()["feed.0.bias"], network.state_dict()["feed.0.bias"])


def test_refined_clusters_are_closer_to_the_original() -> None:
    errors = []
    for epochs in (0, 30):
        stage = Cluster(bits=2, refine_epochs=epochs, learning_rate=(3e-3, 1e-3))
        network, x, result = run([stage], "attention", EncodeConfig(nonweight_qp=-60))
        errors.append(relative_error(result.module, x, outputs(network, x)))
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize("epochs", [0, 1])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_zeros_stay(scope: str, epochs: int) -> None:
    stages = [Sparsify(share=0.6, scope=scope, steps=2, epochs=epochs), Retrain(epochs=1), LocalScaling(epochs=1)]
    # The trellis of dependent quantisation may step next to a zero.
    config = EncodeConfig(qp=-30, use_dq=False)
    _, _, result = run(stages, "attention", config, train_batches=[make("attention")[1]])
    weights = [value for value in result.module.state_dict().values() if value.ndim > 1]
    zeros = sum(int((value == 0).sum()) for value in weights) / sum(value.numel() for value in weights)
    assert zeros >= 0.6 - 1e-3


def test_removed_channels_come_back_as_zeros() -> None:
    network, x, result = run([Prune(share=0.4), BatchNormFold(), Retrain(epochs=1)], "conv")
    first = result.reports[1]
    assert first.facts["parameters"][1] < 0.9 * first.facts["parameters"][0]
    assert relative_error(result.module, x, outputs(result.working_module, x)) < 1e-6
    assert result.working_module.c2.out_channels < network.c2.out_channels
    assert len(result.data) < len(Recipe([BatchNormFold()], FINE).run(network).data)


@pytest.mark.parametrize(
    "settings",
    [
        {"stage": "cluster", "bits": 13},
        {"stage": "cluster", "init": "luck"},
        {"stage": "cluster", "importance": "much"},
        {"stage": "sparsify", "share": 1.5},
        {"stage": "sparsify", "criterion": "luck"},
        {"stage": "prune", "share": 1},
        {"stage": "prune", "scope": "some"},
    ],
)
def test_settings_of_more_stages_are_checked(settings: dict) -> None:
    with pytest.raises(netpress.InvalidConfig, match=settings["stage"]):
        Recipe.from_dict({"stages": [settings]})


def test_what_more_stages_need() -> None:
    network, x = make("conv")
    for stage in (Cluster(refine_epochs=1), Sparsify(criterion="fisher"), Prune()):
        with pytest.raises(RecipeError, match="batches"):
            Recipe([stage]).run(network)
    with pytest.raises(RecipeError, match="layer 'zz': there is no such layer"):
        Recipe([Prune(keep=("zz",))]).run(network, Task(calibration_batches=[x]))
    with pytest.raises(RecipeError, match="stage prune: channels can be removed only before"):
        Recipe([Cluster(), Prune()]).run(network, Task(calibration_batches=[x]))


@pytest.mark.parametrize("name", NETWORKS)
def test_calibrated_quantisation_beats_the_plain_one_at_equal_size(name: str) -> None:
    torch.manual_seed(0)
    network, _ = make(name)
    data = torch.randn(256, *network.inputs) @ torch.diag(torch.logspace(0, -1.5, network.inputs[-1]))
    task = Task(calibration_batches=[data[:192]])
    test, wanted = data[192:], outputs(network, data[192:])
    points = []
    for stages, qp in (([], -18), ([Quantize(qp=-16)], -16), ([Quantize(qp=-18)], -18), ([Quantize(qp=-20)], -20)):
        result = Recipe(stages, EncodeConfig(qp=qp, nonweight_qp=-50)).run(network, task)
        points.append((len(result.data), relative_error(result.module, test, wanted)))
    plain, *calibrated = points
    assert min(error for size, error in calibrated if size <= plain[0] * 1.01) < plain[1]


def test_calibrated_quantisation_of_decomposed_and_folded_layers() -> None:
    stages = [
        BatchNormFold(),
        LowRank(ranks={"c2": 6, "fc": 3}, weighted=False),
        Quantize(qp=-24),
        LocalScaling(epochs=1),
    ]
    network, x = make("conv")
    result = Recipe(stages, EncodeConfig(nonweight_qp=-60)).run(
        network, Task(calibration_batches=[x], train_batches=[x])
    )
    assert {"c1.weight", "c2.weight_G", "c2.weight_H", "d.weight"} <= result.reports[3].facts["qps"].keys()
    assert "t.weight" not in result.reports[3].facts["qps"]
    assert relative_error(result.module, x, outputs(result.working_module, x)) < 1e-6


def test_unified_blocks_share_a_magnitude() -> None:
    _, _, result = run([Unify(share=1.0, block=(1, 4))], "attention")
    weight = result.working_module.state_dict()["feed.0.weight"].abs().reshape(32, 4, 4)
    torch.testing.assert_close(weight, weight[:, :, :1].expand_as(weight))
    assert result.reports[-1].facts["unified"] == result.reports[-1].facts["blocks"]


def test_performance_maps_are_measured_and_written() -> None:
    network, x = make("conv")
    wanted = outputs(network, x)
    task = Task(
        evaluate=lambda module: relative_error(module, x, wanted), direction="min", metric="error", train_batches=[x]
    )
    stage = PerformanceMaps(sparsification=(0.0, 0.05), pruning=(0.3,), unification=(0.5,), decomposition=(0.0, 1e-3))
    result = Recipe([stage], FINE).run(network, task)
    (written,) = [u.content for u in UnitReader(result.data) if isinstance(u.content, ModelParameterSet)]
    assert written.performance_metric_type == "error"
    sparse = written.sparsification_performance_map.entries
    assert [entry.sparsification_threshold for entry in sparse] == pytest.approx([0.0, 0.05])
    assert len(written.pruning_performance_map.entries) == 1
    assert len(written.decomposition_performance_map.entries) == 2
    assert netpress.decode(result.data).keys() == network.state_dict().keys()
