"""Cluster quantisation: few distinct values for each weight."""

from netpress.recipe.cluster.stage import Cluster

__all__ = ["Cluster"]
