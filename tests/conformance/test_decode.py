"""Decoding every conformance vector to the exact bits."""

import hashlib

import numpy as np
import pytest
from vectors import NAMES, Vector, vector

from netpress.codec.decoder import Decoder


def decoder_for(v: Vector) -> Decoder:
    """A decoder that has seen the updates before, each once and in order."""
    decoder = Decoder()
    for earlier in v.earlier:
        decoder.decode(earlier.stream, dimensions=earlier.meta.get("out_of_band_dimensions"))
    return decoder


@pytest.mark.parametrize("name", NAMES)
def test_decodes_to_the_expected_bits(name: str) -> None:
    v = vector(name)
    tensors = decoder_for(v).decode(v.stream, dimensions=v.meta.get("out_of_band_dimensions"))
    assert list(tensors) == v.meta["expected_order"]
    expected = v.expected()
    for tensor, description in v.meta["expected_tensors"].items():
        value = tensors[tensor]
        assert list(value.shape) == description["shape"], tensor
        # NNCodec returns codebook tensors in double precision; compare after rounding, as the standard has float32.
        assert value.dtype == {"F32": np.float32, "F64": np.float32, "I32": np.int32}[description["dtype"]], tensor
        if expected is not None:
            assert value.tobytes() == expected[tensor].astype(value.dtype).tobytes(), tensor
        else:
            digest = hashlib.sha256(value.astype(value.dtype.newbyteorder("<")).tobytes()).hexdigest()
            assert description["dtype"] != "F64"
            assert digest == description["sha256"], tensor
