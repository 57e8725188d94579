"""The syntax tables of the performance maps.

Each function handles one map with a visitor; reading ignores the given map and returns a new one, writing returns it.
All of them hold one entry less than their count says.

Source: ISO/IEC 15938-17, syntax tables of the four performance maps, as the reference implementation reads them.
"""

from __future__ import annotations

from netpress.bitstream.maps import (
    DecompositionEntry,
    DecompositionPerformanceMap,
    PruningEntry,
    PruningPerformanceMap,
    SparsificationEntry,
    SparsificationPerformanceMap,
    UnificationEntry,
    UnificationPerformanceMap,
)
from netpress.bitstream.syntax import Syntax

__all__ = [
    "decomposition_performance_map",
    "pruning_performance_map",
    "sparsification_performance_map",
    "unification_performance_map",
]


def _entry_count(s: Syntax, name: str, length: int, bits: int = 8) -> int:
    """Handle a count that is one more than what follows, and return what follows."""
    count = s.u_value(name, length + 1, bits)
    s.require(count >= 1, f"{name} is 0")
    return count - 1


def sparsification_performance_map(
    s: Syntax, given: SparsificationPerformanceMap | None
) -> SparsificationPerformanceMap:
    """Handle sparsification_performance_map()."""
    values = given.entries if given else ()
    entries = []
    for e in s.entries(values, _entry_count(s, "spm_count_thresholds", len(values)), SparsificationEntry):
        s.flt(e, "sparsification_threshold")
        s.flt(e, "non_zero_ratio")
        s.flt(e, "spm_nn_accuracy")
        classes = s.u_value("spm_count_classes", len(e.spm_nn_class_accuracy), 8)
        s.ue(e, "spm_class_bitmask", 7)
        e.spm_nn_class_accuracy = s.flt_array("spm_nn_class_accuracy", e.spm_nn_class_accuracy, classes)
        entries.append(e)
    return SparsificationPerformanceMap(tuple(entries))


def pruning_performance_map(s: Syntax, given: PruningPerformanceMap | None) -> PruningPerformanceMap:
    """Handle pruning_performance_map()."""
    values = given.entries if given else ()
    entries = []
    for e in s.entries(values, _entry_count(s, "ppm_count_pruning_ratios", len(values)), PruningEntry):
        s.flt(e, "pruning_ratio")
        s.flt(e, "ppm_nn_accuracy")
        classes = s.u_value("ppm_count_classes", len(e.ppm_nn_class_accuracy), 8)
        s.ue(e, "ppm_class_bitmask", 7)
        e.ppm_nn_class_accuracy = s.flt_array("ppm_nn_class_accuracy", e.ppm_nn_class_accuracy, classes)
        entries.append(e)
    return PruningPerformanceMap(tuple(entries))


def unification_performance_map(s: Syntax, given: UnificationPerformanceMap | None) -> UnificationPerformanceMap:
    """Handle unification_performance_map(); the class loop runs up to the value of upm_class_bitmask."""
    values = given.entries if given else ()
    entries = []
    for e in s.entries(values, _entry_count(s, "upm_count_thresholds", len(values)), UnificationEntry):
        reshaped = s.ue_value("count_reshaped_tensor_dimension", len(e.reshaped_tensor_dimensions) + 1, 1)
        s.require(reshaped >= 1, "count_reshaped_tensor_dimension is 0")
        e.reshaped_tensor_dimensions = s.ue_array(
            "reshaped_tensor_dimensions", e.reshaped_tensor_dimensions, reshaped - 1, 7
        )
        s.align()
        super_blocks = _entry_count(s, "count_super_block_dimension", len(e.super_block_dimensions))
        e.super_block_dimensions = s.u_array("super_block_dimensions", e.super_block_dimensions, super_blocks, 8)
        blocks = _entry_count(s, "count_block_dimension", len(e.block_dimensions))
        e.block_dimensions = s.u_array("block_dimensions", e.block_dimensions, blocks, 8)
        s.flt(e, "unification_threshold")
        s.flt(e, "upm_nn_accuracy")
        s.u(e, "upm_count_classes", 8)
        mask = s.ue_value("upm_class_bitmask", e.upm_class_bitmask, 7)
        e.upm_nn_class_accuracy = s.flt_array("upm_nn_class_accuracy", e.upm_nn_class_accuracy, mask)
        entries.append(e)
    return UnificationPerformanceMap(tuple(entries))


def decomposition_performance_map(s: Syntax, given: DecompositionPerformanceMap | None) -> DecompositionPerformanceMap:
    """Handle decomposition_performance_map()."""
    values = given.entries if given else ()
    entries = []
    for e in s.entries(values, _entry_count(s, "dpm_count_thresholds", len(values)), DecompositionEntry):
        s.flt(e, "mse_threshold")
        s.flt(e, "dpm_nn_accuracy")
        s.flt(e, "nn_reduction_ratio")
        classes = s.u_value("dpm_count_classes", len(e.dpm_nn_class_accuracy), 16)
        e.dpm_nn_class_accuracy = s.flt_array("dpm_nn_class_accuracy", e.dpm_nn_class_accuracy, classes)
        entries.append(e)
    return DecompositionPerformanceMap(tuple(entries))
