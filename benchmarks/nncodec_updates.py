"""Runs in the environment of NNCodec, as a black box: codes a sequence of models with its difference coding and TCA.

    PEER/python benchmarks/nncodec_updates.py OPTIONS.json

The options name a folder with the models (``model-0.npz`` is the base, ``model-1.npz`` follows ...) and lists of
settings. Each model is coded as its difference to what the receiver holds. For each setting prints one line of JSON
with the bytes of each update, and writes what the receiver holds in the end as ``NAME.npz``.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

import numpy as np
from nncodec import nnc


def empty_state():
    """Return the state before the first update."""
    return {"parameters": {}, "put_node_depth": {}, "device_id": 0, "parameter_id": {}}


def floats(path):
    """Return the float tensors of a model; counters do not matter here."""
    return {name: value for name, value in np.load(path).items() if value.dtype == np.float32}


def main():
    """Code all models with each setting."""
    options = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(options["folder"])
    models = [floats(folder / f"model-{i}.npz") for i in range(options["models"])]
    for name, settings in options["settings"].items():
        encoder_state, decoder_state = empty_state(), empty_state()
        held, sizes = dict(models[0]), []
        for model in models[1:]:
            update = {k: np.array(model[k] - held[k]) for k in model}
            with contextlib.redirect_stdout(io.StringIO()):
                data = nnc.compress(
                    update,
                    bitstream_path=None,
                    return_bitstream=True,
                    compress_differences=True,
                    tca=True,
                    approx_param_base=encoder_state,
                    update_base_param=True,
                    **settings,
                )
                decoded = nnc.decompress(bytearray(data), approx_param_base=decoder_state, update_base_param=True)
            held = {k: (v + decoded[k].reshape(v.shape) if k in decoded else v) for k, v in held.items()}
            sizes.append(len(data))
        np.savez(folder / f"{name}.npz", **{k: v.astype(np.float32) for k, v in held.items()})
        print(json.dumps({"name": name, "bytes": sizes}), flush=True)


if __name__ == "__main__":
    main()
