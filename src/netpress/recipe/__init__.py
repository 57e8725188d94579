"""Recipes: low rank, clustering, pruning, local scaling, retraining and coding in one call.

torch is needed, and imported with this package.
"""

from netpress.recipe.batch_norm_fold import BatchNormFold
from netpress.recipe.inference_optimised_qp import InferenceOptimisedQp
from netpress.recipe.local_scaling import LocalScaling
from netpress.recipe.low_rank import LowRank
from netpress.recipe.recipe import Recipe, RecipeResult, StageReport
from netpress.recipe.retrain import Retrain
from netpress.recipe.stage import Stage, stage_from_dict

__all__ = [
    "BatchNormFold",
    "InferenceOptimisedQp",
    "LocalScaling",
    "LowRank",
    "Recipe",
    "RecipeResult",
    "Retrain",
    "Stage",
    "StageReport",
    "stage_from_dict",
]
