"""How much errors of the rows of a weight matter jointly: second moments of gradients, row by row.

Source: docs/notes/calibrated-quantisation.md. The divergence as a form of two factors: Martens and Grosse, Optimizing
neural networks with Kronecker-factored approximate curvature (2015).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from netpress.calibration.statistics import COLUMNS, LayerStatistics

__all__ = ["RowMoments", "split_batch"]

Tensor = Any

_DAMPING = 0.01
_FEWEST_COLUMNS = 8


class RowMoments:
    """Sums of ``g W g^T`` over gradients ``g`` of a weight, with ``W`` the inverse of the moments of its inputs.

    If the divergence is a form of the moments of the inputs and a matrix of the rows, the mean of that is the matrix.
    Without the inverse it would be too, but with few directions of the inputs deciding, and so much noisier.

    Args:
        blocks: width of the blocks of rows of which moments are kept, by name of the weight.
    """

    def __init__(self, blocks: Mapping[str, int]) -> None:
        self._blocks = dict(blocks)
        self._roots: dict[str, list[Any]] = {}
        self._sums: dict[str, Any] = {}

    def see_inputs(self, statistics: Mapping[str, LayerStatistics], device: Any) -> None:
        """Take the moments of the inputs so far; weights that are not among them, or have groups, are left out."""
        import torch

        for name, layer in statistics.items():
            groups, inputs, block = layer.moments.shape
            if layer.layout != COLUMNS or groups != 1 or inputs < _FEWEST_COLUMNS or name not in self._blocks:
                continue
            moments = torch.from_numpy(layer.moments[0]).to(device, torch.float32)
            added = _DAMPING * float(moments[range(inputs), [i % block for i in range(inputs)]].mean())
            if not added > 0:
                continue
            roots = []
            for start in range(0, inputs, block):
                width = min(block, inputs - start)
                part = moments[start : start + width, :width] + added * torch.eye(width, device=device)
                # Moments in single precision may have lost their positive definiteness beyond the damping.
                root, failed = torch.linalg.cholesky_ex(part)
                roots.append(torch.eye(width, device=device) * part.diagonal().sqrt() if failed else root)
            self._roots[name] = roots

    def add(self, name: str, gradient: Tensor) -> None:
        """Add the gradient of a weight, first dimension rows."""
        import torch

        if name not in self._roots:
            return
        flat = gradient.detach().to(torch.float32).flatten(1)
        start = 0
        parts = []
        for root in self._roots[name]:
            part = flat[:, start : start + len(root)]
            parts.append(torch.linalg.solve_triangular(root, part.T, upper=False).T)
            start += len(root)
        white = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        block = self._blocks[name]
        if name not in self._sums:
            self._sums[name] = white.new_zeros((len(white), min(block, len(white))))
        for first in range(0, len(white), block):
            rows = white[first : first + block]
            self._sums[name][first : first + block, : len(rows)] += rows @ rows.T

    def moments(self, name: str) -> npt.NDArray[np.float32] | None:
        """Return the moments of a weight's rows, shape (rows, block), of mean diagonal 1; None if there are none."""
        if name not in self._sums:
            return None
        sums: npt.NDArray[np.float32] = self._sums[name].cpu().numpy()
        index = np.arange(len(sums))
        mean = float(sums[index, index % sums.shape[1]].mean(dtype=np.float64))
        return (sums / np.float32(mean)) if np.isfinite(mean) and mean > 0 else None


def split_batch(batch: Any, samples: int, size: int) -> Iterator[Any]:
    """Yield a batch in parts of at most ``size`` samples: all tensors whose first dimension counts the samples."""

    def part(value: Any, first: int) -> Any:
        if isinstance(value, Mapping):
            return {key: part(member, first) for key, member in value.items()}
        if type(value) in (tuple, list):
            return type(value)(part(member, first) for member in value)
        counts = getattr(value, "ndim", 0) > 0 and len(value) == samples
        return value[first : first + size] if counts else value

    for first in range(0, samples, size):
        yield part(batch, first)
