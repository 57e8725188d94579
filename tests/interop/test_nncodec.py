"""NNCodec as a black box: it reads our streams to the same floats, and we read its streams.

NETPRESS_PEER names the Python of an environment with NNCodec, NETPRESS_SHARED the folder with corpus/.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import netpress

pytest.importorskip("torch")

from rivals import nncodec

SHARED = Path(os.environ.get("NETPRESS_SHARED", Path(__file__).resolve().parents[3] / "shared"))

pytestmark = [
    pytest.mark.interop,
    pytest.mark.filterwarnings("ignore:the steps are too coarse"),
    pytest.mark.skipif(not nncodec.available(), reason="no NNCodec (set NETPRESS_PEER)"),
]

RNG = np.random.default_rng(11)
SMALL: dict[str, Any] = {
    "conv.weight": RNG.laplace(0, 0.08, (24, 12, 3, 3)).astype(np.float32),
    "conv.bias": RNG.normal(0, 0.1, 24).astype(np.float32),
    "norm.running_var": RNG.uniform(0.2, 3, 24).astype(np.float32),
    "pruned.weight": (RNG.laplace(0, 0.1, (40, 33)) * (RNG.random((40, 1)) < 0.5)).astype(np.float32),
    "constant": np.full((6, 7), 0.25, np.float32),
    "head_G": RNG.normal(0, 0.1, (5, 9)).astype(np.float32),
    "counter": np.array(123456, np.int64),
    "wide": np.array([2**40, -(2**35), 3], np.int64),
    "flags": np.array([True, False, True]),
    "half": RNG.normal(0, 1, (9, 8)).astype(np.float16),
    "empty": np.zeros((4, 0), np.float32),
    "größe/重み": RNG.normal(0, 1, (8, 8)).astype(np.float32),
}


def decoded_by_peer(stream: bytes, folder: Path) -> dict[str, Any]:
    (folder / "ours.nnc").write_bytes(stream)
    nncodec.decode(folder / "ours.nnc", folder / "decoded.safetensors")
    return load_file(folder / "decoded.safetensors")


def coded_tensors(stream: bytes) -> dict[str, Any]:
    """What travels: float32 and int32 under the names of the stream."""
    return netpress.Decoder().decode(stream)


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        # NNCodec gives codebook tensors in double precision.
        assert theirs[name].astype(value.dtype).tobytes() == value.tobytes(), name


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"qp": -20},
        {"qp": -12, "effort": 9},
        {"qp": -30, "use_dq": False, "effort": 1},
        {"qp": -20, "scan_order": 2},
        {"qp": -16, "codebook_mode": 2, "use_dq": False},
        {"bit_depth": 6, "qp": None},
        {"qp": -20, "sparsity": 0.6, "row_threshold": 0.9},
        {"qp": -20, "checksums": True},
        {"qp": -10, "base_qp": -20, "qp_density": 3},
    ],
    ids=str,
)
def test_nncodec_reads_ours(options: dict[str, Any], tmp_path: Path) -> None:
    stream = netpress.encode(SMALL, **options)
    assert_same(coded_tensors(stream), decoded_by_peer(stream, tmp_path))


@pytest.mark.parametrize(
    "model",
    ["cifar10-resnet/resnet20", "cifar10-resnet/resnet56", "imagenet-mobilenetv1/mobilenet_v1_075_224"],
)
def test_nncodec_reads_corpus_models(model: str, tmp_path: Path) -> None:
    source = SHARED / "corpus" / f"{model}.safetensors"
    if not source.exists():
        pytest.skip(f"no corpus model {model}")
    stream = netpress.encode(source)
    assert_same(coded_tensors(stream), decoded_by_peer(stream, tmp_path))


@pytest.mark.parametrize(
    "options", [{}, {"qp": -20, "use_dq": False}, {"qp": -12, "codebook_mode": 2}, {"opt_qp": True}], ids=str
)
def test_we_read_nncodec(options: dict[str, Any], tmp_path: Path) -> None:
    model = {
        name: value for name, value in SMALL.items() if value.dtype == np.float32 and value.size and name != "head_G"
    }
    save_file(model, tmp_path / "model.safetensors")
    nncodec.encode(tmp_path / "model.safetensors", tmp_path / "theirs.nnc", **options)
    nncodec.decode(tmp_path / "theirs.nnc", tmp_path / "decoded.safetensors")
    assert_same(netpress.load(tmp_path / "theirs.nnc"), load_file(tmp_path / "decoded.safetensors"))


def test_reference_preset_writes_their_bytes(tmp_path: Path) -> None:
    model = {
        name: value for name, value in SMALL.items() if value.dtype == np.float32 and value.size and name != "head_G"
    }
    save_file(model, tmp_path / "model.safetensors")
    nncodec.encode(tmp_path / "model.safetensors", tmp_path / "theirs.nnc", qp=-24)
    ordered = load_file(tmp_path / "model.safetensors")
    assert netpress.encode(ordered, netpress.EncodeConfig.reference(qp=-24)) == (tmp_path / "theirs.nnc").read_bytes()


@pytest.mark.parametrize("use_dq", [False, True])
def test_calibrated_quantisation(tmp_path, use_dq):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, groups=16), torch.nn.Conv2d(16, 24, 1)
    )
    calibration = netpress.calibrate(module, [torch.randn(20, 3, 9, 9)], outputs="values")
    quantized = netpress.quantize_model(module, calibration, qp=-18, use_dq=use_dq)
    stream = netpress.encode(module, quantized=quantized, use_dq=use_dq)
    theirs = decoded_by_peer(stream, tmp_path)
    assert_same(coded_tensors(stream), theirs)
    for name, tensor in quantized.items():
        np.testing.assert_array_equal(theirs[name], tensor.values())


def test_corrected_batch_norms(tmp_path):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.BatchNorm2d(16), torch.nn.Conv2d(16, 24, 1)).eval()
    calibration = netpress.calibrate(module, [torch.randn(20, 3, 9, 9)], outputs="values")
    stream = netpress.encode(module, calibration=calibration, qp=-18, fold_batch_norm=True)
    assert_same(coded_tensors(stream), decoded_by_peer(stream, tmp_path))


def test_streams_of_recipes(tmp_path: Path) -> None:
    """NNCodec reads what every stage makes to the same floats, but for decomposed weights."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 16, 3, bias=False), torch.nn.BatchNorm2d(16), torch.nn.ReLU()),
        *(torch.nn.ConvTranspose2d(16, 12, 2), torch.nn.BatchNorm2d(12), torch.nn.ReLU()),
        *(torch.nn.Conv2d(12, 12, 3), torch.nn.Flatten(), torch.nn.Linear(12 * 25, 5)),
    ).eval()
    x = torch.randn(16, 3, 8, 8)
    task = netpress.Task(calibration_batches=[x], train_batches=[x], evaluate=lambda m: 0.0)
    tucker = netpress.LowRank(ranks={"6": 8}, method="tucker", weighted=False)
    recipes = {
        "clusters": [netpress.Cluster(bits=3)],
        "clusters by rate": [netpress.Cluster(bits=5, rate=8.0)],
        "calibrated": [netpress.BatchNormFold(), netpress.Quantize(qp=-20)],
        "scaled": [netpress.BatchNormFold(), netpress.LocalScaling(epochs=1)],
        "scaled alone": [netpress.LocalScaling(epochs=1)],
        "pruned": [netpress.Prune(share=0.3), netpress.Sparsify(share=0.5), netpress.Unify(share=0.5)],
        "tucker": [tucker],
    }
    for stages in recipes.values():
        result = netpress.Recipe(stages, netpress.EncodeConfig(effort=8)).run(network, task)
        theirs = decoded_by_peer(result.data, tmp_path)
        assert_same(coded_tensors(result.data), theirs)


@pytest.mark.parametrize("options", [{"qp": -20}, {"qp": -30, "opt_qp": True, "nonweight_qp": -50}])
def test_nncodec_of_the_evaluation(options: dict[str, Any]) -> None:
    """The process that netpress evaluate talks to makes the bytes and the floats of the reference preset."""
    pytest.importorskip("torch")
    from netpress.evaluate.nncodec import Peer, peer_command

    names = ("conv.weight", "conv.bias", "pruned.weight", "norm.running_var")
    state = {name: SMALL[name] for name in names}
    ours = netpress.encode(state, netpress.EncodeConfig.reference(**options))
    rest = {"mean": np.zeros(24, np.float32)}
    command = peer_command(None)
    assert command is not None
    with Peer(command) as peer:
        assert peer.version() == "2.1.3"
        made = peer.make(state, rest, use_dq=True, **options)
    assert made.size == len(ours)
    assert made.encode_seconds > 0
    expected = {**netpress.decode(ours), **rest}
    assert made.state.keys() == expected.keys()
    for name, value in expected.items():
        assert made.state[name].tobytes() == value.tobytes(), name


def test_updates_of_nncodec() -> None:
    """Differences add up at the receiver, and small ones cost little."""
    first = {"w": RNG.normal(0, 0.1, (40, 30)).astype(np.float32), "b": RNG.normal(0, 0.1, 30).astype(np.float32)}
    models = [first]
    for _ in range(2):
        models.append({name: value + np.float32(0.01) for name, value in models[-1].items()})
    found = nncodec.updates(models, {"fine": {"qp": -40}, "coarse": {"qp": -12}})
    assert list(found) == ["fine", "coarse"]
    sizes, held = found["fine"]
    assert len(sizes) == 2
    assert held["w"] == pytest.approx(models[-1]["w"], abs=2e-3)
    assert sum(sizes) > sum(found["coarse"][0])


def test_tensors_that_one_step_does_not_suit(tmp_path: Path) -> None:
    """Masks, second moments, rows of any size, outliers, small values: their codebooks and steps are plain NNC."""
    rows = (RNG.normal(0, 1, (40, 30)) * 10 ** np.linspace(-5, 0, 40)[:, None]).astype(np.float32)
    outlier = RNG.normal(0, 0.02, (30, 40)).astype(np.float32)
    outlier[3, 4] = 1e4
    model = {
        "mask": (RNG.random((40, 30)) < 0.5).astype(np.float32),
        "additive": np.triu(np.full((16, 16), -1e4, np.float32), 1),
        "constant": np.full((9, 9), 0.1, np.float32),
        "positions": np.arange(64, dtype=np.float32),
        "moments": (10 ** RNG.uniform(-12, -3, (40, 30))).astype(np.float32),
        "running_var": (10 ** RNG.uniform(-9, 1, 50)).astype(np.float32),
        "rows": rows,
        "outlier": outlier,
        "small": (RNG.normal(0, 1, (20, 30)) * 1e-14).astype(np.float32),
        "usual": SMALL["conv.weight"],
    }
    assert_same(coded_tensors(netpress.encode(model)), decoded_by_peer(netpress.encode(model), tmp_path))
    smallest = {"w": (RNG.normal(0, 1, (20, 30)) * 1e-30).astype(np.float32)}
    assert_same(coded_tensors(netpress.encode(smallest)), decoded_by_peer(netpress.encode(smallest), tmp_path))
