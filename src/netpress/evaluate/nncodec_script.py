"""Runs NNCodec as a black box in an environment of its own; does not need netpress.

Reads one request as JSON from each line of standard input and answers each with one line of JSON on standard output:

    {"verb": "hello"}                                                    -> {"version": ...}
    {"verb": "encode", "source": IN.safetensors, "target": OUT.nnc, "options": {...}}  -> {"seconds": ..., "bytes": ...}
    {"verb": "decode", "source": IN.nnc, "target": OUT.safetensors}      -> {"seconds": ..., "bytes": ...}
    {"verb": "update", "sources": [IN.safetensors, ...], "target": OUT, "options": {...}}     -> {"bytes": [...]}

``options`` are arguments of NNCodec's function ``compress``. What fails is answered by {"error": ...}. Seconds are
those of the codec alone. ``update`` codes each model but the first as its difference to what the receiver holds, with
temporal contexts; the target is what the receiver holds in the end.
"""

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    if request["verb"] == "hello":
        return {"version": version("nncodec")}
    if request["verb"] == "update":
        return _update(request["sources"], Path(request["target"]), request.get("options", {}))
    run = _encode if request["verb"] == "encode" else _decode
    return run(Path(request["source"]), Path(request["target"]), request.get("options", {}))


def _encode(source: Path, target: Path, options: dict[str, Any]) -> dict[str, Any]:
    from nncodec import nnc
    from safetensors.numpy import load_file

    state = {}
    for name, value in load_file(source).items():
        # NNCodec knows float32 and int32, and no tensors without dimensions.
        converted = value.astype("int32" if value.dtype.kind in "iub" else "float32")
        state[name] = converted.reshape(1) if converted.ndim == 0 else converted
    start = time.perf_counter()
    data = nnc.compress(state, bitstream_path=None, return_bitstream=True, **options)
    seconds = time.perf_counter() - start
    target.write_bytes(data)
    return {"seconds": seconds, "bytes": len(data)}


def _decode(source: Path, target: Path, _: dict[str, Any]) -> dict[str, Any]:
    import numpy
    from nncodec import nnc
    from safetensors.numpy import save_file

    data = bytearray(source.read_bytes())
    start = time.perf_counter()
    state = nnc.decompress(data)
    seconds = time.perf_counter() - start
    save_file({name: numpy.ascontiguousarray(value) for name, value in state.items()}, target)
    return {"seconds": seconds, "bytes": len(data)}


def _update(sources: list[str], target: Path, options: dict[str, Any]) -> dict[str, Any]:
    import numpy
    from nncodec import nnc
    from safetensors.numpy import load_file, save_file

    encoder, decoder = (
        {"parameters": {}, "put_node_depth": {}, "device_id": 0, "parameter_id": {}} for _ in ("encoder", "decoder")
    )
    held, sizes = load_file(sources[0]), []
    for source in sources[1:]:
        difference = {name: numpy.array(value - held[name]) for name, value in load_file(source).items()}
        data = nnc.compress(
            difference,
            bitstream_path=None,
            return_bitstream=True,
            compress_differences=True,
            tca=True,
            approx_param_base=encoder,
            update_base_param=True,
            **options,
        )
        decoded = nnc.decompress(bytearray(data), approx_param_base=decoder, update_base_param=True)
        for name, value in decoded.items():
            held[name] = held[name] + value.reshape(held[name].shape)
        sizes.append(len(data))
    save_file({name: numpy.ascontiguousarray(value, "float32") for name, value in held.items()}, target)
    return {"bytes": sizes}


def main() -> None:
    """Answer until standard input ends."""
    # NNCodec prints: that goes to standard error, the answers to what was standard output.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            answer = _answer(json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
