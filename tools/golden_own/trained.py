"""Streams of recipes, calibrated streams, promised quality. Needs torch, as netpress[recipe] installs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import netpress
from golden_own.case import Case

__all__ = ["CASES"]


def _networks() -> Any:
    from golden_own import networks

    return networks


def _recipe(about: str, stages: Callable[[], list[Any]], products: tuple[str, ...] = (), **options: Any) -> Case:
    """A network after some stages; its stream is also decoded to the tensors of the original."""

    def write(folder: Path) -> dict[str, Any]:
        network = _networks().ConvNet()
        recipe = netpress.Recipe(stages(), netpress.EncodeConfig(**options))
        result = recipe.run(network, _networks().task_of(network), report_every_stage=False)
        result.save(folder / "stream.nnc")
        return {
            "kind": "stream",
            "options": recipe.config.to_dict(),
            "reconstructed": True,
            "products": list(products),
        }

    return Case(about, write)


def _calibration(network: Any, **options: Any) -> netpress.Calibration:
    batches = _networks().task_of(network).calibration_batches
    return netpress.calibrate(network, batches, outputs="values", **options)


def _calibrated(folder: Path) -> dict[str, Any]:
    network = _networks().ConvNet()
    options = {"qp": -18, "fold_batch_norm": True}
    (folder / "stream.nnc").write_bytes(netpress.encode(network, calibration=_calibration(network), **options))
    return {"kind": "stream", "options": options, "calibrated": True}


def _quantised(folder: Path) -> dict[str, Any]:
    network = _networks().Perceptron()
    quantized = netpress.quantize_model(network, _calibration(network), qp=-16, row_importance=True)
    (folder / "stream.nnc").write_bytes(netpress.encode(network, quantized=quantized, qp=-24, effort=8))
    return {"kind": "stream", "options": {"qp": -24, "effort": 8}, "calibrated": True}


def _quantised_uniformly(folder: Path) -> dict[str, Any]:
    network = _networks().Perceptron()
    quantized = netpress.quantize_model(network, _calibration(network), qp=-16, use_dq=False)
    (folder / "stream.nnc").write_bytes(netpress.encode(network, quantized=quantized, use_dq=False, effort=8))
    return {"kind": "stream", "options": {"use_dq": False, "effort": 8}, "calibrated": True}


def _quantised_update(folder: Path) -> dict[str, Any]:
    """Integers of a difference that were chosen with data."""
    old, new = _networks().Perceptron(), _networks().Perceptron()
    with _networks().torch.no_grad():
        for parameter in new.parameters():
            parameter.mul_(1.125)
    first = netpress.encode(old, qp=-28)
    held = netpress.decode(first)
    quantized = netpress.quantize_model(new, _calibration(new), qp=-18, base=held)
    (folder / "base.nnc").write_bytes(first)
    (folder / "stream.nnc").write_bytes(netpress.encode(new, base=held, quantized=quantized, qp=-28))
    return {"kind": "update", "options": {"qp": -28}, "calibrated": True}


def _promised(folder: Path) -> dict[str, Any]:
    network = _networks().ConvNet()
    result = netpress.compress(network, task=_networks().task_of(network), max_drop=0.05, budget=6)
    (folder / "stream.nnc").write_bytes(result.data)
    return {"kind": "stream", "options": {"effort": 8}, "calibrated": True}


CASES: dict[str, Case] = {
    "calibrated": Case("encode(calibration=...), with batch norms folded", _calibrated),
    "calibrated-quantised": Case("integers of quantize_model, with bits by row", _quantised),
    "calibrated-uniform": Case("integers of quantize_model without a trellis", _quantised_uniformly),
    "calibrated-update": Case("integers of quantize_model in an update", _quantised_update),
    "compressed-network": Case("a result of netpress.compress with calibration", _promised),
    "recipe-low-rank": _recipe(
        "low rank, folded batch norms, calibrated integers",
        lambda: [
            netpress.BatchNormFold(),
            netpress.LowRank(ranks={"c2": 5, "fc": 3}, method="columns"),
            netpress.Retrain(epochs=1),
            netpress.Quantize(qp=-18),
        ],
        ("c2.weight", "fc.weight"),
        qp=-24,
    ),
    "recipe-tucker": _recipe(
        "a convolution of three layers, a transposed one of two",
        lambda: [netpress.LowRank(ranks={"c2": 5, "t": 4}, method="tucker")],
        ("c2.weight", "t.weight"),
        qp=-26,
    ),
    "recipe-cluster": _recipe(
        "codebooks, refined with data", lambda: [netpress.Cluster(bits=3, rate=0.5, refine_epochs=1)], effort=8
    ),
    "recipe-cluster-low-rank": _recipe(
        "codebooks of factors",
        lambda: [netpress.LowRank(kept=0.7, method="rows"), netpress.Cluster(bits=4, smallest=16)],
        ("c1.weight", "c2.weight", "t.weight", "fc.weight"),
        qp=-24,
    ),
    "recipe-prune": _recipe(
        "channels removed, which come back as zeros",
        lambda: [netpress.Prune(share=0.3, scope="layer", keep=("fc",)), netpress.BatchNormFold()],
        qp=-24,
    ),
    "recipe-sparse": _recipe(
        "zeros, unified blocks, and maps of what more of it would cost",
        lambda: [
            netpress.Sparsify(share=0.5),
            netpress.Unify(share=0.4, block=(1, 3)),
            netpress.PerformanceMaps(
                sparsification=(0.01, 0.1), pruning=(0.1, 0.25), unification=(0.5,), decomposition=(1e-3,)
            ),
        ],
        qp=-22,
    ),
    "recipe-scaled": _recipe(
        "factors of rows, also of a transposed convolution",
        lambda: [netpress.LocalScaling(epochs=1)],
        qp=-18,
    ),
    "recipe-scaled-folded": _recipe(
        "factors of rows within folded batch norms, after steps by the metric",
        lambda: [
            netpress.BatchNormFold(),
            netpress.InferenceOptimisedQp(offsets=(-2, 2)),
            netpress.LocalScaling(method="fit"),
        ],
        qp=-18,
    ),
}
