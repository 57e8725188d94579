import numpy as np
import numpy.typing as npt

_Points = list[tuple[int, int, int]]
_Levels = npt.NDArray[np.int32]

class Failure(ValueError): ...

class PayloadEncoder:
    def __init__(self) -> None: ...
    def field(self, value: int, bits: int) -> None: ...
    def tensor(
        self,
        levels: _Levels,
        rows: int,
        columns: int,
        *,
        scan_order: int = 0,
        second_edition: bool = True,
        first_edition_1_0: bool = False,
        dependent: bool = False,
        unary_length: int = 11,
        has_parent: bool = False,
        skip_rows: bool = False,
        use_history: bool = False,
        history: npt.NDArray[np.uint8] | None = None,
        base: _Levels | None = None,
        codebook_size: int = 0,
        codebook_zero_offset: int = 0,
        search: int = 2,
    ) -> None: ...
    def finish(self) -> tuple[bytes, list[_Points]]: ...

class PayloadDecoder:
    def __init__(self, data: npt.NDArray[np.uint8]) -> None: ...
    def field(self, bits: int) -> int: ...
    def tensor(
        self,
        levels: _Levels,
        rows: int,
        columns: int,
        *,
        scan_order: int = 0,
        second_edition: bool = True,
        first_edition_1_0: bool = False,
        dependent: bool = False,
        unary_length: int = 11,
        has_parent: bool = False,
        history: npt.NDArray[np.uint8] | None = None,
        base: _Levels | None = None,
        codebook_size: int = 0,
        codebook_zero_offset: int = 0,
    ) -> tuple[bool, bool, _Points]: ...
    def finish(self) -> None: ...

class BatchDecoder:
    def __init__(self) -> None: ...
    def begin(self, data: npt.NDArray[np.uint8]) -> None: ...
    def add(
        self,
        levels: _Levels,
        rows: int,
        columns: int,
        field_bits: int,
        scan_order: int,
        second_edition: bool,
        dependent: bool,
        unary_length: int,
        has_parent: bool,
        history: npt.NDArray[np.uint8] | None,
        base: _Levels | None,
        codebook_size: int,
        codebook_zero_offset: int,
        dequantizes: bool,
        base_qp: int,
        qp_density: int,
    ) -> None: ...
    def run(self) -> None: ...
    def results(self) -> list[str | list[tuple[int, bool, bool, _Points]]]: ...

def quantize_uniform(
    weights: npt.NDArray[np.float32],
    levels: _Levels,
    rows: int,
    columns: int,
    qp: int,
    *,
    scan_order: int = 0,
    qp_density: int = 2,
    lambda_scale: float = 0.0,
    rate_unary_length: int = 10,
) -> int: ...
def quantize_trellis(
    weights: npt.NDArray[np.float32],
    levels: _Levels,
    rows: int,
    columns: int,
    qp: int,
    *,
    scan_order: int = 0,
    qp_density: int = 2,
    lambda_scale: float = 0.0,
    rate_unary_length: int = 10,
) -> int: ...
def quantize_rd(
    weights: npt.NDArray[np.float32],
    levels: _Levels,
    rows: int,
    columns: int,
    qp: int,
    *,
    scan_order: int = 0,
    qp_density: int = 2,
    lambda_scale: float = 1.0,
    unary_length: int = 11,
    passes: int = 1,
) -> int: ...

RATE_COUNT: int

def fill_rates(
    levels: _Levels,
    rates: npt.NDArray[np.float32],
    *,
    dependent: bool,
    unary_length: int = 11,
    lambda_: float = 1.0,
) -> None: ...
def quantize_feedback(
    weights: npt.NDArray[np.float32],
    levels: _Levels,
    rows: int,
    columns: int,
    *,
    influence: npt.NDArray[np.float32],
    importance: npt.NDArray[np.float32],
    row_importance: npt.NDArray[np.float32],
    groups: int,
    block: int,
    step: float,
    dependent: bool,
    rates: npt.NDArray[np.float32] | None = None,
    targets: npt.NDArray[np.float32] | None = None,
    start_state: int = 0,
    end_state: int = -1,
    plain: bool = False,
    row_influence: npt.NDArray[np.float32] | None = None,
    row_block: int = 0,
) -> int: ...
def dequantize_uniform(levels: _Levels, values: npt.NDArray[np.float32], step: float) -> None: ...
def dequantize_codebook(
    indexes: _Levels, values: npt.NDArray[np.float32], codebook: _Levels, zero_offset: int, step: float
) -> None: ...
def codebook_zero_offset(
    indexes: _Levels,
    rows: int,
    columns: int,
    codebook_size: int,
    unary_length: int,
    first_edition_1_0: bool = False,
) -> int: ...
