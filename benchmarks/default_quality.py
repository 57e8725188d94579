"""What the default settings keep of every network, in how many bytes, beside 8 bits per weight with zstd.

    python benchmarks/default_quality.py [--development] [--only NAME ...] [--tools NAME ...] [--quick]
                                         [--data CORPUS] [--cache DIR] [--against PYTHON] [--json FILE]

Neither the encoder nor int8 sees data, labels or inputs. Each network is compared with the float one: agreement of the
decisions with an interval at 95 %, relative error of the outputs, Kullback-Leibler divergence of logits, the metric of
the task before and after. What must hold for all of them is in ``pages.default_quality.BARS``.

Settings are chosen on other networks than those that judge them: :data:`JUDGED` and :data:`DEVELOPMENT` share none.
``--development`` measures the second. Networks of public packages are fetched with pip, those of the second set that
have no weights are trained in a minute or two each; both are kept in ``--cache``, and so are the outputs of the float
networks. Rows in the output that are not measured now are kept.

From Python, to try something on a network:

    network = default_quality.load("mobilenetv2")
    state = {**network.tensors, "features.0.0.weight": ...}
    print(measures.measure(network, state))
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import functools
import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch

import netpress
import runner
from measures import Network, Result, State, measure
from pages.default_quality import RIVAL, row_line, summary_lines
from places import CORPUS
from quality_networks import development, imagenet, tasks
from rivals import int8

CACHE = Path(platformdirs.user_cache_dir("netpress")) / "benchmarks"

# The split. Whoever chooses a setting looks at DEVELOPMENT only.

DEVELOPMENT = (
    # trained here, on training data; evaluated on a part of it that is not trained on
    *development.TRAINED,
    # of public packages: a relative of MobileNetV2 with photographs that have no labels, and a small one with Clip,
    # HardSigmoid and batch norms in Constant nodes
    "efficientnet_lite1",
    "ppocr_cls",
    # of the zoo, held out of the judged set
    "cifar10-resnet32",
    "charlm-lstm",
    "superres-imdn-x4",
    "inr-siren-kodim23",
    "nerf-hotdog",
)
# All others of the zoo, but two tasks (-rate) whose networks and outputs are those of others, and files of public
# packages.
JUDGED = (
    "imagenet-mobilenetv1",
    "mobilenetv2",
    "efficientnet_lite0",
    "imagenet-darknet",
    "cifar10-resnet20",
    "cifar10-resnet56",
    "vgg-cifar10",
    "vit-cifar10",
    "swin-cifar10",
    "kws-ds-cnn",
    "fsdd-cnn",
    "camvid-espnet",
    "detection-fastestdet",
    "pointcloud-pointnet",
    "pointcloud-autoencoder",
    "recsys-mlp",
    "recsys-gmf",
    "pensieve",
    "pensieve-rounds",
    "charlm-decoder",
    "sentence-minilm",
    "perceptual-mobilenet",
    "superres-imdn-x2",
    "superres-carn-m",
    "superres-vdsr",
    "denoise-dncnn",
    "denoise-nafnet",
    "image-autoencoder",
    "image-autoencoder-small",
    "nerf-lego",
    "inr-siren-kodim15",
    "nudenet",
    "ppocr_det",
    "ppocr_rec",
    "magika",
    "silero_vad",
    "basic_pitch",
)
_ONNX = ("nudenet", "ppocr_det", "ppocr_rec", "ppocr_cls", "magika", "silero_vad", "basic_pitch")

SETTINGS: dict[str, dict[str, Any]] = {
    "netpress": {},
    "netpress, small": {"quality": "small"},
    "netpress, high": {"quality": "high"},
    "netpress, qp -30": {"qp": -30},
    "netpress, qp -30, no feedback": {"qp": -30, "error_feedback": False},
    "netpress, qp -20": {"qp": -20},
    "netpress, qp -20, no feedback": {"qp": -20, "error_feedback": False},
}
"""Names of tools -> options of ``netpress.encode``; the first is the default, which is judged."""


@dataclasses.dataclass(frozen=True)
class Made:
    """What a tool makes of a network: bytes, decoded float tensors, seconds to encode."""

    bytes: int
    state: State
    seconds: float


def encoded(network: Network, **options: Any) -> Made:
    """Encode and decode a network with netpress."""
    start = time.perf_counter()
    stream = netpress.encode(network.source, **options)
    seconds = time.perf_counter() - start
    decoded = netpress.decode(stream)
    return Made(len(stream), {name: decoded[name] for name in network.tensors}, seconds)


def in_8_bits(network: Network) -> Made:
    """Quantise a network to 8 bits per weight, and compress it with zstd."""
    start = time.perf_counter()
    size, state = int8.compress(network.tensors, network.output_axes)
    return Made(size, state, time.perf_counter() - start)


TOOLS: dict[str, Callable[[Network], Made]] = {
    **{name: functools.partial(encoded, **options) for name, options in SETTINGS.items()},
    RIVAL: in_8_bits,
}
"""Name -> what makes a network smaller."""


def load(name: str, data: Path = CORPUS, cache: Path = CACHE, quick: bool = False) -> Network:
    """Return a network of one of the two sets.

    Args:
        name: in :data:`JUDGED` or :data:`DEVELOPMENT`.
        data: folder of the corpus.
        cache: for files of packages, trained weights and the outputs of float networks.
        quick: whether few inputs are enough.

    Raises:
        ImportError, NetpressError, OSError, RuntimeError: a package, a file or a download is missing.
    """
    network = _load(name, data, cache, quick)
    key = hashlib.sha256(repr((name, quick, netpress.__version__, np.__version__)).encode())
    for tensor in network.tensors.values():
        key.update(np.ascontiguousarray(tensor).tobytes())
    for source in sorted(Path(tasks.__file__).parent.glob("*.py")):
        key.update(source.read_bytes())
    path = cache / "float" / f"{name}-{key.hexdigest()[:12]}.pickle"
    return dataclasses.replace(network, reference=lambda: _kept(path, lambda: network.run({})))


def _load(name: str, data: Path, cache: Path, quick: bool) -> Network:
    models = cache / "models"
    if name in _ONNX:
        from quality_networks.onnx_files import onnx_network

        return onnx_network(name, data, models, quick)
    if name in development.TRAINED:
        return development.trained_network(name, data, cache, quick)
    if name == "efficientnet_lite1":
        return development.photograph_network(name, imagenet.efficientnet_lite(1, models), data, 240, quick)
    if name == "efficientnet_lite0":
        module = imagenet.efficientnet_lite(0, models)
        return tasks.imagenet_network(name, module, data, imagenet.lite_inputs, quick)
    if name == "mobilenetv2":
        return tasks.imagenet_network(name, imagenet.mobilenet_v2(models), data, imagenet.v2_inputs, quick)
    return tasks.zoo_network(name, data, quick)


def _kept(path: Path, compute: Callable[[], Result]) -> Result:
    """What the float network computes, from a file if it is there; the file does not say how scores are aggregated."""
    if path.exists():
        with path.open("rb") as file:
            outputs, samples = pickle.load(file)
        return Result(outputs, None if samples is None else netpress.Scores(samples))
    result = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as made:
        pickle.dump((result.outputs, None if result.scores is None else result.scores.samples), made)
    Path(made.name).replace(path)
    return result


def measure_network(network: Network, names: Iterable[str]) -> dict[str, Any]:
    """Return the figures of some tools on a network."""
    found = {}
    for name in names:
        made = TOOLS[name](network)
        measures = measure(network, made.state)
        found[name] = {"bytes": made.bytes, "encode_seconds": made.seconds, **dataclasses.asdict(measures)}
        print(row_line(network.name, name, found[name], network.float_bytes), flush=True)
    return {
        "float_bytes": network.float_bytes,
        "decides": network.decisions,
        "metric": network.metric,
        "unit": network.unit,
        "direction": network.direction,
        "tools": found,
    }


_TIMED = """
import pickle, sys, time, netpress
with open(sys.argv[1], "rb") as file:
    source = pickle.load(file)
netpress.encode(source)
seconds = []
for _ in range(3):
    start = time.perf_counter()
    netpress.encode(source)
    seconds.append(time.perf_counter() - start)
print(min(seconds))
"""


def seconds_of(network: Network, python: str) -> float:
    """Return the least time of three in which an installation of netpress encodes a network.

    Args:
        network: the network.
        python: of the environment; the classes of modules are those of this one.
    """
    import netpress_zoo

    places = os.pathsep.join(str(Path(file).parents[1]) for file in (netpress_zoo.__file__, tasks.__file__))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "source.pickle")
        path.write_bytes(pickle.dumps(network.source))
        command = [python, "-c", _TIMED, path]
        environment = {**os.environ, "PYTHONPATH": places}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment)
    return float(done.stdout)


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--development", action="store_true", help="the networks on which settings are chosen")
    made.add_argument("--only", nargs="+", metavar="NAME", help="only networks that match one of these patterns")
    made.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS), help="only these tools")
    made.add_argument("--quick", action="store_true", help="few inputs")
    made.add_argument("--data", type=Path, default=CORPUS, help="folder laid out like the corpus")
    made.add_argument("--cache", type=Path, default=CACHE, help="folder for models and the outputs of float networks")
    made.add_argument("--against", metavar="PYTHON", help="of an environment with another netpress; compares the time")
    made.add_argument("--threads", type=int, default=1, help="of torch")
    made.add_argument("--json", type=Path, help="file for the figures; other networks in it are kept")
    made.add_argument("--list", action="store_true", help="name the networks")
    return made


def main() -> None:
    """Measure the networks that are asked for."""
    arguments = parser().parse_args()
    torch.set_num_threads(arguments.threads)
    order = DEVELOPMENT if arguments.development else JUDGED
    chosen = [name for name in order if any(fnmatch.fnmatch(name, p) for p in arguments.only or ["*"])]
    if arguments.list:
        print("\n".join(chosen))
        return
    tools = list(arguments.tools)
    if RIVAL in tools and not int8.available():
        print(f"{RIVAL}: left out, the package zstandard is missing", file=sys.stderr)
        tools.remove(RIVAL)
    key = "development" if arguments.development else "judged"
    results: dict[str, Any] = {"judged": {}, "development": {}}
    if arguments.json is not None and arguments.json.exists():
        results |= json.loads(arguments.json.read_text(encoding="utf-8"))
    for name in chosen:
        before = results[key].get(name, {})
        try:
            network = load(name, arguments.data, arguments.cache, arguments.quick)
            found = measure_network(network, tools)
            if arguments.against:
                found["seconds"] = [seconds_of(network, python) for python in (sys.executable, arguments.against)]
        except (ImportError, netpress.NetpressError, OSError, RuntimeError) as error:
            print(f"{name}: left out, {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
            continue
        found["tools"] = {**before.get("tools", {}), **found["tools"]}
        results[key][name] = {**before, **found, "about": runner.about(arguments)}
        results[key] = {known: results[key][known] for known in order if known in results[key]}
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print("\n".join(summary_lines({name: results[key][name] for name in chosen if name in results[key]})))


if __name__ == "__main__":
    main()
