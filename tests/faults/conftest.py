"""A model that takes a moment to encode, and its stream."""

from __future__ import annotations

import time

import numpy as np
import pytest
from processes import Ended, Material, run

from netpress.formats import save_tensors


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    """Two million weights, which take about a second to encode."""
    folder = tmp_path_factory.mktemp("faults")
    generator = np.random.default_rng(1)
    model = folder / "m.safetensors"
    save_tensors(
        {f"layer{i}.weight": generator.normal(0, 0.05, (128, 512)).astype(np.float32) for i in range(32)}, model
    )
    stream, decoded = folder / "m.nnc", folder / "decoded.safetensors"
    times = []
    for command, source, target in (("encode", model, stream), ("decode", stream, decoded)):
        begin = time.monotonic()
        ended = run(command, source, "-o", target, "-q")
        assert ended == Ended(0, b"", ""), ended.stderr
        times.append(time.monotonic() - begin)
    return Material(model, stream, decoded, *times)
