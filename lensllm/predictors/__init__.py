"""Joint beliefs about learning curves, with a prior that is learned from recorded tasks."""

from lensllm.predictors.posterior import Points, Posterior, posterior
from lensllm.predictors.predictor import CurvePredictor
from lensllm.predictors.prior import CurvePrior, load_prior
from lensllm.predictors.table import LossTable

__all__ = [
    "CurvePredictor",
    "CurvePrior",
    "LossTable",
    "Points",
    "Posterior",
    "load_prior",
    "posterior",
]
