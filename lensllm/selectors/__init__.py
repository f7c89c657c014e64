"""Selectors, the task that they solve, and the loop that runs them."""

from lensllm.selectors.accept_then_stop import AcceptThenStop
from lensllm.selectors.adaptive import Adaptive
from lensllm.selectors.base import (
    Decision,
    Selector,
)
from lensllm.selectors.budget_optimal_probing import BudgetOptimalProbing
from lensllm.selectors.campaign import run_campaign
from lensllm.selectors.every_size import EverySize
from lensllm.selectors.last_line import LastLine
from lensllm.selectors.law_extrapolation import LawExtrapolation
from lensllm.selectors.lensllm import LensLLM
from lensllm.selectors.model_size import ModelSize
from lensllm.selectors.nlp_metrics import NLPMetrics
from lensllm.selectors.other_winner import OtherWinner
from lensllm.selectors.pooled_fit import PooledFit
from lensllm.selectors.random_choice import RandomChoice
from lensllm.selectors.sub_tuning import SubTuning
from lensllm.selectors.successive_halving import SuccessiveHalving
from lensllm.selectors.zero_shot import ZeroShot

__all__ = [
    "AcceptThenStop",
    "Adaptive",
    "BudgetOptimalProbing",
    "Decision",
    "EverySize",
    "LastLine",
    "LawExtrapolation",
    "LensLLM",
    "ModelSize",
    "NLPMetrics",
    "OtherWinner",
    "PooledFit",
    "RandomChoice",
    "Selector",
    "SubTuning",
    "SuccessiveHalving",
    "ZeroShot",
    "run_campaign",
]
