"""Tensors that one linear step does not suit: what comes back, by kind, at default settings."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import netpress
from netpress.config import EncodeConfig
from netpress.errors import InvalidModel
from netpress.parameters import Parameter, ParameterKind
from netpress.quantize.losses import describe_losses, lost_part
from netpress.quantize.special import exact_integers, is_ratio, ratio_integers, row_integers, sample
from netpress.quantize.step_size import step_size
from netpress.quantize.steps import suitable_base_qp

Array = npt.NDArray[Any]


def normal(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def round_trip(value: Array, **options: Any) -> Array:
    return netpress.decode(netpress.encode({"t": value}, **options))["t"]


def snr_db(value: Array, decoded: Array, axis: int | None = None) -> Any:
    noise = np.square(value.astype(np.float64) - decoded).sum(axis)
    return 10 * np.log10(np.square(value.astype(np.float64)).sum(axis) / np.maximum(noise, 1e-300))


def few_values(*values: float, shape: tuple[int, ...] = (48, 20)) -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).choice(np.array(values, np.float32), shape)


EXACT = {
    "mask": few_values(0, 1),
    "additive mask": np.triu(np.full((32, 32), -1e4, np.float32), 1),
    "signs": few_values(-1, 1, shape=(300,)),
    "positions": np.arange(1000, dtype=np.float32),
    "positions in a row": np.arange(77, dtype=np.float32)[None],
    "short mask": np.array([0, 1, 1, 0], np.float32),
    "four bits": np.random.default_rng(2).integers(-8, 8, (40, 30)).astype(np.float32) * np.float32(0.0137),
    "two odd values": few_values(0.1, -0.3),
    "half precision": few_values(0, 1 / 3).astype(np.float16),
    "count of steps": np.array(123457, np.float32),
    "temperature": np.array([0.07], np.float32),
    "small constant": np.full((5, 6), 1e-7, np.float32),
    "large constant": np.full(40, 12345.678, np.float32),
    "mostly zero": np.where(np.arange(4000) % 997 == 5, np.float32(0.3), np.float32(0)),
}


@pytest.mark.parametrize("name", EXACT)
def test_masks_constants_and_few_values_come_back_exactly(name: str) -> None:
    decoded = round_trip(EXACT[name])
    assert decoded.dtype == EXACT[name].dtype
    np.testing.assert_array_equal(decoded, EXACT[name])


@pytest.mark.parametrize("effort", [1, 9])
def test_exact_beside_weights_at_any_effort(effort: int) -> None:
    model = {**EXACT, "w": normal(30, 40)}
    decoded = netpress.decode(netpress.encode(model, effort=effort))
    for name, value in EXACT.items():
        np.testing.assert_array_equal(decoded[name], value)


def test_masks_are_small() -> None:
    assert len(netpress.encode({"t": few_values(0, 1, shape=(100, 100))})) < 100 * 100 / 8 + 60
    assert len(netpress.encode({"t": np.full((100, 100), 0.1, np.float32)})) < 60


@given(
    st.lists(st.floats(-100, 100, width=16), min_size=1, max_size=20),
    st.integers(-20, 20),
    st.integers(8, 20),
)
@settings(max_examples=50, deadline=None)
def test_few_values_on_any_scale(values: list[float], octave: int, repetitions: int) -> None:
    value = np.ldexp(np.tile(np.array(values, np.float32), repetitions), octave)
    integers = exact_integers(value, base_qp=-60)
    if value.any() and np.abs(value)[value != 0].min() > np.abs(value).max() * 2.0**-8:
        assert integers is not None
        np.testing.assert_array_equal(integers.values(), value)


def test_what_is_not_exact() -> None:
    assert exact_integers(normal(64, 64)) is None
    assert exact_integers(np.zeros(9, np.float32)) is None
    assert exact_integers(np.empty(0, np.float32)) is None
    assert exact_integers(few_values(1, 3e-13)) is None  # the integers would leave 32 bits
    assert exact_integers(few_values(0, 2.0**-40)) is None
    assert exact_integers(few_values(0, 2.0**-40), base_qp=-64) is not None


def test_the_sample_sees_all_columns() -> None:
    value = np.tile(np.arange(64, dtype=np.float32), (4096, 1))
    part = sample(value, 1000)
    assert 900 < part.size <= 1000
    assert len(np.unique(part)) == 64
    assert sample(value[:3], 1000).size == 3 * 64


@pytest.mark.parametrize("decades", [1, 4, 7])
@pytest.mark.parametrize("shape", [(40, 30), (300,), (6, 5, 4, 3)])
def test_ratios_of_second_moments(decades: float, shape: tuple[int, ...]) -> None:
    moments = (10 ** np.random.default_rng(3).uniform(-decades - 6, -6, shape)).astype(np.float32)
    moments[::7] = 0
    decoded = round_trip(moments)
    used = moments > 0
    assert np.abs(decoded[~used]).max() <= (0 if len(shape) > 1 else moments[used].min() / 50)
    np.testing.assert_allclose(decoded[used], moments[used], rtol=1 / 50)


def test_nothing_of_a_second_moment_becomes_zero() -> None:
    moments = (10 ** np.random.default_rng(4).uniform(-25, 0, (50, 40))).astype(np.float32)
    decoded = round_trip(moments)
    assert (decoded > 0).all()
    large = moments > 1e-7
    np.testing.assert_allclose(decoded[large], moments[large], rtol=1 / 60)


@pytest.mark.parametrize("octaves", [1, 10, 17])
def test_twelve_significant_bits_of_a_vector(octaves: int) -> None:
    value = np.exp2(np.linspace(-octaves, 0, 200)).astype(np.float32)
    np.testing.assert_allclose(ratio_integers(value).values(), value, rtol=2**-12 + 1e-6)


@given(st.floats(1e-10, 1e5), st.integers(1, 24))
@settings(max_examples=30, deadline=None)
def test_six_significant_bits(scale: float, octaves: int) -> None:
    value = np.exp2(np.linspace(-octaves, 0, 200)).astype(np.float32).reshape(10, 20) * np.float32(scale)
    integers = ratio_integers(value, base_qp=-140)
    np.testing.assert_allclose(integers.values(), value, rtol=2**-6 + 1e-6)
    significand = integers.levels // (integers.levels & -integers.levels)
    assert significand.max() < 2**7


def test_vectors_over_decades() -> None:
    value = normal(90) * (10 ** np.linspace(-7, 0, 90)).astype(np.float32)
    decoded = round_trip(value)
    used = np.abs(value) > 1e-6
    np.testing.assert_allclose(decoded[used], value[used], rtol=1 / 50)
    assert snr_db(value, decoded) > 38


def test_which_tensors_are_ratios() -> None:
    assert is_ratio(np.abs(normal(8, 8)), is_matrix=True)
    assert not is_ratio(normal(8, 8), is_matrix=True)
    assert not is_ratio(np.zeros((3, 3), np.float32), is_matrix=True)
    assert not is_ratio(np.array([1, 1e-4], np.float32), is_matrix=False)
    assert is_ratio(np.array([1, 0, 1e-6], np.float32), is_matrix=False)
    assert not is_ratio(np.empty(0, np.float32), is_matrix=False)


def test_batch_norms_of_dead_channels() -> None:
    variances = np.abs(normal(64)) + np.float32(0.1)
    variances[::5] *= 1e-6
    np.testing.assert_allclose(round_trip(variances), variances, rtol=1 / 60)


@pytest.mark.parametrize("decades", [2, 4, 6])
@pytest.mark.parametrize("shape", [(120, 64), (120, 8, 3, 3)])
def test_rows_over_decades(decades: float, shape: tuple[int, ...]) -> None:
    rows = normal(120, shape[1] if len(shape) == 2 else 72) * 10 ** np.linspace(-decades, 0, 120)[:, None]
    value = rows.astype(np.float32).reshape(shape)
    value[7] = 0
    decoded = round_trip(value)
    assert not decoded[7].any()
    kept = np.arange(120) != 7
    ratios = snr_db(value[kept].reshape(119, -1), decoded[kept].reshape(119, -1), 1)
    assert ratios.min() > (9 if decades < 3 else 25)
    assert snr_db(value, decoded) > 38


@pytest.mark.parametrize("factor", [1e-3, 1e-4, 1e-5])
def test_one_small_row(factor: float) -> None:
    value = normal(64, 32, 3, 3)
    plain = len(netpress.encode({"t": value}))
    value[11] *= np.float32(factor)
    decoded = round_trip(value)
    assert snr_db(value[11], decoded[11]) > 8
    assert snr_db(value, decoded) > 38
    assert len(netpress.encode({"t": value})) < 1.12 * plain


def test_row_integers_only_where_rows_need_them() -> None:
    value = normal(32, 50)
    assert row_integers(value, 0.02, 1 / 4) is None
    assert row_integers(np.zeros((4, 5), np.float32), 1.0, 1 / 4) is None
    value[3:6] *= np.float32(0.05)  # a few dead filters, of which the step leaves something
    assert row_integers(value, 0.1, 1 / 4) is None
    value[3:20] *= np.float32(0.05)
    integers = row_integers(value, 0.1, 1 / 4)
    assert integers is not None
    assert (snr_db(value, integers.values(), 1) > 15).all()


def test_rows_of_a_difference_are_those_of_the_new_value() -> None:
    size = (10 ** np.linspace(-5, 0, 60)).astype(np.float32)[:, None]
    old = normal(60, 40) * size
    new = old + normal(60, 40, seed=1) * size * np.float32(0.1)
    base = {"t": old}
    decoded = netpress.decode(netpress.encode({"t": new}, base=base), base=base)["t"]
    assert snr_db(new, decoded, 1).min() > 9


@pytest.mark.parametrize("outlier", [1.0, 1e2, 1e4, 1e5])
@pytest.mark.parametrize("where", [(3, 5), (slice(None), 5), (5, slice(None)), (slice(None, None, 9), 3)])
def test_outliers(outlier: float, where: Any) -> None:
    value = normal(120, 100) * np.float32(0.02)
    usual = np.ones(value.shape, bool)
    usual[where] = False
    value[where] = outlier
    decoded = round_trip(value)
    assert snr_db(value[usual], decoded[usual]) > (25 if outlier > 10 else 20)
    np.testing.assert_allclose(decoded[where], outlier, rtol=0.01)


def test_an_outlier_of_a_vector() -> None:
    value = normal(200) * np.float32(0.02)
    value[9] = 1e4
    decoded = np.delete(round_trip(value), 9)
    assert snr_db(np.delete(value, 9), decoded) > 45


def channel_scales(kind: str) -> Array:
    if kind == "over decades":
        return (10 ** np.linspace(-3.5, 0, 48)).astype(np.float32)
    scales = np.ones(48, np.float32)
    scales[[5, 30]] = 1e-2, 1e-3
    return scales


@pytest.mark.parametrize("kind", ["over decades", "two small ones"])
@pytest.mark.parametrize("as_dictionary", [False, True])
def test_a_network_whose_channels_differ(kind: str, as_dictionary: bool) -> None:
    """Batch norms divide by what the rows of the convolution before them are multiplied by."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(8, 48, 3, bias=False)
    norm = torch.nn.BatchNorm2d(48, momentum=None)
    with torch.no_grad():
        conv.weight *= torch.from_numpy(channel_scales(kind))[:, None, None, None]
    network = torch.nn.Sequential(conv, norm, torch.nn.ReLU(), torch.nn.Conv2d(48, 4, 3))
    x = 100 * torch.randn(16, 8, 12, 12)
    network(x)
    network.eval()
    with torch.no_grad():
        before = network(x).numpy()
        stream = netpress.encode(network.state_dict() if as_dictionary else network)
        decoded = netpress.decode(stream)
        network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in decoded.items()})
        after = network(x).numpy()
    assert snr_db(before, after) > 28


def test_factors_of_batch_norms_tell_dead_rows_from_live_ones() -> None:
    value = normal(64, 50)
    value[[3, 9]] *= np.float32(0.03)
    live, dead = np.ones(64), np.ones(64)
    live[[3, 9]] = 30
    assert row_integers(value, 0.08, 1 / 4) is None
    assert row_integers(value, 0.08, 1 / 4, factors=dead) is None
    integers = row_integers(value, 0.08, 1 / 4, factors=live)
    assert integers is not None
    assert (snr_db(value, integers.values(), 1) > 28).all()


@pytest.mark.parametrize("scale", [1e-8, 1e-10, 1e-15, 1e-20, 1e-30, 1e-35])
def test_small_values_are_as_accurate_as_others(scale: float) -> None:
    model = {"w": normal(48, 50) * np.float32(scale), "b": normal(48, seed=1) * np.float32(scale)}
    decoded = netpress.decode(netpress.encode(model))
    assert snr_db(model["w"], decoded["w"]) > 38
    assert snr_db(model["b"], decoded["b"]) > 45


@pytest.mark.parametrize("scale", [1e-10, 1e-15])
@pytest.mark.parametrize("large", [1.0, 1e4])
def test_small_values_beside_large_ones(scale: float, large: float) -> None:
    model = {"w": normal(48, 50) * np.float32(scale), "v": normal(48, 50, seed=1) * np.float32(large)}
    decoded = netpress.decode(netpress.encode(model))
    assert snr_db(model["w"], decoded["w"]) > 38
    assert snr_db(model["v"], decoded["v"]) > 38


def test_the_base_qp_stays_where_nothing_needs_another() -> None:
    def base_qp(value: Array, **options: Any) -> int:
        return suitable_base_qp([Parameter("t", value, ParameterKind.WEIGHT, 0)], EncodeConfig(**options))

    assert base_qp(normal(9, 9)) == 0
    assert base_qp(normal(9, 9) * np.float32(1e-5)) == 0
    assert base_qp(np.zeros((3, 3), np.float32)) == 0
    assert base_qp(np.arange(9)) == 0
    small = normal(9, 9) * np.float32(1e-20)
    assert base_qp(small) < -100
    assert base_qp(small, base_qp=4) == 4
    assert base_qp(small, qp=-20) == 0
    assert base_qp(small, qp_density=0) < -30
    given = {"t": netpress.QuantizedTensor(np.ones((9, 9), np.int32), 100)}
    parameters = [Parameter("t", small, ParameterKind.WEIGHT, 0), Parameter("s", small, ParameterKind.WEIGHT, 1)]
    assert suitable_base_qp(parameters[:1], EncodeConfig(), given=given) == 0
    assert -28 <= suitable_base_qp(parameters, EncodeConfig(), given=given) < 0


def test_what_is_beyond_all_steps_is_named() -> None:
    with pytest.warns(netpress.NetpressWarning, match=r"'w' \(all values\)"):
        netpress.encode({"w": normal(8, 9) * np.float32(1e-41), "v": normal(8, 9)})


def test_a_qp_that_erases_is_named() -> None:
    rows = normal(30, 20)
    rows[4] *= np.float32(1e-3)
    variances = np.array([1, 1e-7, 0.5], np.float32)
    model = {"small": normal(5, 6) * np.float32(1e-6), "rows": rows, "var": variances, "fine": normal(20, 20)}
    with pytest.warns(netpress.NetpressWarning) as seen:
        netpress.encode(model, qp=-20, nonweight_qp=-60)
    (warning,) = seen
    text = str(warning.message)
    assert "'small' (all values)" in text
    assert "'rows' (1 of 30 rows)" in text
    assert "'var' (1 of 3 values)" in text
    assert "fine" not in text


def test_what_is_no_loss() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        netpress.encode({"w": normal(20, 20), "zero": np.zeros((3, 4), np.float32)}, qp=-10)
        levels = np.zeros((4, 4), np.int32)
        netpress.encode({"w": normal(4, 4)}, quantized={"w": netpress.QuantizedTensor(levels, -4)})
        base = {"w": normal(6, 7)}
        netpress.encode({"w": base["w"] + np.float32(1e-9)}, base=base, qp=-10)


def test_lost_parts() -> None:
    value = np.array([[1, 2], [0, 0], [1e-3, 0], [1e-9, 0]], np.float32)
    kept = np.array([[1, 1], [0, 0], [0, 0], [0, 0]], bool)
    assert lost_part(value, kept) == "1 of 4 rows"
    assert lost_part(value, np.zeros((4, 2), bool)) == "all values"
    assert lost_part(np.zeros(3, np.float32), np.zeros(3, bool)) is None
    assert lost_part(np.array([1, -1e-9], np.float32), np.array([True, False])) is None
    text = describe_losses({f"t{i}": "all values" for i in range(8)})
    assert "'t4'" in text
    assert "3 more" in text
    assert "'t5'" not in text


UPDATES = {
    "mask": (few_values(0, 1), 1 - few_values(0, 1)),
    "new mask": (normal(48, 20), few_values(0, 1)),
    "some": (few_values(-1, 0, 1), np.roll(few_values(-1, 0, 1), 1)),
    "positions": (np.arange(90, dtype=np.float32), np.arange(90, dtype=np.float32) + 3),
}


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_of_exact_values_is_exact(name: str) -> None:
    old, new = UPDATES[name]
    base = {"t": old, "w": normal(9, 9)}
    decoded = netpress.decode(netpress.encode({**base, "t": new}, base=base), base=base)
    np.testing.assert_array_equal(decoded["t"], new)
    np.testing.assert_array_equal(decoded["w"], base["w"])


def test_an_update_keeps_ratios() -> None:
    rng = np.random.default_rng(5)
    old, new = (10 ** rng.uniform(-8, 0, (2, 40, 30))).astype(np.float32)
    decoded = netpress.decode(netpress.encode({"t": new}, base={"t": old}), base={"t": old})["t"]
    np.testing.assert_allclose(decoded[new > 1e-7], new[new > 1e-7], rtol=1 / 60)
    assert (decoded > 0).all()
    same = netpress.encode({"t": old}, base={"t": old})
    assert len(same) < 120  # what did not change is left out


def test_an_update_to_what_a_sum_cannot_hold() -> None:
    base = {"b": np.array([-1, 2, 3], np.float32)}
    new = {"b": np.array([1e-9, -2e-9, 3e-9], np.float32)}
    decoded = netpress.decode(netpress.encode(new, base=base), base=base)["b"]
    np.testing.assert_allclose(decoded, new["b"], rtol=0.05)


def test_blocks_keep_rows() -> None:
    value = normal(40, 50)
    value[5] *= np.float32(1e-4)
    model = {"w": value, "w_scaling": np.ones(40, np.float32), "b": normal(40)}
    blocks = (netpress.Block("w", scaling="w_scaling", bias="b"),)
    decoded = netpress.decode(netpress.encode(model, blocks=blocks))
    assert snr_db(value[5], decoded["w"][5]) > 8
    np.testing.assert_array_equal(decoded["w_scaling"], model["w_scaling"])
    assert snr_db(model["b"], decoded["b"]) > 45


def test_infinite_values_are_still_refused() -> None:
    with pytest.raises(InvalidModel, match="infinite"):
        netpress.encode({"w": np.array([[1, np.inf], [0, 1]], np.float32)})


def test_steps_of_exact_values_are_powers_of_two() -> None:
    for density in (0, 2, 7):
        integers = exact_integers(few_values(0.75, -3), qp_density=density)
        assert integers is not None
        assert step_size(integers.qp, density) == 0.75 / 3
