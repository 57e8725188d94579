"""Any executor gives the same stream and the same tensors."""

import subprocess
import sys
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import netpress

RNG = np.random.default_rng(5)
MODEL = {
    **{f"w{i}": RNG.laplace(0, 0.05, (31, 17 + i)).astype(np.float32) for i in range(12)},
    "bias": RNG.standard_normal(31).astype(np.float32),
    "count": np.array(7, np.int64),
}
STREAM = netpress.encode(MODEL, executor=ThreadPoolExecutor(1))


@pytest.mark.parametrize("executor", [ThreadPoolExecutor(1), ThreadPoolExecutor(5), ProcessPoolExecutor(2)], ids=str)
def test_same_bytes_and_tensors(executor: Executor) -> None:
    with executor:
        assert netpress.encode(MODEL, executor=executor) == STREAM
        restored = netpress.decode(STREAM, executor=executor)
    for name, value in netpress.decode(STREAM).items():
        assert restored[name].tobytes() == value.tobytes()


def test_number_of_threads_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    for threads in ("1", "2", "9"):
        monkeypatch.setenv("NETPRESS_THREADS", threads)
        assert netpress.encode(MODEL) == STREAM


def test_errors_of_a_tensor_reach_the_caller() -> None:
    broken = {**MODEL, "w3": np.full((4, 4), np.nan, np.float32)}
    with ProcessPoolExecutor(2) as executor, pytest.raises(netpress.InvalidModel, match="'w3'"):
        netpress.encode(broken, executor=executor)


def test_dask_cluster_of_two_processes() -> None:
    pytest.importorskip("distributed")
    example = Path(__file__).parents[2] / "examples" / "dask_cluster.py"
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "coded by 2 processes" in done.stdout
    assert "same bytes as with threads: True" in done.stdout
