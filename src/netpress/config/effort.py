"""What the effort of an encoder switches on: one row for each level."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netpress.config.encode_config import EncodeConfig

__all__ = ["EFFORT", "SMALL_UNIT", "EffortLevel", "Tools", "tools_in_force"]

SMALL_UNIT = 65536
"""Most values of a data unit for which a trial costs next to nothing."""
# What a qp means should not change much from effort to effort; see docs/notes/rate-distortion.md.
_RATE_WEIGHT, _BEST_RATE_WEIGHT = 0.25, 0.5
_MORE_UNARY_LENGTHS = (1, 3, 6, 20)


@dataclasses.dataclass(frozen=True, slots=True)
class EffortLevel:
    """One level. The metadata of a field is what docs/effort.md calls it."""

    context_search: bool = dataclasses.field(metadata={"title": "search of context parameters"})
    rate_weight: float = dataclasses.field(metadata={"title": "weight of the rate in the trellis"})
    rate_passes: int = dataclasses.field(metadata={"title": "passes with refined rates"})
    row_skipping: bool = dataclasses.field(metadata={"title": "rows skipped where it pays"})
    unary_lengths_small: bool = dataclasses.field(
        metadata={"title": f"several unary lengths, up to {SMALL_UNIT} values"}
    )
    unary_lengths: bool = dataclasses.field(metadata={"title": "several unary lengths, all tensors"})
    codebooks: bool = dataclasses.field(metadata={"title": "codebooks where they pay"})


_FAST = EffortLevel(False, 0.0, 1, False, False, False, False)
_SEARCH = dataclasses.replace(_FAST, context_search=True)
_DEFAULT = dataclasses.replace(_SEARCH, rate_weight=_RATE_WEIGHT, row_skipping=True)
_LENGTHS = dataclasses.replace(_DEFAULT, unary_lengths_small=True)
_REFINED = dataclasses.replace(_LENGTHS, rate_weight=_BEST_RATE_WEIGHT, rate_passes=5)
_TRIALS = dataclasses.replace(_REFINED, unary_lengths=True, codebooks=True)

EFFORT = {
    1: _FAST,
    2: _FAST,
    3: _SEARCH,
    4: _SEARCH,
    5: _DEFAULT,
    6: _LENGTHS,
    7: _REFINED,
    8: _TRIALS,
    9: dataclasses.replace(_TRIALS, rate_passes=10),
}
"""The levels, from the fastest to the one that makes the smallest streams."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tools:
    """The tools that an encoder uses: those of its level, but for what the settings say otherwise.

    ``row_skipping`` is None where it is tried and kept if it pays; ``codebooks`` is 0 never, 1 always, 2 where they
    pay. ``unary_length`` is the number of greater-than flags of a weight, or the first that is tried.
    """

    context_search: bool
    rate_weight: float
    rate_passes: int
    row_skipping: bool | None
    codebooks: int
    unary_length: int
    tries_unary_lengths_small: bool
    tries_unary_lengths: bool

    def more_unary_lengths(self, size: int) -> tuple[int, ...]:
        """Return the further unary lengths to try for a data unit of ``size`` values."""
        tries = self.tries_unary_lengths_small if size <= SMALL_UNIT else self.tries_unary_lengths
        return _MORE_UNARY_LENGTHS if tries else ()


def tools_in_force(config: EncodeConfig) -> Tools:
    """Return the tools of the level of some settings, with what they say otherwise."""
    level = EFFORT[config.effort]
    skipping = None if level.row_skipping else False
    own_length = config.unary_length is not None
    # The second edition infers 10 where a header has none, which saves a byte.
    length = config.unary_length if config.unary_length is not None else 10 if config.profile == 1 else 11
    return Tools(
        context_search=level.context_search if config.context_search is None else config.context_search,
        rate_weight=float(config.lambda_scale)
        if config.lambda_scale is not None
        else level.rate_weight * config.use_dq,
        rate_passes=level.rate_passes,
        row_skipping=skipping if config.row_skipping is None else config.row_skipping,
        codebooks=(2 if level.codebooks else 0) if config.codebook_mode is None else config.codebook_mode,
        unary_length=length,
        tries_unary_lengths_small=level.unary_lengths_small and not own_length,
        tries_unary_lengths=level.unary_lengths and not own_length,
    )
