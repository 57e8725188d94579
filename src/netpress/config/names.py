"""Names of options: those that they had before, and those that NNCodec gives them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Mapping
from typing import Any

from netpress.config.option import integer, unknown_option
from netpress.errors import InvalidConfig

__all__ = ["OLD_NAMES", "REFERENCE_NAMES", "current_names", "warn_of_old_name"]

REFERENCE_NAMES = {
    "opt_qp": "optimize_qp",
    "int_quant_bw": "bit_depth",
    "bitdepth": "bit_depth",
    "bnf": "fold_batch_norm",
    "compress_differences": "differences",
    "general_profile_idc": "profile",
    "raw": "raw_float",
}
"""NNCodec's names of options that have another name here."""

OLD_NAMES = {
    "struct_spars_factor": "row_threshold",
    "param_opt": "context_search",
    "tca": "temporal_contexts",
    "hdsp": "history_contexts",
    "cabac_unary_length_minus1": "unary_length",
}
"""Names of the first release, which are NNCodec's too."""


def current_names(
    options: Mapping[str, Any], names: Collection[str], other_names: Mapping[str, str], *, warn: bool
) -> dict[str, Any]:
    """Return options by the names that they have now.

    Args:
        options: values by name.
        names: the names that options have now.
        other_names: other names that are allowed -> the name now.
        warn: whether another name gives a warning.

    Raises:
        InvalidConfig: one is unknown; names the nearest. Or an option is there under two names.
    """
    result: dict[str, Any] = {}
    for name, value in options.items():
        current = name if name in names else other_names.get(name)
        if current is None:
            raise unknown_option(name, names, {**REFERENCE_NAMES, **OLD_NAMES})
        if current in result:
            raise InvalidConfig(f"option {current!r} is given under two names; leave one out")
        if warn and name not in names:
            warn_of_old_name(name)
        if name == "cabac_unary_length_minus1" and value is not None:
            value = integer(name, value) + 1
        result[current] = value
    return result


def warn_of_old_name(name: str) -> None:
    """Give the warning that an option has another name now, at the line outside of netpress that used it.

    Args:
        name: one of :data:`OLD_NAMES`.
    """
    current = OLD_NAMES[name]
    offset = ", one more than" if name == "cabac_unary_length_minus1" else ", before"
    warnings.warn(f"the option is {current} now{offset} {name}", DeprecationWarning, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """Return the ``stacklevel`` with which the function that calls this one warns the code that called netpress.

    Python shows a DeprecationWarning by default only at a line of the program itself, and the calls in between differ:
    a constructor, ``replace``, ``netpress.encode``. From Python 3.12 ``skip_file_prefixes`` does the same.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith("netpress."):
        frame, level = frame.f_back, level + 1
    return level
