"""Cluster quantisation and its way into the standard's codebooks."""

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import netpress
from netpress import InvalidConfig, InvalidModel
from netpress.codec.index import index_stream
from netpress.recipe.cluster.levels import to_quantized
from netpress.recipe.cluster.lloyd import Clusters, _cheapest_bounds, cluster, fixed_length_bytes
from netpress.recipe.cluster.starts import STARTS, bounded_density

FLOATS = st.floats(-100, 100, width=32)
TENSORS = arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 9)), elements=FLOATS)


def laplace(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).laplace(size=size).astype(np.float32)


def weighted_error(clusters: Clusters, weight: np.ndarray, importance: np.ndarray) -> float:
    return float(np.sum(importance * (clusters.values().astype(np.float64) - weight) ** 2))


@settings(deadline=None, max_examples=60)
@given(TENSORS, st.integers(2, 40), st.sampled_from(sorted(STARTS)), st.sampled_from([0.0, 0.01, 3.0]), st.booleans())
def test_what_holds_for_all_clusters(weight: np.ndarray, entries: int, init: str, rate: float, weigh: bool) -> None:
    importance = np.abs(weight) if weigh else None
    before = weight.copy()
    clusters = cluster(weight, entries, init=init, rate_weight=rate, importance=importance, iterations=20)
    np.testing.assert_array_equal(weight, before)
    assert clusters.centres.dtype == np.float32
    assert clusters.indexes.dtype == np.int32
    assert clusters.indexes.shape == weight.shape
    assert 1 <= len(clusters.centres) <= entries
    assert np.all(np.diff(clusters.centres) > 0)
    assert np.all(clusters.counts() > 0)
    error = np.sum((clusters.values().astype(np.float64) - weight.astype(np.float64)) ** 2)
    assert clusters.squared_error == pytest.approx(error, rel=1e-9, abs=1e-12)
    if rate == 0:
        nearest = np.abs(weight[..., None].astype(np.float64) - clusters.centres).min(-1)
        distances = np.abs(clusters.values().astype(np.float64) - weight)
        np.testing.assert_allclose(distances, nearest, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(TENSORS, st.integers(2, 9), st.sampled_from(sorted(STARTS)), st.booleans())
def test_iterations_never_raise_the_error(weight: np.ndarray, entries: int, init: str, weigh: bool) -> None:
    importance = np.abs(weight) + 0.1 if weigh else np.ones_like(weight)
    errors = [
        weighted_error(
            cluster(weight, entries, init=init, iterations=n, importance=importance if weigh else None),
            weight,
            importance,
        )
        for n in range(8)
    ]
    # Centres are rounded to float32 at the end.
    slack = 1e-5 * float(np.abs(weight).max() ** 2 * weight.size) * 1e-4
    assert all(b <= a * (1 + 1e-5) + slack for a, b in itertools.pairwise(errors))


@pytest.mark.parametrize("weigh", [False, True])
def test_iterations_lower_error_plus_rate(weigh: bool) -> None:
    weight = laplace(3000)
    importance = np.exp2(np.random.default_rng(1).integers(-3, 3, 3000)) if weigh else np.ones(3000)
    costs = []
    for n in range(0, 12):
        result = cluster(
            weight, 16, rate_weight=0.02, iterations=n, importance=importance if weigh else None, init="linear"
        )
        costs.append(weighted_error(result, weight, importance) + 0.02 * result.entropy_bits())
    # Turn n also begins with n Lloyd iterations without rate, so that single steps may go up a little.
    assert costs[-1] < 0.99 * costs[0]
    assert costs[-1] <= min(costs) * 1.005


def test_rate_makes_smaller_indexes_at_the_same_error() -> None:
    weight = laplace(40000)
    plain = cluster(weight, 16)
    aware = cluster(weight, 64, rate_weight=0.042)
    assert aware.squared_error < plain.squared_error
    assert aware.entropy_bits() < 0.92 * plain.entropy_bits()


def test_bounds_are_those_of_an_exhaustive_search() -> None:
    rng = np.random.default_rng(2)
    for _ in range(30):
        centres = np.unique(rng.normal(size=12))
        lengths, rate = rng.uniform(0.1, 12, len(centres)), float(rng.choice([0, 0.01, 0.2]))
        points = rng.uniform(-4, 4, 400)
        bounds = _cheapest_bounds(centres, lengths, rate)
        costs = (points[:, None] - centres) ** 2 + rate * lengths
        chosen = np.searchsorted(bounds, points)
        np.testing.assert_allclose(costs[np.arange(400), chosen], costs.min(1), rtol=1e-12)


def least_error(values: np.ndarray, entries: int) -> float:
    """Return the squared error of the best clusters there are, by dynamic programming over the sorted values."""
    values = np.sort(values).astype(np.float64)
    n = len(values)
    sums, squares = (np.concatenate([[0], np.cumsum(values**p)]) for p in (1, 2))
    first, last = np.arange(n)[:, None], np.arange(1, n + 1)
    size = np.maximum(last - first, 1)
    errors = squares[last] - squares[first] - (sums[last] - sums[first]) ** 2 / size
    errors = np.where(last > first, errors, np.inf)
    best = errors[0]
    for _ in range(entries - 1):
        best = np.minimum(best, (np.concatenate([[np.inf], best[:-1]])[:, None] + errors).min(0))
    return float(best[-1])


@pytest.mark.parametrize("init", sorted(STARTS))
@pytest.mark.parametrize("entries", [2, 7, 16, 64])
def test_error_is_close_to_the_least_there_is(init: str, entries: int) -> None:
    rng = np.random.default_rng(entries)
    bound = 1.07 if entries <= 16 else 1.15  # with 8 values for each centre there are many local minima
    for values in (laplace(500), rng.standard_t(2, 500), np.concatenate([rng.normal(c, 0.1, 125) for c in range(4)])):
        weight = values.astype(np.float32)
        assert cluster(weight, entries, init=init).squared_error <= bound * least_error(weight, entries)


def test_importance_draws_centres() -> None:
    weight = np.linspace(0, 1, 2001, dtype=np.float32)
    heavy = np.where(weight < 0.25, 1000.0, 1.0)
    assert (cluster(weight, 8, importance=heavy).centres < 0.25).sum() >= 5
    assert (cluster(weight, 8).centres < 0.25).sum() == 2
    spread = laplace(20000)
    assert np.ptp(cluster(spread, 8, importance="density").centres) > np.ptp(cluster(spread, 8).centres)


def test_importance_of_zero_leaves_every_cluster_a_mean() -> None:
    weight = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0], np.float32)
    clusters = cluster(weight, 3, importance=np.array([0, 0, 0, 0, 0, 1.0]))
    assert np.isfinite(clusters.centres).all()
    assert 5.0 in clusters.centres
    np.testing.assert_array_equal(cluster(weight, 3, importance=np.zeros(6)).centres, cluster(weight, 3).centres)


@pytest.mark.parametrize("value", [0.0, -3.5, 1e-20, 1e30])
@pytest.mark.parametrize("shape", [(), (1,), (3, 4)])
@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_constant_tensor(value: float, shape: tuple[int, ...], rate: float) -> None:
    weight = np.full(shape, value, np.float32)
    for importance in (None, "density"):
        clusters = cluster(weight, 16, rate_weight=rate, importance=importance)
        np.testing.assert_array_equal(clusters.centres, weight.reshape(-1)[:1])
        np.testing.assert_array_equal(clusters.values(), weight)


def test_fewer_values_than_entries_are_kept_exactly() -> None:
    weight = np.random.default_rng(0).choice(np.array([-1.5, 0, 0.1, 7], np.float32), (9, 9))
    clusters = cluster(weight, 16)
    assert clusters.squared_error == 0
    np.testing.assert_array_equal(clusters.values(), weight)


def test_a_start_without_members_is_used_elsewhere() -> None:
    # All but two values lie in the first of the eight parts of the range.
    weight = np.concatenate([np.linspace(0, 1, 500), [100.0, 101.0]]).astype(np.float32)
    clusters = cluster(weight, 8, init="linear")
    assert len(clusters.centres) == 8
    assert clusters.squared_error < 1.2  # 500 even values in six parts: 500 / 12 / 36 = 1.16


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_types(dtype: type) -> None:
    clusters = cluster(laplace(100).astype(dtype), 4)
    assert clusters.centres.dtype == np.float32
    assert len(clusters.centres) == 4


@pytest.mark.parametrize(
    "weight",
    [
        np.array([1.0, np.inf]),
        np.array([np.nan, 1.0]),
        np.array([1e300, 1.0]),
        np.zeros((0, 3)),
        np.arange(4),
        np.array([True]),
    ],
)
def test_tensors_that_have_no_clusters(weight: np.ndarray) -> None:
    with pytest.raises(InvalidModel, match="'conv'"):
        cluster(weight, 4, name="conv")


@pytest.mark.parametrize(
    "options",
    [
        {"entries": 1},
        {"entries": 4097},
        {"init": "best"},
        {"iterations": -1},
        {"rate_weight": -1.0},
        {"rate_weight": float("nan")},
        {"density_bound": 1.5},
        {"importance": "mean"},
        {"importance": np.ones(3)},
        {"importance": -np.ones(4)},
    ],
)
def test_options_are_checked(options: dict) -> None:
    with pytest.raises(InvalidConfig):
        cluster(np.arange(4, dtype=np.float32), **{"entries": 4, **options})


def test_accounting_of_the_core_experiment() -> None:
    # 2**12 entries for the 76,179 weights of the image autoencoder: the report states 72.2 % for b = 12 with all its
    # layers apart; one list makes (76179 * 12 / 8 + 4 * 4096) / 304716 = 42.9 %.
    weight = laplace(76179)
    assert fixed_length_bytes(cluster(weight, 4096, iterations=5)) == (76179 * 12 + 7) // 8 + 4 * 4096
    assert fixed_length_bytes(Clusters(np.zeros(1, np.float32), np.zeros(9, np.int32), 0.0)) == 4


def test_density_is_bounded_and_peaks_at_one() -> None:
    edges, density = bounded_density(np.sort(laplace(5000)).astype(np.float64), np.ones(5000), 0.05, 200)
    assert len(edges) == len(density) + 1
    assert density.max() == 1
    assert density.min() == 0.05
    assert abs(edges[np.argmax(density)]) < 0.5


@settings(deadline=None, max_examples=50)
@given(TENSORS, st.integers(2, 30), st.integers(0, 7), st.sampled_from([1e-3, 0.01, 0.1]))
def test_rounding_stays_within_tolerance(weight: np.ndarray, entries: int, density: int, tolerance: float) -> None:
    assume(not 0 < np.abs(weight).max() < 0.1)  # else no step is fine enough; see test_values_that_no_step_fits
    clusters = cluster(weight, entries, iterations=5)
    quantized = to_quantized(clusters, qp_density=density, tolerance=tolerance)
    values = quantized.values(density).astype(np.float64)
    largest = float(np.abs(clusters.centres).max())
    noise = max(clusters.squared_error, (largest * 2.0**-16) ** 2 * weight.size)
    added = np.sum((values - clusters.values().astype(np.float64)) ** 2)
    assert added <= tolerance * noise * (1 + 1e-3)
    integers = np.array([quantized.levels[clusters.indexes == k][0] for k in range(len(clusters.centres))])
    if np.diff(clusters.centres).min(initial=1) > 1e-6:
        assert np.all(np.diff(integers.astype(np.int64)) > 0)
    else:
        assert np.all(np.diff(integers.astype(np.int64)) >= 0)


@pytest.mark.parametrize("codebook", [True, None])
@pytest.mark.parametrize("rate", [0.0, 0.01])
def test_streams_decode_to_the_rounded_centres(codebook: bool | None, rate: float) -> None:
    weight = laplace(60 * 50).reshape(60, 50)
    clusters = cluster(weight, 24, rate_weight=rate)
    quantized = to_quantized(clusters, codebook=codebook)
    data = netpress.encode({"w": weight}, quantized={"w": quantized})
    decoded = netpress.decode(data)["w"]
    np.testing.assert_array_equal(decoded, quantized.values())
    assert np.sum((decoded.astype(np.float64) - weight) ** 2) <= 1.02 * clusters.squared_error
    (unit,) = index_stream(data, netpress.DecodeLimits()).units
    assert unit.content.codebook is not None
    assert len(unit.content.codebook.values) == len(clusters.centres)
    assert len(data) < fixed_length_bytes(clusters)


def test_a_looser_tolerance_makes_a_shorter_header() -> None:
    weight = laplace(4000)
    clusters = cluster(weight, 64)
    sizes = [len(netpress.encode({"w": weight}, quantized={"w": to_quantized(clusters, tolerance=t)}))
             for t in (1e-6, 1e-2)]  # fmt: skip
    assert sizes[1] < sizes[0] - 40


@pytest.mark.parametrize("value", [1e30, 1e-20])
def test_values_that_no_step_fits(value: float) -> None:
    with pytest.raises(InvalidModel, match="'big'"):
        to_quantized(cluster(np.array([value, -value / 3], np.float32), 4), name="big")
    with pytest.raises(InvalidConfig, match="tolerance"):
        to_quantized(cluster(np.ones(3), 2), tolerance=0)


def test_all_zero_tensor() -> None:
    quantized = to_quantized(cluster(np.zeros((4, 5), np.float32), 4))
    assert quantized.levels.shape == (4, 5)
    assert not quantized.levels.any()


def test_centres_closer_than_the_finest_step_may_share_an_integer() -> None:
    clusters = Clusters(np.array([1e-30, 2e-30, 1.0], np.float32), np.array([0, 1, 2], np.int32), 0.0)
    np.testing.assert_array_equal(np.sign(to_quantized(clusters).levels), [0, 0, 1])
