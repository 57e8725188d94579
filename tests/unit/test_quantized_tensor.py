"""Tensors that are quantised before they are encoded."""

import numpy as np
import pytest

import netpress
from netpress import EncodeConfig, InvalidConfig, InvalidModel, QuantizedTensor
from netpress.codec.index import index_stream
from netpress.quantize.levels import quantize

RNG = np.random.default_rng(5)
WEIGHT = RNG.normal(size=(24, 40)).astype(np.float32)
MODEL = {"w": WEIGHT, "b": RNG.normal(size=24).astype(np.float32)}


@pytest.mark.parametrize("dependent", [False, True])
def test_given_levels_are_coded_as_they_are(dependent: bool) -> None:
    levels, qp = quantize(WEIGHT, qp=-10, qp_density=2, dependent=dependent)
    given = QuantizedTensor(levels, qp, dependent)
    restored = netpress.decode(netpress.encode(MODEL, quantized={"w": given}, qp=-30))
    np.testing.assert_array_equal(restored["w"], given.values())
    assert np.abs(restored["b"] - MODEL["b"]).max() < 1e-4


@pytest.mark.parametrize("codebook", [True, False, None])
def test_codebook_of_given_levels(codebook: bool | None) -> None:
    levels = RNG.choice(np.array([-900, -70, 3, 411, 5000], np.int32), size=(24, 40))
    data = netpress.encode(MODEL, quantized={"w": QuantizedTensor(levels, -30, codebook=codebook)})
    np.testing.assert_array_equal(netpress.decode(data)["w"], QuantizedTensor(levels, -30).values())
    # Five far-apart values: the list is smaller by far, and None has to find out.
    assert (len(data) < 600) == (codebook is not False)


def test_block_with_a_given_weight_stays_one_unit() -> None:
    levels, qp = quantize(WEIGHT, qp=-10, qp_density=2, dependent=False)
    blocks = (netpress.Block("w", bias="b"),)
    data = netpress.encode(MODEL, EncodeConfig(blocks=blocks), quantized={"w": QuantizedTensor(levels, qp)})
    assert len(index_stream(data, netpress.DecodeLimits()).units) == 1
    np.testing.assert_array_equal(netpress.decode(data)["w"], QuantizedTensor(levels, qp).values())


@pytest.mark.parametrize("name", ["a_G", "a_H"])
def test_renamed_tensor(name: str) -> None:
    levels = np.arange(6, dtype=np.int32).reshape(2, 3)
    data = netpress.encode({name: np.zeros((2, 3), np.float32)}, quantized={name: QuantizedTensor(levels, 0)})
    np.testing.assert_array_equal(netpress.decode(data)[name], levels)


@pytest.mark.parametrize(
    ("quantized", "error", "message"),
    [
        ({"x": QuantizedTensor(np.zeros((2, 2), np.int32), 0)}, InvalidModel, "'x'"),
        ({"w": QuantizedTensor(np.zeros((2, 2), np.int32), 0)}, InvalidModel, "do not fit"),
        ({"w": QuantizedTensor(np.zeros((24, 40), np.int32), 500)}, InvalidConfig, "outside"),
        ({"n": QuantizedTensor(np.zeros(3, np.int32), 0)}, InvalidModel, "integer"),
    ],
)
def test_what_does_not_fit(quantized: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        netpress.encode({**MODEL, "n": np.arange(3)}, quantized=quantized)


@pytest.mark.parametrize("levels", [np.zeros((2, 2)), [[1]], np.zeros(3, np.int64)])
def test_levels_are_int32(levels: object) -> None:
    with pytest.raises(InvalidModel, match="int32"):
        QuantizedTensor(levels, 0)  # type: ignore[arg-type]
