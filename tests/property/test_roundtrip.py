"""Any model: names, order, shapes and types come back, integers exactly, floats within the step."""

from __future__ import annotations

import contextlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import netpress
from netpress.bitstream import scan_units

Array = np.ndarray[Any, Any]

INTEGERS = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
FLOATS = [np.dtype(name) for name in ("float16", "float32", "float64")]
FLOATS += [np.dtype(t) for t in (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)]
FLOATS += [np.dtype(t) for t in (ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2fnuz)]

shapes = st.lists(st.integers(0, 5), max_size=5).map(tuple)
names = st.one_of(
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=12),
    st.sampled_from(["w_G", "w_H", "w", "w_G~", "a.upper", "a", "a.upper~", "", "~", "layer.weight", "layer.bias"]),
)


@st.composite
def integer_arrays(draw: st.DrawFn) -> Array:
    dtype = np.dtype(draw(st.sampled_from(INTEGERS)))
    shape = draw(shapes)
    low, high = (0, 1) if dtype == np.bool_ else (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    small = st.integers(max(low, -3), min(high, 3))
    values = draw(st.lists(st.one_of(small, st.integers(low, high)), min_size=12, max_size=12))
    size = int(np.prod(shape, dtype=int))
    return np.array([values[i % 12] for i in range(size)], dtype).reshape(shape)


@st.composite
def float_arrays(draw: st.DrawFn) -> Array:
    dtype = draw(st.sampled_from(FLOATS))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.0, 1e-6, 0.01, 0.3, 1.0, 10.0]))
    return (generator.laplace(0, 1, draw(shapes)) * scale).astype(np.float32).astype(dtype)


models = st.dictionaries(names, st.one_of(integer_arrays(), float_arrays()), min_size=1, max_size=6)
relaxed = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(model: dict[str, Array], decoded: dict[str, Array], tolerance: float | None) -> None:
    assert list(decoded) == list(model)
    for name, value in model.items():
        restored = decoded[name]
        assert restored.shape == value.shape
        assert restored.dtype == value.dtype
        if value.dtype.kind in "biu":
            assert restored.tobytes() == value.tobytes()
            continue
        x, y = value.astype(np.float64), restored.astype(np.float64)
        assert np.isfinite(y).all()
        if tolerance is not None and value.size:
            # The restored type rounds once more.
            rounding = float(ml_dtypes.finfo(value.dtype).eps) * np.abs(x).max() + float(
                ml_dtypes.finfo(value.dtype).smallest_subnormal
            )
            assert np.abs(y - x).max() <= tolerance * 1.001 + rounding


@relaxed
@given(models)
@example({"w_G": np.ones((2, 2), "f4"), "w_G~": np.ones((2, 2), "f4"), "w_H": np.zeros((0,), "f2")})
@example({"a.upper": np.array(1), "a": np.array(2**40)})
def test_default(model: dict[str, Array]) -> None:
    check(model, netpress.decode(netpress.encode(model)), None)


@pytest.mark.filterwarnings("ignore:the steps are too coarse")
@relaxed
@given(models, st.integers(-40, 0))
def test_uniform_quantisation_is_within_half_a_step(model: dict[str, Array], qp: int) -> None:
    data = netpress.encode(model, qp=qp, nonweight_qp=qp, use_dq=False, lambda_scale=0.0)
    step = (4 + qp % 4) * 2.0 ** (qp // 4 - 2)
    check(model, netpress.decode(data), step / 2)


@relaxed
@given(
    models,
    st.fixed_dictionaries(
        {},
        optional={
            "effort": st.integers(1, 9),
            "use_dq": st.booleans(),
            "scan_order": st.integers(0, 4),
            "profile": st.integers(0, 1),
            "codebook_mode": st.integers(0, 2),
            "unary_length": st.sampled_from([1, 2, 11, 31, 256]),
            "qp_density": st.integers(2, 5),
            "context_search": st.booleans(),
            "checksums": st.booleans(),
        },
    ),
)
@example({"w": np.array([543, -543] * 4, "i4").reshape(4, 2)}, {"profile": 0, "unary_length": 31})
def test_every_tool(model: dict[str, Array], options: dict[str, Any]) -> None:
    check(model, netpress.decode(netpress.encode(model, **options)), None)


@relaxed
@given(models, models)
def test_updates(old: dict[str, Array], new: dict[str, Array]) -> None:
    update = netpress.encode(new, base=old)
    restored = netpress.decode(update, base=old)
    check(dict(sorted(new.items())), dict(sorted(restored.items())), None)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(models)
def test_threads_do_not_matter(monkeypatch: pytest.MonkeyPatch, model: dict[str, Array]) -> None:
    results = set()
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("NETPRESS_THREADS", threads)
        results.add(netpress.encode(model))
    assert len(results) == 1


STREAM = netpress.encode(
    {
        "w": np.random.default_rng(0).laplace(0, 0.1, (6, 5)).astype(np.float32),
        "n": np.array([2**40, 1]),
        "half_G": np.ones((2, 2), np.float16),
        "s": np.array(True),
    },
    qp=-20,
)


def test_prefixes() -> None:
    """Every prefix is refused, but for those that end with a unit before the record: they are streams of no tensor."""
    ends = [extent.end for extent in scan_units(STREAM)]
    for length in range(len(STREAM)):
        if length in ends[:2]:
            assert netpress.decode(STREAM[:length]) == {}
            continue
        with pytest.raises(netpress.InvalidBitstream):
            netpress.decode(STREAM[:length])


@pytest.mark.filterwarnings("ignore::netpress.NetpressWarning")
def test_no_flipped_bit_crashes() -> None:
    limits = netpress.DecodeLimits(max_elements=10_000)
    changed = 0
    for position in range(8 * len(STREAM)):
        damaged = bytearray(STREAM)
        damaged[position // 8] ^= 1 << position % 8
        try:
            netpress.decode(damaged, limits=limits)
        except netpress.NetpressError:
            changed += 1
    assert changed > len(STREAM)


@pytest.mark.filterwarnings("ignore::netpress.NetpressWarning")
def test_checksums_notice_every_flipped_bit() -> None:
    data = netpress.encode({"w": np.linspace(-1, 1, 40, dtype="f4").reshape(8, 5)}, qp=-12, checksums=True)
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with contextlib.suppress(netpress.NetpressError):
            restored = netpress.decode(damaged)
            # Only bits that have no meaning may change unnoticed.
            assert restored["w"].tobytes() == netpress.decode(data)["w"].tobytes()


@pytest.mark.filterwarnings("ignore::netpress.NetpressWarning")
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes(data: bytes, after_a_head: bool) -> None:
    with contextlib.suppress(netpress.NetpressError):
        netpress.decode(
            (STREAM[:12] if after_a_head else b"") + data, limits=netpress.DecodeLimits(max_elements=10_000)
        )
