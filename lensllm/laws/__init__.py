"""Fine-tuning scaling laws and how they are fitted."""

from lensllm.laws.base import ScalingLaw
from lensllm.laws.comparison import (
    comparable_laws,
    forward_table,
    forward_validation,
    information_criteria,
)
from lensllm.laws.fitting import fit_law, fit_laws
from lensllm.laws.lensllm import ExponentialCurve, LensLLMLaw, NTKLossCurve
from lensllm.laws.noise import NoiseEstimate, estimate_noise
from lensllm.laws.posterior import LawPosterior, NoisePrior
from lensllm.laws.rectified import RectifiedLaw
from lensllm.laws.result import LawFit, LawFits
from lensllm.laws.sampling import sample_posteriors
from lensllm.laws.tables import CurveStack, fit_stack, fits_table, stack_curves
from lensllm.laws.vanilla import VanillaLaw

__all__ = [
    "CurveStack",
    "NoiseEstimate",
    "comparable_laws",
    "estimate_noise",
    "fit_stack",
    "fits_table",
    "forward_table",
    "forward_validation",
    "information_criteria",
    "stack_curves",
    "ExponentialCurve",
    "LawFit",
    "LawFits",
    "LawPosterior",
    "LensLLMLaw",
    "NTKLossCurve",
    "NoisePrior",
    "RectifiedLaw",
    "ScalingLaw",
    "VanillaLaw",
    "fit_law",
    "fit_laws",
    "sample_posteriors",
]
