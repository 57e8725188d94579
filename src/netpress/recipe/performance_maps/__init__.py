"""Performance maps: what a tool costs, measured and written into the stream."""

from netpress.recipe.performance_maps.stage import PerformanceMaps

__all__ = ["PerformanceMaps"]
