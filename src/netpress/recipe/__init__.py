"""Recipes: low rank, clustering, pruning, local scaling, retraining and coding in one call.

torch is needed, and imported with this package.
"""

from netpress.recipe.batch_norm_fold import BatchNormFold
from netpress.recipe.cluster.stage import Cluster
from netpress.recipe.inference_optimised_qp import InferenceOptimisedQp
from netpress.recipe.local_scaling import LocalScaling
from netpress.recipe.low_rank.stage import LowRank
from netpress.recipe.performance_maps.stage import PerformanceMaps
from netpress.recipe.prune.stage import Prune
from netpress.recipe.quantize import Quantize
from netpress.recipe.recipe import Recipe, RecipeResult, StageReport
from netpress.recipe.retrain import Retrain
from netpress.recipe.sparsify.stage import Sparsify
from netpress.recipe.stage import Stage, stage_from_dict
from netpress.recipe.unify.stage import Unify

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
