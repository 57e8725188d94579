"""The settings of an encoder."""

from netpress.config.effort import EFFORT, EffortLevel, Tools
from netpress.config.encode_config import DEFAULT_NONWEIGHT_QP, EncodeConfig
from netpress.config.option import GROUPS, Option
from netpress.config.quality import QUALITIES, Quality

__all__ = [
    "DEFAULT_NONWEIGHT_QP",
    "EFFORT",
    "GROUPS",
    "QUALITIES",
    "EffortLevel",
    "EncodeConfig",
    "Option",
    "Quality",
    "Tools",
]
