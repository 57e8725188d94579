"""With checksums, no flipped bit changes a decoded value unnoticed."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import netpress

MODEL = {
    "w": np.random.default_rng(0).laplace(0, 0.3, (6, 9)).astype(np.float32),
    "scale": np.array(3.5, np.float16),
    "n": np.array([1, 2**40], np.int64),
}


def same(decoded: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> bool:
    return list(decoded) == list(expected) and all(
        value.dtype == expected[name].dtype and value.tobytes() == expected[name].tobytes()
        for name, value in decoded.items()
    )


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "model.nnc"
    netpress.save(MODEL, path)
    data = path.read_bytes()
    expected = netpress.decode(data)
    unnoticed = []
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 128 >> bit % 8
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", netpress.NetpressWarning)
                decoded = netpress.decode(damaged)
        except netpress.NetpressError:
            continue
        if not same(decoded, expected):
            unnoticed.append(bit)
    assert unnoticed == []


def test_a_tensor_that_is_not_read_is_not_checked(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    model = {name: rng.normal(0, 1, (128, 128)).astype(np.float32) for name in ("first", "second")}
    path = tmp_path / "model.nnc"
    netpress.save(model, path)
    data = bytearray(path.read_bytes())
    with netpress.open(path) as stream:
        second = next(unit for unit in stream.units() if getattr(unit.content, "name", "") == "second")
        position = second.offset + second.header_bytes + 500
    data[position] ^= 4
    path.write_bytes(data)
    with netpress.open(path) as stream:
        assert stream["first"].shape == (128, 128)
        with pytest.raises(netpress.InvalidBitstream, match="checksum"):
            stream["second"]
