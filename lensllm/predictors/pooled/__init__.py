"""The pooled predictor: the candidates of one task borrow strength from each other."""

from lensllm.predictors.pooled.model import PooledModel, fit_pooled
from lensllm.predictors.pooled.predictor import PooledPredictor
from lensllm.predictors.pooled.settings import PooledSettings

__all__ = ["PooledModel", "PooledPredictor", "PooledSettings", "fit_pooled"]
