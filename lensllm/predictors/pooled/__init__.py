"""The pooled predictor: candidates of one task lend each other strength."""

from lensllm.predictors.pooled.model import PooledModel, fit_pooled
from lensllm.predictors.pooled.predictor import PooledPredictor
from lensllm.predictors.pooled.settings import PooledSettings
from lensllm.predictors.pooled.table import LossTable

__all__ = ["LossTable", "PooledModel", "PooledPredictor", "PooledSettings", "fit_pooled"]
