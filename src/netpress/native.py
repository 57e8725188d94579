"""The compiled core. No other module imports the extension."""

from netpress._core import (
    RATE_COUNT,
    BatchDecoder,
    Failure,
    PayloadDecoder,
    PayloadEncoder,
    codebook_zero_offset,
    dequantize_codebook,
    dequantize_uniform,
    fill_rates,
    quantize_feedback,
    quantize_rd,
    quantize_trellis,
    quantize_uniform,
)

__all__ = [
    "RATE_COUNT",
    "BatchDecoder",
    "Failure",
    "PayloadDecoder",
    "PayloadEncoder",
    "codebook_zero_offset",
    "dequantize_codebook",
    "dequantize_uniform",
    "fill_rates",
    "quantize_feedback",
    "quantize_rd",
    "quantize_trellis",
    "quantize_uniform",
]
