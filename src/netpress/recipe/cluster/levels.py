"""Clusters as the standard can carry them: centres that are integers times a step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from netpress.bitstream import Codebook
from netpress.errors import InvalidConfig, InvalidModel
from netpress.quantize.codebook import codebook_header_bits
from netpress.quantize.dequantize import dequantize
from netpress.quantize.step_size import qp_for_step, qp_range, step_size
from netpress.quantize.tensor import QuantizedTensor
from netpress.recipe.cluster.lloyd import Clusters

__all__ = ["to_quantized"]

_EXACT = 2.0**-16
"""Error of a tensor without any, as a share of its largest value: what counts as lost where nothing was lost before."""


def to_quantized(
    clusters: Clusters,
    *,
    qp_density: int = 2,
    tolerance: float = 0.01,
    codebook: bool | None = True,
    name: str | None = None,
) -> QuantizedTensor:
    """Round the centres of clusters to multiples of a step.

    A coarse step makes the codebook's header short, a fine one changes the centres little. Among all steps that keep
    the tolerance, the one with the shortest header is taken, and the finer one of equals.

    Args:
        clusters: a clustered tensor.
        qp_density: that of the encoder, 0..7.
        tolerance: above 0; the rounding of the centres may add this share of the clusters' own squared error (where
            they have none: of the error of 2**-16 of the largest value in each weight).
        codebook: see :class:`QuantizedTensor`.
        name: name of the tensor, for errors.

    Returns:
        Integers of the shape of the tensor, different ones for different centres, unless these lie closer together
        than the finest step that can be coded.

    Raises:
        InvalidModel: the centres are too large or too small for any step.
        InvalidConfig: an option is out of range.

    Source: codebook() of the standard; the search for a step is the encoder's own affair.
    """
    if not 0 < tolerance < np.inf:
        raise InvalidConfig(f"the tolerance must be above 0, not {tolerance}")
    centres = clusters.centres.astype(np.float64)
    counts = clusters.counts()
    largest = float(np.abs(centres).max())
    if largest == 0:
        return QuantizedTensor(np.zeros(clusters.indexes.shape, np.int32), 0, codebook=codebook)
    noise = max(clusters.squared_error, (largest * _EXACT) ** 2 * clusters.indexes.size)
    cheapest = None
    for qp in _candidate_qps(tolerance * noise / clusters.indexes.size, qp_density):
        scaled = np.rint(centres / step_size(qp, qp_density))
        if np.abs(scaled).max() >= 2**31:
            continue
        decoded = dequantize(scaled.astype(np.int32), qp=qp, qp_density=qp_density).astype(np.float64)
        error = float(np.sum(counts * (decoded - centres) ** 2))
        if error > tolerance * noise or _could_be_distinct(scaled, qp, largest, qp_density):
            continue
        bits = _header_bits(scaled, counts)
        if cheapest is None or bits <= cheapest[0]:
            cheapest = bits, qp, scaled
        elif bits > cheapest[0] + 2 * len(centres):  # finer steps only add bits
            break
    if cheapest is None:
        raise InvalidModel(f"no step of qp density {qp_density} fits centres up to {largest:g}", tensor=name)
    _, qp, scaled = cheapest
    levels = scaled.astype(np.int32)[clusters.indexes]
    return QuantizedTensor(np.ascontiguousarray(levels), qp, codebook=codebook)


def _candidate_qps(squared_error: float, qp_density: int) -> range:
    """Return qps from coarse to fine, from far too coarse for an error in each weight to the finest of all."""
    low, high = qp_range(qp_density)
    # A step d rounds with an error of d * d / 12; few centres may be luckier than that by a wide margin.
    step = min(64 * float(np.sqrt(12 * squared_error)), step_size(high, qp_density))
    first = int(qp_for_step(step, qp_density)) if step > step_size(low, qp_density) else low
    return range(min(first, high), low - 1, -1)


def _could_be_distinct(scaled: npt.NDArray[np.float64], qp: int, largest: float, qp_density: int) -> bool:
    """Whether centres share an integer at this qp, although a finer one could tell them apart."""
    if np.all(np.diff(scaled) > 0):
        return False
    low, _ = qp_range(qp_density)
    return qp > low and largest / step_size(qp - 1, qp_density) < 2**31 - 1


def _header_bits(scaled: npt.NDArray[np.float64], counts: npt.NDArray[np.int64]) -> int:
    """Return the bits of the codebook with these entries."""
    values, first = np.unique(scaled.astype(np.int64), return_index=True)
    members = np.add.reduceat(counts, first)
    at_zero = np.flatnonzero(values == 0)
    zero = int(at_zero[0]) if at_zero.size else int(np.argmax(members))
    return codebook_header_bits(Codebook.cheapest([int(v) for v in values], zero))
