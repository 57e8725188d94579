"""
Entropy coder and quantisers of netpress. Private: use the netpress package.
"""

import enum
from typing import Annotated

import numpy
from numpy.typing import NDArray

class Status(enum.Enum):
    """Why a coder or quantiser failed."""

    OK = 0

    TRUNCATED = 1

    BAD_START = 2

    BAD_TERMINATION = 3

    VALUE_OUT_OF_RANGE = 4

    RESERVED_FLAG = 5

    INDEX_OUT_OF_RANGE = 6

    BAD_PARAMETER = 7

    LEVEL_OUT_OF_RANGE = 8

class Failure(ValueError):
    pass

class Search(enum.Enum):
    """How an encoder chooses the parameter sets of the contexts."""

    OFF = 0
    """Set 0 for all."""

    REFERENCE = 1
    """As NNCodec does."""

    BEST = 2
    """By the bins that are coded and the price of signalling."""

class TensorCoding:
    """How the integers of a tensor are coded; immutable."""

    def __init__(
        self,
        rows: int = 0,
        columns: int = 0,
        *,
        scan_order: int = 0,
        second_edition: bool = True,
        first_edition_1_0: bool = False,
        dependent: bool = False,
        unary_length: int = 11,
        has_parent: bool = False,
        skip_rows: bool = False,
        use_history: bool = False,
        history: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order="C", device="cpu", writable=False)]
        | None = None,
        base: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)]
        | None = None,
        codebook_size: int = 0,
        codebook_zero_offset: int = 0,
    ) -> None:
        """
        `unary_length` is cabac_unary_length_minus1 + 1. `skip_rows` and `use_history` are for the encoder.
        """

    def for_tensor(
        self,
        rows: int,
        columns: int,
        history: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order="C", device="cpu", writable=False)]
        | None = None,
        base: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)]
        | None = None,
        codebook_size: int = 0,
        codebook_zero_offset: int = 0,
    ) -> TensorCoding:
        """
        The same settings for a tensor of this size, with arrays and codebook of its own.
        """

    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> int: ...
    @property
    def scan_order(self) -> int: ...
    @property
    def second_edition(self) -> bool: ...
    @property
    def first_edition_1_0(self) -> bool: ...
    @property
    def dependent(self) -> bool: ...
    @property
    def unary_length(self) -> int: ...
    @property
    def has_parent(self) -> bool: ...
    @property
    def skip_rows(self) -> bool: ...
    @property
    def use_history(self) -> bool: ...
    @property
    def codebook_size(self) -> int: ...
    @property
    def codebook_zero_offset(self) -> int: ...

class PayloadEncoder:
    """Codes tensors of integers into one arithmetic codeword."""

    def __init__(self) -> None: ...
    def field(self, value: int, bits: int) -> None:
        """Codes a signed field of `bits` bypass bins."""

    def tensor(
        self,
        levels: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        coding: TensorCoding,
        search: Search = Search.BEST,
    ) -> None:
        """Codes a tensor."""

    def finish(self) -> tuple[bytes, list[list[tuple[int, int, int]]]]:
        """
        Closes the codeword: (payload, entry points (distance in bits, value, state) per tensor).
        """

class PayloadDecoder:
    """Decodes tensors of integers from one arithmetic codeword."""

    def __init__(
        self, data: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order="C", device="cpu", writable=False)]
    ) -> None: ...
    def field(self, bits: int) -> int:
        """Decodes a signed field of `bits` bypass bins."""

    def tensor(
        self,
        levels: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu")],
        coding: TensorCoding,
    ) -> tuple[bool, bool, list[tuple[int, int, int]]]:
        """
        Fills `levels`; returns (history used, rows skipped, entry points as observed).
        """

    def finish(self) -> None:
        """Checks that the codeword ends where the payload does."""

class BatchDecoder:
    """Decodes payloads that do not depend on each other, several at a time."""

    def __init__(self) -> None: ...
    def begin(
        self, data: Annotated[NDArray[numpy.uint8], dict(shape=(None,), order="C", device="cpu", writable=False)]
    ) -> None:
        """Begins a payload; add() says what is in it."""

    def add(
        self,
        levels: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu")],
        coding: TensorCoding,
        field_bits: int,
        dequantizes: bool,
        base_qp: int,
        qp_density: int,
    ) -> None:
        """
        Adds a tensor, with a field before it unless `field_bits` is 0. With `dequantizes` its levels become float32 in their place, with the step of field + base_qp.
        """

    def run(self) -> None:
        """
        Decodes until nothing is left to begin with; to be called once by each thread that takes part.
        """

    def results(self) -> list[tuple[str, Status] | list[tuple[int, bool, bool, list[tuple[int, int, int]]]]]:
        """
        For each payload a list of (field, history used, rows skipped, entry points) for each tensor, or message and status of its failure.
        """

def quantize_uniform(
    weights: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    levels: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu")],
    rows: int,
    columns: int,
    qp: int,
    *,
    scan_order: int = 0,
    qp_density: int = 2,
    lambda_scale: float = 0.0,
    unary_length: int = 11,
) -> int:
    """Independent quantisation; fills `levels`, returns the qp used."""

def quantize_trellis(
    weights: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    levels: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu")],
    rows: int,
    columns: int,
    qp: int,
    *,
    scan_order: int = 0,
    qp_density: int = 2,
    lambda_scale: float = 0.0,
    unary_length: int = 11,
) -> int:
    """Dependent quantisation; fills `levels`, returns the qp used."""

def quantize_rd(
    weights: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    levels: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu")],
    rows: int,
    columns: int,
    qp: int,
    *,
    scan_order: int = 0,
    qp_density: int = 2,
    lambda_scale: float = 1.0,
    unary_length: int = 11,
    passes: int = 1,
) -> int:
    """
    Dependent quantisation with the rate of the bins that will be coded; fills `levels`, returns the qp used.
    """

def rate_price(
    weights: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    levels: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    step: float,
    lambda_scale: float,
) -> float:
    """
    Price of a bit in squared steps for a search that follows the one without rate; 0 where rates do not count.
    """

def dequantize_uniform(
    levels: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    values: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu")],
    step: float,
) -> None:
    """values = f32(level) * f32(step); may share the memory of `levels`."""

def dequantize_codebook(
    indexes: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    values: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu")],
    codebook: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    zero_offset: int,
    step: float,
) -> None:
    """
    values = f32(codebook[index + zero_offset] * step); may share the memory of `indexes`.
    """

def codebook_zero_offset(
    indexes: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    rows: int,
    columns: int,
    codebook_size: int,
    unary_length: int,
    first_edition_1_0: bool = False,
) -> int:
    """
    Zero offset with the shortest profile-0 payload of index - offset, as NNCodec measures it for a coding with `unary_length`; the smallest of equals.
    """

class FrozenRates:
    """What integers cost, by the statistics of levels; immutable."""

    @staticmethod
    def of_levels(
        levels: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        *,
        dependent: bool,
        unary_length: int = 11,
        lambda_: float = 1.0,
    ) -> FrozenRates:
        """The rates that levels in scan order give, in bits times lambda."""

    @property
    def zero(self) -> Annotated[NDArray[numpy.float32], dict(shape=(None, None), writable=False)]:
        """
        Of a zero, by class of the neighbour (zero, negative, positive) and state.
        """

    @property
    def nonzero(self) -> Annotated[NDArray[numpy.float32], dict(shape=(None, None, None), writable=False)]:
        """
        Of significance and sign, by sign (negative last), class of the neighbour and state.
        """

    @property
    def magnitude(self) -> Annotated[NDArray[numpy.float32], dict(shape=(None, None), writable=False)]:
        """
        Of a magnitude, by sign and magnitude; larger ones cost as much as the last.
        """

def quantize_feedback(
    weights: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    levels: Annotated[NDArray[numpy.int32], dict(shape=(None,), order="C", device="cpu")],
    rows: int,
    columns: int,
    *,
    influence: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    importance: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    row_importance: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    groups: int,
    block: int,
    step: float,
    dependent: bool,
    rates: FrozenRates | None = None,
    targets: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)]
    | None = None,
    start_state: int = 0,
    end_state: int = -1,
    scalar: bool = False,
    row_influence: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)]
    | None = None,
    row_block: int = 0,
    mean: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)] | None = None,
    carry: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)]
    | None = None,
) -> int:
    """
    Quantisation with error feedback; fills `levels`, returns the state of the trellis after the last one.
    """
