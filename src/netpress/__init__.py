"""netpress: neural networks in and out of standard ISO/IEC 15938-17 (NNC) bitstreams.

    >>> import numpy, netpress
    >>> model = {"fc.weight": numpy.ones((8, 8), "f4"), "fc.bias": numpy.zeros(8, "f4")}
    >>> data = netpress.encode(model)
    >>> restored = netpress.decode(data)
    >>> list(restored)
    ['fc.weight', 'fc.bias']
"""

from importlib.metadata import version as _version

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
from netpress.stream import Stream, StreamInfo, TensorInfo

__version__ = _version("netpress")

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
    "Stream",
    "StreamInfo",
    "TensorInfo",
    "UnsupportedBitstream",
    "__version__",
    "decode",
    "encode",
    "load",
    "open",
    "save",
]
