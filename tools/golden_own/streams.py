"""Streams of whole models, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import own_models as models

import netpress
from golden_own.case import Case, stream_case
from netpress import Block

__all__ = ["CASES"]

LAYER = {
    "weight": "fc.weight",
    "scaling": "fc.weight_scaling",
    "bias": "fc.bias",
    "bn_beta": "bn.bias",
    "bn_gamma": "bn.weight",
    "bn_mean": "bn.running_mean",
    "bn_var": "bn.running_var",
}
SCALED = Block("fc.weight", scaling="fc.weight_scaling", bias="fc.bias")
FACTORS = Block("fc.weight", scaling="fc.weight_scaling", bias="fc.bias", dimensions=(24, 30))


def _reconstructed(case: Case, products: list[str]) -> Case:
    """The same case, which is also decoded to the tensors of the original network."""

    def write(folder: Path) -> dict[str, Any]:
        return {**case.write(folder), "reconstructed": True, "products": products}

    return Case(case.about, write)


def _with_checksums(folder: Path) -> dict[str, Any]:
    netpress.save(models.network(), folder / "stream.nnc", qp=-24)
    return {"kind": "stream", "options": {"qp": -24, "checksums": True}}


def _given_quantised(folder: Path) -> dict[str, Any]:
    """Integers of the user's: one tensor for each way to code them."""
    model = models.network()
    levels = models.integers((16, 24), 5, -9, 10).astype(np.int32)
    few = models.integers((8, 4, 3, 3), 6, -1, 2).astype(np.int32)
    quantized = {
        "fc.weight": netpress.QuantizedTensor(4 * levels, -26, dependent=True),
        "conv.weight": netpress.QuantizedTensor(7 * few, -22, codebook=True),
        "bn.bias": netpress.QuantizedTensor(levels[0, :8].copy(), -30),
    }
    (folder / "stream.nnc").write_bytes(netpress.encode(model, quantized=quantized, qp=-28))
    return {"kind": "stream", "options": {"qp": -28}}


def _compressed(folder: Path) -> dict[str, Any]:
    model = models.network()

    def error(found: dict[str, np.ndarray[Any, Any]]) -> float:
        return float(np.square(found["fc.weight"] - model["fc.weight"]).mean())

    result = netpress.compress(model, evaluate=error, max_drop=1e-4, direction="min", budget=6)
    (folder / "stream.nnc").write_bytes(result.data)
    return {"kind": "stream", "options": {"effort": 8}}


CASES: dict[str, Case] = {}
for _effort in range(1, 10):
    CASES[f"effort{_effort}"] = stream_case("default steps", models.network, effort=_effort)
    CASES[f"effort{_effort}-qp"] = stream_case("a given step", models.network, effort=_effort, qp=-24)
    CASES[f"effort{_effort}-few"] = stream_case(
        "few values: a codebook where it pays", models.few_values, effort=_effort, use_dq=_effort % 2 == 1
    )
for _order in range(1, 5):
    CASES[f"scan{_order}"] = stream_case(
        "blocks of values, with entry points", models.blocks_of_all_sizes, qp=-20, scan_order=_order
    )
CASES |= {
    "qp-20": stream_case("a coarse step", models.network, qp=-20),
    "qp-30": stream_case("a fine step", models.network, qp=-30),
    "qp-8": stream_case("a very coarse step: most weights are zero", models.network, qp=-8),
    "qp-nonweight": stream_case("a step for all that is no weight", models.network, qp=-20, nonweight_qp=-36),
    "nonweight-only": stream_case("default steps, but for what is no weight", models.network, nonweight_qp=-40),
    "qp-per-tensor": stream_case(
        "steps by name", models.network, qp=-20, qp_per_tensor={"fc.weight": -28, "bn.bias": -40}
    ),
    "qp-optimised": stream_case("coarser steps for large weights", models.network, qp=-26, optimize_qp=True),
    "base-qp": stream_case(
        "all steps relative to another one", models.network, qp=-150, nonweight_qp=-170, base_qp=-100
    ),
    "density0": stream_case("one step an octave", models.network, qp=-5, qp_density=0),
    "density1": stream_case("two steps an octave", models.network, qp=-11, qp_density=1),
    "density3": stream_case("eight steps an octave", models.network, qp=-44, qp_density=3),
    "density7": stream_case("128 steps an octave", models.network, qp=-700, qp_density=7),
    "density4-default": stream_case("sixteen steps an octave, default steps", models.network, qp_density=4),
    "uniform": stream_case("no trellis, default steps", models.network, use_dq=False),
    "uniform-qp": stream_case("no trellis, a given step", models.network, use_dq=False, qp=-24),
    "uniform-rate": stream_case("no trellis, rate counts", models.network, use_dq=False, qp=-20, lambda_scale=0.5),
    "no-error-feedback": stream_case("every error on its own", models.network, error_feedback=False),
    "quality-small": stream_case("the coarse end of the ladder", models.network, quality="small"),
    "quality-high": stream_case("the fine end of the ladder", models.network, quality="high"),
    "trellis-no-rate": stream_case("a trellis in which rate does not count", models.network, qp=-20, lambda_scale=0.0),
    "trellis-much-rate": stream_case("a trellis in which rate counts much", models.network, qp=-20, lambda_scale=3.0),
    "codebook": stream_case("codebooks for all weights", models.network, qp=-18, use_dq=False, codebook_mode=1),
    "codebook-few": stream_case("codebooks of few values", models.few_values, use_dq=False, codebook_mode=1),
    "codebook-none": stream_case("no codebook where one would pay", models.few_values, effort=9, codebook_mode=0),
    "no-parameter-search": stream_case(
        "default parameters of all contexts", models.network, qp=-24, context_search=False
    ),
    "parameter-search": stream_case("searched parameters at effort 1", models.network, effort=1, context_search=True),
    "unary1": stream_case("one unary flag", models.network, qp=-24, unary_length=1),
    "unary256": stream_case("256 unary flags", models.network, qp=-40, unary_length=256),
    "scan2-codebook": stream_case(
        "blocks of values and codebooks",
        models.blocks_of_all_sizes,
        qp=-16,
        scan_order=2,
        codebook_mode=1,
        use_dq=False,
    ),
    "rows": stream_case("rows of zeros, skipped where that pays", models.rows, qp=-20),
    "rows-skipped": stream_case("rows of zeros, skipped", models.rows, effort=1, row_skipping=True),
    "rows-scan1": stream_case("rows of zeros in blocks", models.rows, qp=-20, row_skipping=True, scan_order=1),
    "rows-not-skipped": stream_case("rows of zeros, coded", models.rows, qp=-20, row_skipping=False),
    "bits4": stream_case("integers of 4 bits", models.network, bit_depth=4),
    "bits8": stream_case("integers of 8 bits", models.network, bit_depth=8),
    "sparse": stream_case("weights set to zero", models.network, qp=-22, sparsity=0.6),
    "sparse-rows": stream_case("rows set to zero", models.network, qp=-22, sparsity=0.5, row_threshold=0.9),
    "by-size": stream_case("steps by the size of tensors", models.network, qp=-20, allocation="size"),
    "by-size-nonweight": stream_case(
        "steps by size, and one for all else", models.network, qp=-20, allocation="size", nonweight_qp=-40
    ),
    "folded": stream_case("a batch norm folded", models.network, qp=-26, fold_batch_norm=True, batch_norm_epsilon=1e-3),
    "folded-default": stream_case(
        "a batch norm folded, default steps", models.network, fold_batch_norm=True, batch_norm_epsilon=1e-5
    ),
    "block": stream_case("a layer in one data unit", models.layer, qp=-24, blocks=(Block(**LAYER),)),
    "block-folded": _reconstructed(
        stream_case(
            "a layer in one data unit, with its batch norm folded",
            models.layer,
            qp=-24,
            blocks=(Block(**LAYER, epsilon=1e-3),),
            fold_batch_norm=True,
        ),
        [],
    ),
    "scaled": _reconstructed(stream_case("a local scaling", models.layer, qp=-24, blocks=(SCALED,)), []),
    "decomposed": _reconstructed(
        stream_case("a weight of two factors", models.factors, qp=-24, blocks=(FACTORS,)), ["fc.weight"]
    ),
    "raw": stream_case("floats as they are", models.network, qp=-20, raw_float=("fc.weight", "bn.running_var")),
    "profile0": stream_case("the first edition, as NNCodec 1.0 reads it", models.network, qp=-24, profile=0),
    "profile0-variant2": stream_case(
        "the first edition, as NNCodec 2 reads it", models.network, qp=-24, profile=0, payload_variant="2"
    ),
    "profile0-codebook": stream_case(
        "the first edition with codebooks and blocks of values",
        models.few_values,
        use_dq=False,
        profile=0,
        codebook_mode=1,
        scan_order=1,
    ),
    "profile0-block": stream_case(
        "the first edition with a layer in one data unit", models.layer, qp=-24, profile=0, blocks=(Block(**LAYER),)
    ),
    "all-types": stream_case("every type", models.all_types),
    "all-types-qp": stream_case("every type at a given step", models.all_types, qp=-20, effort=9),
    "odd-shapes": stream_case("scalars, empty tensors, six dimensions", models.odd_shapes),
    "odd-names": stream_case("names that the syntax cannot hold", models.odd_names, qp=-20),
    "extremes": stream_case("very large and very small values", models.extremes),
    "single-values": stream_case("a matrix and a single value", models.vectors),
    "no-record": stream_case("no topology unit", models.few_values, topology_storage_format=None),
    "topology4": stream_case("another code of the topology unit", models.all_types, topology_storage_format=4),
    "pre-signalled": stream_case("the flag for pre-signalling", models.network, qp=-24, pre_signalling=True),
    "checksums": Case("a file of netpress.save, which ends with checksums", _with_checksums),
    "quantised-before": Case("integers that were chosen outside of the encoder", _given_quantised),
    "compressed": Case("a result of netpress.compress", _compressed),
}
for _name, _options in {
    "": {},
    "-qp": {"qp": -20},
    "-uniform": {"qp": -24, "use_dq": False},
    "-codebook": {"qp": -20, "use_dq": False, "codebook_mode": 1},
    "-rate": {"qp": -20, "lambda_scale": 0.5},
    "-optimised": {"qp": -20, "opt_qp": True, "nonweight_qp": None},
    "-bits": {"int_quant_bw": 6, "use_dq": False},
    "-profile0": {"qp": -24, "general_profile_idc": 0},
}.items():
    CASES[f"reference{_name}"] = stream_case(
        "the reference preset",
        lambda: {name: value for name, value in models.network().items() if value.ndim},
        **netpress.EncodeConfig.reference(**_options).to_dict(),
    )
