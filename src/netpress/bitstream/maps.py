"""Performance maps: how a model performs at several strengths of sparsification, pruning, unification, decomposition.

A map of n entries is written with a count of n + 1, as the reference implementation does. Class counts are the lengths
of the tuples of class accuracies. All floats are binary32.

Source: ISO/IEC 15938-17, syntax tables of the four performance maps.
"""

from __future__ import annotations

import dataclasses

__all__ = [
    "DecompositionEntry",
    "DecompositionPerformanceMap",
    "PruningEntry",
    "PruningPerformanceMap",
    "SparsificationEntry",
    "SparsificationPerformanceMap",
    "UnificationEntry",
    "UnificationPerformanceMap",
]


@dataclasses.dataclass(slots=True)
class SparsificationEntry:
    """One threshold of a sparsification map. ``spm_nn_class_accuracy`` has at most 255 values."""

    sparsification_threshold: float = 0.0
    non_zero_ratio: float = 0.0
    spm_nn_accuracy: float = 0.0
    spm_class_bitmask: int = 0
    spm_nn_class_accuracy: tuple[float, ...] = ()


@dataclasses.dataclass(slots=True)
class SparsificationPerformanceMap:
    """sparsification_performance_map(); at most 254 entries."""

    entries: tuple[SparsificationEntry, ...] = ()


@dataclasses.dataclass(slots=True)
class PruningEntry:
    """One ratio of a pruning map. ``ppm_nn_class_accuracy`` has at most 255 values."""

    pruning_ratio: float = 0.0
    ppm_nn_accuracy: float = 0.0
    ppm_class_bitmask: int = 0
    ppm_nn_class_accuracy: tuple[float, ...] = ()


@dataclasses.dataclass(slots=True)
class PruningPerformanceMap:
    """pruning_performance_map(); at most 254 entries."""

    entries: tuple[PruningEntry, ...] = ()


@dataclasses.dataclass(slots=True)
class UnificationEntry:
    """One threshold of a unification map.

    The three tuples of dimensions are written with a count of their length + 1. The number of class accuracies is the
    *value* of upm_class_bitmask, which is how the reference implementation reads this table; so the mask has no field
    of its own, and ``upm_count_classes`` is an independent number.
    """

    reshaped_tensor_dimensions: tuple[int, ...] = ()
    super_block_dimensions: tuple[int, ...] = ()
    block_dimensions: tuple[int, ...] = ()
    unification_threshold: float = 0.0
    upm_nn_accuracy: float = 0.0
    upm_count_classes: int = 0
    upm_nn_class_accuracy: tuple[float, ...] = ()

    @property
    def upm_class_bitmask(self) -> int:
        """The mask, which is also the number of class accuracies."""
        return len(self.upm_nn_class_accuracy)


@dataclasses.dataclass(slots=True)
class UnificationPerformanceMap:
    """unification_performance_map(); at most 254 entries."""

    entries: tuple[UnificationEntry, ...] = ()


@dataclasses.dataclass(slots=True)
class DecompositionEntry:
    """One threshold of a decomposition map. ``dpm_nn_class_accuracy`` has at most 65535 values."""

    mse_threshold: float = 0.0
    dpm_nn_accuracy: float = 0.0
    nn_reduction_ratio: float = 0.0
    dpm_nn_class_accuracy: tuple[float, ...] = ()


@dataclasses.dataclass(slots=True)
class DecompositionPerformanceMap:
    """decomposition_performance_map(); at most 254 entries."""

    entries: tuple[DecompositionEntry, ...] = ()
