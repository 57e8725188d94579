"""The settings of an encoder."""

from netpress.config.effort import EFFORT, EffortLevel, Tools
from netpress.config.encode_config import DEFAULT_NONWEIGHT_QP, EncodeConfig
from netpress.config.option import GROUPS, Option

__all__ = ["DEFAULT_NONWEIGHT_QP", "EFFORT", "GROUPS", "EffortLevel", "EncodeConfig", "Option", "Tools"]
