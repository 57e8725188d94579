"""NNCodec beside netpress, as a black box in an environment of its own: the one bridge of all benchmarks.

It is that of ``netpress evaluate``: the environment variable NETPRESS_PEER names the Python of an environment with
NNCodec, or a whole command (:func:`netpress.evaluate.nncodec.peer_command`). Without it the comparison is left out,
visibly. :func:`encode` and :func:`decode` start a process each, so that nothing of an earlier one makes them faster.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from netpress.evaluate.nncodec import Peer, nncodec_tools, peer_command
from netpress.evaluate.tools import Tool

__all__ = ["MINOR", "available", "decode", "decoded_alike", "encode", "tools", "updates"]

Model = Mapping[str, np.ndarray[Any, Any]]

_LABELS = {
    "NNCodec DQ": "dependent quantisation",
    " + opt_qp": ", opt_qp",
    "norms as factors": "batch norms as factor and bias",
    "norms folded": "batch norms multiplied in",
}
MINOR = ("dependent quantisation", "dependent quantisation, opt_qp")
"""Labels of the tools that others with coarser vectors beat: nearly the same floats in more bytes."""

# What NNCodec does without options, whatever its version's defaults are.
_PLAIN = {"qp": -38, "nonweight_qp": -75, "use_dq": True, "row_skipping": False}


def available() -> bool:
    """Whether NETPRESS_PEER names something."""
    return peer_command(None) is not None


def _running(threads: int) -> Peer:
    command = peer_command(None)
    if command is None:
        raise RuntimeError("there is no NNCodec: set NETPRESS_PEER")
    return Peer(command, timeout=math.inf, threads=threads)


@contextlib.contextmanager
def tools(module: Any) -> Iterator[list[Tool]]:
    """Start NNCodec and yield its strongest settings for a network, with the labels of the results; none without it.

    Args:
        module: the float network, a torch module.
    """
    if not available():
        yield []
        return
    with _running(1) as peer:
        yield [dataclasses.replace(tool, name=_label(tool.name)) for tool in nncodec_tools(peer, module)]


def _label(name: str) -> str:
    """The label of a tool of the evaluation in quality.json and its like."""
    for words, label in _LABELS.items():
        name = name.replace(words, label)
    return name


def encode(source: Path, target: Path, *, threads: int = 1, **options: Any) -> dict[str, Any]:
    """Encode a .safetensors file.

    Args:
        source: the model.
        target: the stream.
        threads: that NNCodec may use.
        options: arguments of NNCodec's ``compress``.

    Returns:
        ``seconds``, without start-up, and ``bytes``.
    """
    with _running(threads) as peer:
        return peer.request(verb="encode", source=str(source), target=str(target), options={**_PLAIN, **options})


def decode(source: Path, target: Path, *, threads: int = 1) -> dict[str, Any]:
    """Decode a stream to a .safetensors file; takes and returns what :func:`encode` does."""
    with _running(threads) as peer:
        return peer.request(verb="decode", source=str(source), target=str(target))


def decoded_alike(data: bytes, ours: Model) -> bool:
    """Whether NNCodec decodes a stream to the same tensors; codebooks come from it in double precision.

    Args:
        data: the stream.
        ours: what netpress decodes it to; scalars and 64-bit integers are compared as NNCodec has them.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "stream.nnc"), Path(folder, "decoded.safetensors")
        source.write_bytes(data)
        decode(source, target)
        theirs = load_file(target)
    expected = {name: value.astype(np.int32) if value.dtype.kind in "iu" else value for name, value in ours.items()}
    return expected.keys() <= theirs.keys() and all(
        theirs[name].astype(value.dtype).tobytes() == value.tobytes() for name, value in expected.items()
    )


def updates(models: Sequence[Model], settings: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[list[int], Model]]:
    """Code a sequence of models with NNCodec's difference coding and temporal contexts.

    Args:
        models: the first is what the receiver holds; float tensors count.
        settings: arguments of NNCodec's ``compress``, by a name for them.

    Returns:
        For each name the bytes of each update, and what the receiver holds in the end.
    """
    found = {}
    with tempfile.TemporaryDirectory() as folder, _running(1) as peer:
        sources = [Path(folder, f"model-{number}.safetensors") for number in range(len(models))]
        for model, source in zip(models, sources, strict=True):
            floats = {name: value for name, value in model.items() if value.dtype == np.float32}
            save_file({name: np.ascontiguousarray(value) for name, value in floats.items()}, source)
        target = Path(folder, "held.safetensors")
        for name, options in settings.items():
            answer = peer.request(
                verb="update", sources=list(map(str, sources)), target=str(target), options=dict(options)
            )
            found[name] = (answer["bytes"], load_file(target))
    return found
