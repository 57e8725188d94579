"""Bytes against the divergence of the outputs: NNCodec, netpress without data, and calibrated quantisation.

  python benchmarks/quality.py [--depth 20] [--samples 1024] [--only PATTERN ...]

ResNet-20 on CIFAR-10. Calibration on training images without labels; divergence (mean Kullback-Leibler divergence of
the outputs from the float network's) on the 2000 test images, and in brackets on 2000 training images that calibration
does not see. Needs NETPRESS_SHARED (folder with corpus/ and tools/) and, for the rows of NNCodec, NETPRESS_PEER (Python
with NNCodec 2.1.3). "Saved" compares bytes at equal divergence on the test images, interpolated between logarithms,
with the better of NNCodec's rows. The standard error of a divergence is 5 to 8 % of it, which is 1 to 2 % of the bytes.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from torch import nn

import netpress

TARGETS = (0.02, 0.03, 0.06)


class Block(nn.Module):
    """Two convolutions and a shortcut without parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.added = (outputs - inputs) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the output of the block."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.added:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.added, self.added))
        return F.relu(x + y)


class ResNet(nn.Module):
    """The CIFAR ResNet of depth 6 n + 2."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        inputs = 16
        for stage, outputs in enumerate((16, 32, 64), 1):
            blocks = []
            for i in range((depth - 2) // 6):
                blocks.append(Block(inputs, outputs, 2 if stage > 1 and i == 0 else 1))
                inputs = outputs
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the logits of images of shape (n, 3, 32, 32)."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(x.mean((2, 3)))


def images(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return normalised images and labels."""
    data = np.load(path)
    pixels = torch.tensor(data["images"]).permute(0, 3, 1, 2).float() / 255
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    return (pixels - mean) / deviation, torch.tensor(data["labels"].astype(np.int64))


@dataclasses.dataclass
class Bench:
    """The float network, its data, and its outputs."""

    folder: Path
    depth: int
    samples: int

    def __post_init__(self) -> None:
        train, _ = images(self.folder / "train_5000.npz")
        test, self.labels = images(self.folder / "test_2000.npz")
        self.calibration = list(train[: self.samples].split(64))
        self.tested = [test, train[3000:5000]]
        self.weights = self.folder / f"resnet{self.depth}.safetensors"
        self.module = self.network(load_file(self.weights))
        self.wanted = [self.outputs(self.module, x) for x in self.tested]

    def network(self, state: Mapping[str, Any]) -> ResNet:
        """Return the network with other weights."""
        module = ResNet(self.depth)
        shapes = {n: p.shape for n, p in module.state_dict().items()}
        module.load_state_dict({n: torch.tensor(np.asarray(a)).reshape(shapes[n]) for n, a in state.items()})
        return module.eval()

    @staticmethod
    @torch.no_grad()
    def outputs(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Return logarithms of the probabilities."""
        return torch.cat([module(part) for part in x.split(250)]).double().log_softmax(1)

    def judge(self, state: Mapping[str, Any]) -> tuple[float, float, float]:
        """Return the divergence on test images and on further ones, and the accuracy in per cent."""
        module = self.network(state)
        found = [self.outputs(module, x) for x in self.tested]
        first, second = ((a.exp() * (a - b)).sum(1).mean().item() for a, b in zip(self.wanted, found, strict=True))
        return first, second, 100 * (found[0].argmax(1) == self.labels).double().mean().item()


@dataclasses.dataclass
class Row:
    """The points of one encoder."""

    label: str
    points: list[tuple[int, float, float, float]]
    seconds: float

    def bytes_at(self, divergence: float) -> float:
        """Return the bytes at a divergence on the test images; NaN outside of the points."""
        ordered = sorted((kl, n) for n, kl, _, _ in self.points)
        if not ordered[0][0] <= divergence <= ordered[-1][0]:
            return float("nan")
        x, y = np.log(ordered).T
        return float(np.exp(np.interp(np.log(divergence), x, y)))


def peer(bench: Bench, shared: Path, python: str, qp: int, flags: Sequence[str]) -> tuple[int, Mapping[str, Any]]:
    """Return the bytes that NNCodec makes of the network, and what it decodes them to."""
    with tempfile.TemporaryDirectory() as folder:
        stream, decoded = Path(folder, "stream.nnc"), Path(folder, "decoded.safetensors")
        tool = [python, str(shared / "tools" / "nncodec_peer.py")]
        for arguments in (["encode", bench.weights, stream, "--qp", qp, *flags], ["decode", stream, decoded]):
            subprocess.run([*tool, *map(str, arguments)], check=True, capture_output=True)
        return stream.stat().st_size, load_file(decoded)


def run(bench: Bench, label: str, qps: Sequence[int], code: Callable[[int], tuple[int, Mapping[str, Any]]]) -> Row:
    """Encode and judge at some qps, and print the row."""
    start = time.perf_counter()
    coded = [code(qp) for qp in qps]
    seconds = time.perf_counter() - start
    row = Row(label, [(size, *bench.judge(state)) for size, state in coded], seconds)
    points = "  ".join(f"{n} {kl:.4f} ({other:.4f}) {accuracy:.2f}" for n, kl, other, accuracy in row.points)
    print(f"{label:44} {seconds:5.1f} s | {points}", flush=True)
    return row


def calibrated(bench: Bench, calibration: netpress.Calibration, fold: bool, finer: int | None, **options: Any) -> Any:
    """Return a function from qp to the stream's size and its decoded state."""

    def code(qp: int) -> tuple[int, Mapping[str, Any]]:
        quantized = netpress.quantize_model(bench.module, calibration, qp=qp, **options)
        data = netpress.encode(
            bench.module,
            quantized=quantized,
            use_dq=options.get("use_dq", True),
            nonweight_qp=-75 if finer is None else qp - finer,
            fold_batch_norm=fold,
        )
        return len(data), netpress.decode(data)

    return code


def main() -> None:
    """Print all rows and what they save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--only", nargs="*", default=["*"])
    arguments = parser.parse_args()
    shared = Path(os.environ["NETPRESS_SHARED"])
    bench = Bench(shared / "corpus" / "cifar10-resnet", arguments.depth, arguments.samples)
    start = time.perf_counter()
    calibration = netpress.calibrate(bench.module, bench.calibration)
    print(f"calibration: {time.perf_counter() - start:.1f} s")

    def plain(qp: int) -> tuple[int, Mapping[str, Any]]:
        data = netpress.encode(bench.module, qp=qp)
        return len(data), netpress.decode(data)

    def of(**options: Any) -> Any:
        fold, finer = options.pop("fold", False), options.pop("finer", None)
        return calibrated(bench, calibration, fold, finer, **options)

    fine, coarse = (-22, -20, -18, -16), (-20, -18, -16, -14)
    simple = {"allocation": 0, "lambda_scale": 0}
    rows: list[tuple[str, Sequence[int], Any]] = [
        ("netpress, no data", (-27, -25, -23), plain),
        ("uniform + feedback", coarse, of(use_dq=False, **simple)),
        ("trellis + feedback", fine, of(**simple)),
        ("uniform + feedback, steps", coarse, of(use_dq=False)),
        ("trellis + feedback, steps", fine, of(lambda_scale=0)),
        ("trellis + feedback, steps, rate", fine, of()),
        ("trellis + feedback, steps, rate, rows", fine, of(row_importance=True)),
        ("steps, rate, batch norms folded", fine, of(fold=True)),
        ("steps, rate, folded, vectors 18 qps finer", fine, of(fold=True, finer=18)),
    ]
    python = os.environ.get("NETPRESS_PEER")
    if python is not None:
        rows[:0] = [
            ("NNCodec", (-28, -26, -24, -22), lambda qp: peer(bench, shared, python, qp, ())),
            ("NNCodec, opt_qp", (-34, -32, -30, -28), lambda qp: peer(bench, shared, python, qp, ["--opt-qp"])),
        ]
    wanted = [r for r in rows if any(fnmatch.fnmatch(r[0], pattern) for pattern in arguments.only)]
    done = [run(bench, *row) for row in wanted]
    rivals = [row for row in done if row.label.startswith("NNCodec")]
    print("\nbytes at a divergence of " + ", ".join(map(str, TARGETS)) + " (saved against NNCodec's best)")
    for row in done:
        cells = []
        for target in TARGETS:
            size = row.bytes_at(target)
            best = min((r.bytes_at(target) for r in rivals if r.bytes_at(target) > 0), default=float("nan"))
            cells.append(f"{size:7.0f} ({100 * (1 - size / best):5.1f} %)")
        print(f"{row.label:44} " + "  ".join(cells))


if __name__ == "__main__":
    main()
