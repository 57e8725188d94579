"""Recipes: low rank, clustering, pruning, local scaling, retraining and coding in one call.

torch is needed, and imported with this package.
"""

from netpress.recipe.batch_norm_fold import BatchNormFold
from netpress.recipe.cluster import Cluster
from netpress.recipe.inference_optimised_qp import InferenceOptimisedQp
from netpress.recipe.local_scaling import LocalScaling
from netpress.recipe.low_rank import LowRank
from netpress.recipe.performance_maps import PerformanceMaps
from netpress.recipe.prune import Prune
from netpress.recipe.quantize import Quantize
from netpress.recipe.recipe import Recipe, RecipeResult, StageReport
from netpress.recipe.retrain import Retrain
from netpress.recipe.sparsify import Sparsify
from netpress.recipe.stage import Stage, stage_from_dict
from netpress.recipe.unify import Unify

__all__ = [
    "BatchNormFold",
    "Cluster",
    "InferenceOptimisedQp",
    "LocalScaling",
    "LowRank",
    "PerformanceMaps",
    "Prune",
    "Quantize",
    "Recipe",
    "RecipeResult",
    "Retrain",
    "Sparsify",
    "Stage",
    "StageReport",
    "Unify",
    "stage_from_dict",
]
