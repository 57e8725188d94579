"""netpress: neural networks in and out of standard ISO/IEC 15938-17 (NNC) bitstreams.

>>> import numpy, netpress
>>> model = {"fc.weight": numpy.ones((8, 8), "f4"), "fc.bias": numpy.zeros(8, "f4")}
>>> data = netpress.encode(model)
>>> restored = netpress.decode(data)
>>> list(restored)
['fc.weight', 'fc.bias']
"""

from netpress.api import decode, encode, load, open, save
from netpress.bitstream.reader import NetpressWarning
from netpress.config import EncodeConfig
from netpress.decoder import Decoder
from netpress.encoder import Encoder
from netpress.errors import (
    BaseMismatch,
    InvalidBitstream,
    InvalidConfig,
    InvalidModel,
    LimitExceeded,
    NetpressError,
    UnsupportedBitstream,
)
from netpress.limits import DecodeLimits
from netpress.parameters import Block, ParameterKind
from netpress.quantize.tensor import QuantizedTensor
from netpress.stream import Stream, StreamInfo, TensorInfo
from netpress.task import Scores, Task

__all__ = [
    "BaseMismatch",
    "Block",
    "DecodeLimits",
    "Decoder",
    "EncodeConfig",
    "Encoder",
    "InvalidBitstream",
    "InvalidConfig",
    "InvalidModel",
    "LimitExceeded",
    "NetpressError",
    "NetpressWarning",
    "ParameterKind",
    "QuantizedTensor",
    "Scores",
    "Stream",
    "StreamInfo",
    "Task",
    "TensorInfo",
    "UnsupportedBitstream",
    "__version__",
    "decode",
    "encode",
    "load",
    "open",
    "save",
]

__version__: str


def __getattr__(name: str) -> str:
    """Look up the version when it is asked for: that takes a fifth of the time that all else takes to load."""
    if name != "__version__":
        raise AttributeError(f"module 'netpress' has no attribute {name!r}")
    from importlib.metadata import version

    return version("netpress")
