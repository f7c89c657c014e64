"""Selectors, the question they answer, and the loop that runs them."""

from lensllm.selection.accept_then_stop import AcceptThenStop
from lensllm.selection.adaptive import Adaptive
from lensllm.selection.base import (
    Budget,
    BudgetTooSmallError,
    Candidate,
    Decision,
    RankedModel,
    Selection,
    Selector,
    Task,
)
from lensllm.selection.budget_optimal_probing import BudgetOptimalProbing
from lensllm.selection.campaign import Runner, run_campaign
from lensllm.selection.every_size import EverySize
from lensllm.selection.last_line import LastLine
from lensllm.selection.law_extrapolation import LawExtrapolation
from lensllm.selection.lensllm import LensLLM
from lensllm.selection.model_size import ModelSize
from lensllm.selection.nlp_metrics import NLPMetrics
from lensllm.selection.other_winner import OtherWinner
from lensllm.selection.pooled_fit import PooledFit
from lensllm.selection.random_choice import RandomChoice
from lensllm.selection.sub_tuning import SubTuning
from lensllm.selection.successive_halving import SuccessiveHalving
from lensllm.selection.zero_shot import ZeroShot

__all__ = [
    "AcceptThenStop",
    "Adaptive",
    "Budget",
    "BudgetOptimalProbing",
    "BudgetTooSmallError",
    "Candidate",
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
    "RankedModel",
    "Runner",
    "Selection",
    "Selector",
    "SubTuning",
    "SuccessiveHalving",
    "Task",
    "ZeroShot",
    "run_campaign",
]
