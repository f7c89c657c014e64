"""The pooled predictor: candidates of one task lend each other strength."""

from lensllm.selection.pooled.model import PooledModel, fit_pooled
from lensllm.selection.pooled.predictor import PooledPredictor
from lensllm.selection.pooled.settings import PooledSettings
from lensllm.selection.pooled.table import LossTable

__all__ = ["LossTable", "PooledModel", "PooledPredictor", "PooledSettings", "fit_pooled"]
