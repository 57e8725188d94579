"""The compiled core. No other module imports the extension.

A coder or quantiser that cannot go on raises ``Failure``, out of which :class:`failing_as` makes an error of netpress
with a :class:`~netpress.errors.Reason`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from netpress._core import (
    BatchDecoder,
    Failure,
    FrozenRates,
    PayloadDecoder,
    PayloadEncoder,
    Search,
    Status,
    TensorCoding,
    codebook_zero_offset,
    dequantize_codebook,
    dequantize_uniform,
    quantize_feedback,
    quantize_rd,
    quantize_trellis,
    quantize_uniform,
    rate_price,
)
from netpress.errors import NetpressError, Reason

__all__ = [
    "BatchDecoder",
    "Failure",
    "FrozenRates",
    "PayloadDecoder",
    "PayloadEncoder",
    "Search",
    "Status",
    "TensorCoding",
    "codebook_zero_offset",
    "dequantize_codebook",
    "dequantize_uniform",
    "failing_as",
    "flat",
    "matrix_shape",
    "quantize_feedback",
    "quantize_rd",
    "quantize_trellis",
    "quantize_uniform",
    "rate_price",
    "reason_of",
]

Value = TypeVar("Value", bound=np.generic)


class failing_as:
    """A context in which failures of the core become errors of netpress.

    Args:
        error: makes the error from the message of the core and the reason.
    """

    __slots__ = ("_error",)

    def __init__(self, error: Callable[[str, Reason], NetpressError]) -> None:
        self._error = error

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Failure):
            message, status = error.args
            raise self._error(message, reason_of(status)) from None


def reason_of(status: Status) -> Reason:
    """Return what users are told for a status of the core, which is not OK."""
    return Reason[status.name]


def matrix_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Return rows and row length of a tensor: the first dimension, and the product of the others.

    Source: tensor geometry of the entropy coder.
    """
    if len(shape) < 2:
        return math.prod(shape), 1
    return shape[0], math.prod(shape[1:])


def flat(array: npt.NDArray[Value]) -> npt.NDArray[Value]:
    """Return a vector as the core takes it, contiguous and aligned; a copy only where the array is not.

    Arrays that come from another process can begin at any address.
    """
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        array = np.require(array, requirements=["C", "A"])
    return array.reshape(-1)
