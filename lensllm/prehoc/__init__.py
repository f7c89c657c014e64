"""Pre-hoc prediction: what can be known before training, and how deep to probe."""

from lensllm.prehoc.law import RiskLaw, fit_risk_law
from lensllm.prehoc.phases import Phase, locate
from lensllm.prehoc.probing import Price, depth_and_breadth, optimal_probe
from lensllm.prehoc.process import SyntheticProcess
from lensllm.prehoc.risk import Decomposition, decompose
from lensllm.prehoc.runs import ProbedRuns
from lensllm.prehoc.stopping import StopAdvice, StoppingRule

__all__ = [
    "StopAdvice",
    "Decomposition",
    "Phase",
    "Price",
    "ProbedRuns",
    "RiskLaw",
    "StoppingRule",
    "SyntheticProcess",
    "decompose",
    "depth_and_breadth",
    "fit_risk_law",
    "locate",
    "optimal_probe",
]
