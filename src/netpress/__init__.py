"""netpress: neural networks in and out of standard ISO/IEC 15938-17 (NNC) bitstreams.

>>> import numpy, netpress
>>> model = {"fc.weight": numpy.ones((8, 8), "f4"), "fc.bias": numpy.zeros(8, "f4")}
>>> data = netpress.encode(model)
>>> restored = netpress.decode(data)
>>> list(restored)
['fc.weight', 'fc.bias']
"""

from typing import TYPE_CHECKING, Any

from netpress.api import decode, encode, load, open, save
from netpress.bitstream.reader import NetpressWarning
from netpress.calibration.blocks import quantize_blocks
from netpress.calibration.data_free import data_free_calibration
from netpress.calibration.measured import calibrate
from netpress.calibration.quantizer import CorrectedModel, quantize_corrected, quantize_model
from netpress.calibration.residence import empty_parameters
from netpress.calibration.statistics import Calibration, LayerStatistics
from netpress.chain import ChainLink, UpdateChain
from netpress.codec.check import Check, CheckedStream, CheckResult
from netpress.codec.decoder import Decoder
from netpress.codec.encoder import Encoder
from netpress.codec.stream import Stream, StreamInfo, TensorInfo
from netpress.compress import CompressionResult, Trial, compress
from netpress.config import EncodeConfig
from netpress.errors import (
    BaseMismatch,
    EvaluationFailed,
    InvalidBitstream,
    InvalidConfig,
    InvalidModel,
    LimitExceeded,
    NetpressError,
    RecipeError,
    UnsupportedBitstream,
)
from netpress.limits import DecodeLimits
from netpress.moved import install as install_moved
from netpress.parameters import Block, ParameterKind
from netpress.quantize.tensor import QuantizedTensor
from netpress.task import Scores, Task

__all__ = [
    "BaseMismatch",
    "Block",
    "Calibration",
    "ChainLink",
    "Check",
    "CheckResult",
    "CheckedStream",
    "CompressionResult",
    "CorrectedModel",
    "DecodeLimits",
    "Decoder",
    "EncodeConfig",
    "Encoder",
    "EvaluationFailed",
    "InvalidBitstream",
    "InvalidConfig",
    "InvalidModel",
    "LayerStatistics",
    "LimitExceeded",
    "NetpressError",
    "NetpressWarning",
    "ParameterKind",
    "QuantizedTensor",
    "RecipeError",
    "Scores",
    "Stream",
    "StreamInfo",
    "Task",
    "TensorInfo",
    "Trial",
    "UnsupportedBitstream",
    "UpdateChain",
    "__version__",
    "calibrate",
    "compress",
    "data_free_calibration",
    "decode",
    "empty_parameters",
    "encode",
    "load",
    "open",
    "quantize_blocks",
    "quantize_corrected",
    "quantize_model",
    "save",
]

# Not in __all__, so that a star import works without torch.
_RECIPE = frozenset(
    {
        "BatchNormFold",
        "Cluster",
        "InferenceOptimisedQp",
        "LocalScaling",
        "LowRank",
        "PerformanceMaps",
        "Prune",
        "Quantize",
        "Recipe",
        "RecipeResult",
        "Retrain",
        "Sparsify",
        "StageReport",
        "Unify",
    }
)

if TYPE_CHECKING:
    from netpress.recipe import BatchNormFold as BatchNormFold
    from netpress.recipe import Cluster as Cluster
    from netpress.recipe import InferenceOptimisedQp as InferenceOptimisedQp
    from netpress.recipe import LocalScaling as LocalScaling
    from netpress.recipe import LowRank as LowRank
    from netpress.recipe import PerformanceMaps as PerformanceMaps
    from netpress.recipe import Prune as Prune
    from netpress.recipe import Quantize as Quantize
    from netpress.recipe import Recipe as Recipe
    from netpress.recipe import RecipeResult as RecipeResult
    from netpress.recipe import Retrain as Retrain
    from netpress.recipe import Sparsify as Sparsify
    from netpress.recipe import StageReport as StageReport
    from netpress.recipe import Unify as Unify

__version__: str

install_moved()


def __getattr__(name: str) -> Any:
    """Look up what takes long to load when it is asked for: the version, and recipes, which need torch."""
    if name == "__version__":
        from importlib.metadata import version

        return version("netpress")
    if name in _RECIPE:
        try:
            import torch  # noqa: F401
        except ImportError as error:
            raise ImportError(f"netpress.{name} needs PyTorch; install netpress[recipe]") from error
        import netpress.recipe

        return getattr(netpress.recipe, name)
    raise AttributeError(f"module 'netpress' has no attribute {name!r}")
