"""Stands for NNCodec in tests: rounds weights to a step and packs them; with the word ``crash``, dies at work."""

import json
import sys
import zlib
from pathlib import Path

import numpy as np
from safetensors.numpy import load, load_file, save, save_file

for line in sys.stdin:
    request = json.loads(line)
    if request["verb"] == "hello":
        answer = {"version": "fake"}
    elif "crash" in sys.argv:
        print("no more memory on this planet", file=sys.stderr)
        sys.exit(3)
    elif request["verb"] == "encode":
        step = 2.0 ** (request["options"]["qp"] / 4)
        state = load_file(request["source"])
        rounded = {n: np.rint(v / step).astype("f4") * np.float32(step) for n, v in state.items() if v.ndim > 1}
        Path(request["target"]).write_bytes(zlib.compress(save({**state, **rounded})))
        answer = {"seconds": 0.5}
    else:
        save_file(load(zlib.decompress(Path(request["source"]).read_bytes())), request["target"])
        answer = {"seconds": 0.25}
    print(json.dumps(answer), flush=True)
