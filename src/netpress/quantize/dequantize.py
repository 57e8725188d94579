"""Integer levels to real weights, for one tensor: all of quantisation that a decoder needs.

Source: ISO/IEC 15938-17, dequantisation of tensors.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from netpress.bitstream import Codebook
from netpress.errors import InvalidModel
from netpress.native import dequantize_codebook, dequantize_uniform, failing_as
from netpress.quantize.step_size import step_size

__all__ = ["dequantize"]


def dequantize(
    levels: npt.NDArray[np.int32], *, qp: int, qp_density: int, codebook: Codebook | None = None
) -> npt.NDArray[np.float32]:
    """Return float32 values in place of the levels, whose memory is reused.

    Args:
        levels: C-contiguous int32, any shape; for a codebook: index less zero offset. Not to be used afterwards.
        qp: quantisation parameter, with the base qp.
        qp_density: 0..7.
        codebook: the codebook of the tensor.

    Raises:
        InvalidModel: an index lies outside the codebook.
    """
    values = levels.view(np.float32)
    step = step_size(qp, qp_density)
    if codebook is None:
        with np.errstate(over="ignore", under="ignore"):
            dequantize_uniform(levels.reshape(-1), values.reshape(-1), float(np.float32(step)))
        return values
    with failing_as(lambda message, reason: InvalidModel(message, reason=reason)):
        entries = np.array(codebook.values, np.int32)
        dequantize_codebook(levels.reshape(-1), values.reshape(-1), entries, codebook.zero_offset, step)
    return values
