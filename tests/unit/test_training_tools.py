"""Sensitivities, masks and refined clusters: small networks whose right answer is known."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from netpress import InvalidConfig, InvalidModel, NetpressError, RecipeError, Task
from netpress.recipe.cluster.lloyd import Clusters, cluster

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from netpress.recipe.cluster.refine import _migrate, _SharedWeight, refine_centres  # noqa: E402
from netpress.recipe.objective import network_loss  # noqa: E402
from netpress.recipe.sensitivity import mean_gradients, squared_gradients  # noqa: E402
from netpress.recipe.sparsify.weights import (  # noqa: E402
    apply_masks,
    cubic_sparsities,
    sparsify_gradually,
    sparsity_masks,
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads cost more than they bring in networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def perceptron(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4)).eval()


def inputs(count: int = 4, seed: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(32, 6, generator=generator) for _ in range(count)]


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: t.clone() for name, t in module.state_dict().items()}


def assert_unchanged(module: nn.Module, before: dict[str, torch.Tensor]) -> None:
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_gradients_of_a_loss() -> None:
    module = nn.Linear(2, 1, bias=False)
    batches = [torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -4.0]])]
    task = Task(train_batches=batches, loss=lambda network, batch: network(batch).sum())
    before = state(module)
    np.testing.assert_allclose(squared_gradients(module, task)["weight"], [[5.0, 10.0]])
    np.testing.assert_allclose(mean_gradients(module, task)["weight"], [[2.0, -1.0]])
    np.testing.assert_allclose(squared_gradients(module, task, batches=1)["weight"], [[1.0, 4.0]])
    assert_unchanged(module, before)


def test_sampled_curvature_of_values() -> None:
    # Mean squared error of one output per sample: half its second derivative is the mean of the squared inputs.
    module = nn.Linear(2, 1, bias=False)
    x = torch.tensor([[1.0, 3.0], [-2.0, 1.0]])
    task = Task(calibration_batches=[x] * 3000)
    expected = 2 * (x**2).mean(0).numpy()
    np.testing.assert_allclose(squared_gradients(module, task)["weight"][0], expected, rtol=0.1)


def test_sampled_curvature_of_logits() -> None:
    torch.manual_seed(3)
    module = nn.Linear(2, 3, bias=False)
    x = torch.tensor([[1.0, 3.0], [-2.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    p = torch.softmax(module(x), 1).detach()
    # Fisher information of a softmax: p (1 - p) x^2, mean over samples.
    expected = ((p * (1 - p))[:, :, None] * (x**2)[:, None, :]).mean(0).numpy()
    task = Task(calibration_batches=[x] * 3000, outputs="logits")
    np.testing.assert_allclose(squared_gradients(module, task)["weight"], expected, rtol=0.15)


def test_sensitivities_repeat_and_leave_random_numbers_alone() -> None:
    module, task = perceptron(2), Task(calibration_batches=inputs(), outputs="logits")
    before = torch.random.get_rng_state()
    first = squared_gradients(module, task, seed=3)
    assert torch.equal(torch.random.get_rng_state(), before)
    second = squared_gradients(module, task, seed=3)
    other = squared_gradients(module, task, seed=4)
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    assert any((first[name] != other[name]).any() for name in first)


def test_loss_that_is_not_finite() -> None:
    task = Task(name="bad", train_batches=inputs(1), loss=lambda network, batch: network(batch).sum() * float("nan"))
    with pytest.raises(RecipeError, match=r"'bad'.*nan"):
        squared_gradients(perceptron(), task)
    clusters = {"0.weight": cluster(perceptron()[0].weight.detach().numpy(), 4)}
    with pytest.raises(NetpressError, match=r"'bad'.*nan"):
        refine_centres(perceptron(), clusters, task)


def test_no_batches() -> None:
    for task in (Task(calibration_batches=[]), Task()):
        with pytest.raises(InvalidConfig, match="batches"):
            squared_gradients(perceptron(), task)
    with pytest.raises(InvalidConfig, match="at least one"):
        squared_gradients(perceptron(), Task(calibration_batches=inputs()), batches=0)


@pytest.mark.parametrize("outputs", ["logits", "values"])
def test_distance_to_the_original_is_least_at_the_original(outputs: str) -> None:
    module = perceptron()
    loss = network_loss(Task(outputs=outputs), module)
    assert float(loss(module, inputs()[0]).detach()) == pytest.approx(0, abs=1e-7)
    assert float(loss(perceptron(4), inputs()[0]).detach()) > 1e-3


def test_magnitude_masks() -> None:
    module = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([[1.0, -2, 3], [-4, 5, 6]]))
        module[1].weight.copy_(torch.tensor([[0.1, -20], [30, 0.2]]))
    masks = sparsity_masks(module, sparsity=0.4)
    assert set(masks) == {"0.weight", "1.weight"}
    np.testing.assert_array_equal(masks["0.weight"], [[False, False, True], [True, True, True]])
    np.testing.assert_array_equal(masks["1.weight"], [[False, True], [True, False]])
    layer = sparsity_masks(module, sparsity=0.5, scope="layer", names=["0.weight"])
    np.testing.assert_array_equal(layer["0.weight"], [[False, False, False], [True, True, True]])
    assert sparsity_masks(module, sparsity=0, scope="global")["0.weight"].all()
    assert not sparsity_masks(module, sparsity=1, scope="layer")["0.weight"].any()


@pytest.mark.parametrize("criterion", ["gradient", "fisher"])
def test_masks_follow_the_task(criterion: str) -> None:
    module = nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[10.0, 1.0, 2.0, 3.0]]))
    # The first input is almost always 0, so that its large weight does not matter.
    batches = [torch.tensor([[0.001, 1.0, 1.0, 1.0]])]
    task = Task(train_batches=batches, loss=lambda network, batch: network(batch).sum())
    mask = sparsity_masks(module, sparsity=0.25, criterion=criterion, task=task)["weight"]
    np.testing.assert_array_equal(mask, [[False, True, True, True]])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sparsity": 1.1}, InvalidConfig),
        ({"sparsity": 0.5, "scope": "row"}, InvalidConfig),
        ({"sparsity": 0.5, "criterion": "size"}, InvalidConfig),
        ({"sparsity": 0.5, "criterion": "fisher"}, InvalidConfig),
        ({"sparsity": 0.5, "names": ["x"]}, InvalidModel),
    ],
)
def test_mask_options_are_checked(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        sparsity_masks(perceptron(), **options)
    with pytest.raises(InvalidConfig, match="one step"):
        cubic_sparsities(0.5, 0)


def fit(task: Task) -> Callable[[nn.Module, Callable[[], None]], None]:
    """A stand-in for a training loop, which calls ``after_step`` as that does."""

    def train(network: nn.Module, after_step: Callable[[], None]) -> None:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        for batch in task.batches("train"):
            optimizer.zero_grad()
            task.loss(network, batch).backward()  # type: ignore[misc]
            optimizer.step()
            after_step()
            zeros.append(sum(int((p == 0).sum()) for p in network.parameters() if p.dim() > 1))

    zeros: list[int] = []
    train.zeros = zeros  # type: ignore[attr-defined]
    return train


def test_gradual_sparsification() -> None:
    module, teacher = perceptron(), perceptron(7)
    data = [(x, teacher(x).detach()) for x in inputs(6)]
    task = Task(train_batches=data, loss=lambda network, batch: (network(batch[0]) - batch[1]).square().mean())
    train, before, steps = fit(task), state(module), []
    sparse, masks = sparsify_gradually(
        module, sparsity=0.5, train=train, steps=3, progress=lambda step, share: steps.append((step, share))
    )
    assert_unchanged(module, before)
    assert [s for s, _ in steps] == [1, 2, 3]
    assert steps[-1][1] == 0.5
    total = 6 * 16 + 16 * 4
    expected = [int(np.floor(share * total + 1e-9)) for _, share in steps for _ in data]
    assert train.zeros == expected  # type: ignore[attr-defined]
    for name, mask in masks.items():
        np.testing.assert_array_equal(sparse.get_parameter(name).detach().numpy() != 0, mask)
    at_once = perceptron()
    apply_masks(at_once, sparsity_masks(at_once, sparsity=0.5))

    def loss(network: nn.Module) -> float:
        return sum(float(task.loss(network, batch).detach()) for batch in data)  # type: ignore[misc]

    assert loss(sparse) < loss(at_once)


def losses(module: nn.Module, clusters: dict[str, Clusters], task: Task) -> float:
    loss = network_loss(task, module)
    student = perceptron()
    student.load_state_dict(module.state_dict())
    with torch.no_grad():
        for name, c in clusters.items():
            student.get_parameter(name).copy_(torch.from_numpy(c.values()))
        return sum(float(loss(student, batch)) for batch in inputs())


@pytest.mark.parametrize("outputs", ["logits", "values"])
@pytest.mark.parametrize("migration", [False, True])
def test_refined_centres_lower_the_loss(outputs: str, migration: bool) -> None:
    module = perceptron()
    task = Task(calibration_batches=inputs(), outputs=outputs)
    clusters = {name: cluster(module.get_parameter(name).detach().numpy(), 4) for name in ("0.weight", "4.weight")}
    before, seen = state(module), []
    refined = refine_centres(
        module,
        clusters,
        task,
        epochs=30,
        learning_rate=(3e-3, 1e-4),
        migration=migration,
        progress=lambda epoch, loss: seen.append((epoch, loss)),
    )
    assert_unchanged(module, before)
    assert [e for e, _ in seen] == list(range(1, 31))
    assert losses(module, refined, task) < 0.9 * losses(module, clusters, task)
    moved = 0
    for name, c in refined.items():
        assert np.all(np.diff(c.centres) > 0)
        assert (c.counts() > 0).all()
        assert c.indexes.shape == clusters[name].indexes.shape
        weight = module.get_parameter(name).detach().numpy()
        assert c.squared_error == pytest.approx(np.sum((c.values().astype(np.float64) - weight) ** 2))
        moved += int((c.indexes != clusters[name].indexes).sum())
    assert (moved > 0) == migration
    again = refine_centres(module, clusters, task, epochs=30, learning_rate=(3e-3, 1e-4), migration=migration, seed=0)
    for name, c in refined.items():
        np.testing.assert_array_equal(again[name].values(), c.values())


def test_centres_go_where_the_loss_says() -> None:
    module = nn.Linear(4, 1, bias=False)
    clusters = {"weight": Clusters(np.array([0.0, 1.0], np.float32), np.array([[0, 0, 1, 1]], np.int32), 0.0)}
    target = torch.tensor([[-0.5, -0.5, 2.0, 2.0]])
    task = Task(train_batches=[torch.eye(4)] * 50, loss=lambda network, x: (network(x) - x @ target.T).square().sum())
    refined = refine_centres(module, clusters, task, epochs=8, learning_rate=(0.1, 0.01))["weight"]
    np.testing.assert_allclose(refined.values(), target.numpy(), atol=0.05)


def test_members_go_over() -> None:
    module = nn.Linear(4, 1, bias=False)
    clusters = {"weight": Clusters(np.array([-1.0, 1.0], np.float32), np.array([[0, 0, 0, 1]], np.int32), 0.0)}
    target = torch.tensor([[-1.0, -1.0, 1.0, 1.0]])
    task = Task(train_batches=[torch.eye(4)] * 50, loss=lambda network, x: (network(x) - x @ target.T).square().sum())
    options = {"epochs": 8, "learning_rate": (0.1, 0.01)}
    np.testing.assert_array_equal(refine_centres(module, clusters, task, **options)["weight"].indexes, [[0, 0, 1, 1]])
    stays = refine_centres(module, clusters, task, **options, migration=False)["weight"]
    np.testing.assert_array_equal(stays.indexes, [[0, 0, 0, 1]])
    np.testing.assert_allclose(stays.centres, [-1 / 3, 1], atol=0.05)


def test_members_stay_where_going_over_does_harm() -> None:
    module = nn.Linear(4, 1, bias=False)
    indexes = np.array([[0, 0, 1, 1]], np.int32)
    shared = _SharedWeight(module.weight, Clusters(np.array([-1.0, 1.0], np.float32), indexes, 0.0))
    wanted = torch.tensor([[-1.0, 1.0, 1.0, 1.0]])
    # All want to go over; only the second should, and it wants to most.
    shared.pull = torch.tensor([1.5, 9.0, -1.5, -1.5])

    def distance(network: nn.Module, batch: float) -> torch.Tensor:
        return (network.weight - wanted).square().sum() * batch

    _migrate([shared], module, distance, [1.0, 2.0])
    assert shared.indexes.tolist() == [0, 1, 1, 1]
    assert shared.pull.tolist() == [1.5, 0.0, -1.5, -1.5]
    shared.pull = torch.tensor([1.5, -1.5, -1.5, -1.5])
    _migrate([shared], module, distance, [1.0])
    assert shared.indexes.tolist() == [0, 1, 1, 1]


def test_refinement_checks_names_shapes_and_rates() -> None:
    module, task = perceptron(), Task(calibration_batches=inputs())
    good = cluster(module[0].weight.detach().numpy(), 4)
    with pytest.raises(InvalidModel, match="'nothing'"):
        refine_centres(module, {"nothing": good}, task)
    with pytest.raises(InvalidModel, match="shape"):
        refine_centres(module, {"4.weight": good}, task)
    with pytest.raises(InvalidConfig, match="learning rates"):
        refine_centres(module, {"0.weight": good}, task, learning_rate=0.0)
    assert refine_centres(module, {"0.weight": good}, task, epochs=0)["0.weight"] is good
