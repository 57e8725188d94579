"""What a stream spends on each tensor, and what that did to the values."""

from __future__ import annotations

import numpy as np

import netpress
from netpress.evaluate.judge import State
from netpress.evaluate.results import TensorDetail

__all__ = ["tensor_details"]

_HISTOGRAM_BINS = 40


def tensor_details(stream: bytes, before: State, after: State) -> tuple[TensorDetail, ...]:
    """Return the tensors of a stream in its order, with histograms of those that the network has.

    Args:
        stream: made by netpress.
        before: tensors of the float network by name.
        after: those of the decoded one.
    """
    details = []
    for info in netpress.Stream(stream).info().tensors:
        size = info.payload_bytes + info.header_bytes
        old, new = before.get(info.name), after.get(info.name)
        edges: tuple[float, ...] = ()
        counts: list[tuple[int, ...]] = [(), ()]
        if old is not None and new is not None and old.dtype.kind == "f" and old.size > 1:
            low, high = float(min(old.min(), new.min())), float(max(old.max(), new.max()))
            if low < high:
                bounds = np.linspace(low, high, _HISTOGRAM_BINS + 1)
                counts = [tuple(np.histogram(values, bounds)[0].tolist()) for values in (old, new)]
                edges = tuple(bounds.tolist())
        details.append(
            TensorDetail(
                name=info.name,
                shape=tuple(info.shape),
                size=size,
                edges=edges,
                before=counts[0],
                after=counts[1],
            )
        )
    return tuple(details)
