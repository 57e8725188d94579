"""Which vectors the conformance tests run on."""

import hashlib

import pytest
from vectors import FULL_SET_SIZE, GOLDEN, HAS_FULL_SET, NAMES, SHARED, vector


@pytest.mark.skipif(
    not HAS_FULL_SET,
    reason=f"only the {len(NAMES)} golden vectors run: the full set is not in {SHARED.name}/ (set NETPRESS_SHARED)",
)
def test_full_set_is_complete() -> None:
    assert len(list((SHARED / "conformance").glob("*/stream.nnc"))) == FULL_SET_SIZE == len(NAMES)


def test_golden_subset_covers_every_tool() -> None:
    golden = {path.parent.name for path in GOLDEN.glob("*/meta.json")}
    covered = {tool for name in golden for tool in vector(name).meta["covers"]}
    assert {"dq", "urq", "scan_order", "row skipping", "codebook", "int_quant_bw", "opt_qp", "qp_per_tensor"} <= covered
    assert {"TCA", "HDSP", "NNR_PT_BLOCK", "NNR_PT_RAW_FLOAT", "decomposition _G/_H", "int32 lossless"} <= covered
    assert {"first edition (NNCodec 1.0)", "general_profile_idc 0", "general_profile_idc 1", "lambda_scale"} <= covered
    assert {"bnf", "lsa", "BN", "BI", "LS", "topology unit", "tensor_dimensions_flag 0", "sparsity"} <= covered


@pytest.mark.parametrize("name", NAMES)
def test_files_are_what_the_description_says(name: str) -> None:
    v = vector(name)
    assert len(v.stream) == v.meta["stream_bytes"]
    assert hashlib.sha256(v.stream).hexdigest() == v.meta["stream_sha256"]
    assert all(earlier.name in NAMES for earlier in v.earlier)
