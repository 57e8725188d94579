"""A model on a Dask cluster: every tensor is coded by whichever worker is free.

    pip install 'netpress[dask]'
    python examples/dask_cluster.py [MODEL.safetensors]

Any executor of ``concurrent.futures`` works the same way. The stream does not depend on who coded what.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
from dask.distributed import Client, LocalCluster

import netpress


def sample_model() -> dict[str, np.ndarray]:
    """A model to play with if none is given."""
    rng = np.random.default_rng(0)
    return {f"layer{i}.weight": rng.laplace(0, 0.02, (256, 512)).astype("f4") for i in range(8)}


def main() -> None:
    """Encode and decode on two worker processes."""
    source = sys.argv[1] if len(sys.argv) > 1 else sample_model()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
        tempfile.TemporaryDirectory() as folder,
    ):
        path = Path(folder) / "model.nnc"
        size = netpress.save(source, path, executor=client.get_executor())
        restored = netpress.load(path, executor=client.get_executor())
        print(f"{len(restored)} tensors in {size} bytes, coded by {len(client.scheduler_info()['workers'])} processes")
        print("same bytes as with threads:", path.read_bytes() == netpress.encode(source, checksums=True))


if __name__ == "__main__":
    main()
