"""lensllm: which pre-trained language model to fine-tune, at a fraction of the compute.

The public names below are imported when first asked for, so that a campaign on recorded curves
needs no torch.

Example:
    >>> import lensllm
    >>> runner = lensllm.ReplayRunner(lensllm.load_zoo().curves, "docstrings")
    >>> budget = lensllm.make_budget(runner.task(), fraction=0.1)
    >>> selection, curves = lensllm.run_campaign(lensllm.SubTuning(), runner, budget)
    >>> selection.best.model
    'llama-64x3'
"""

from typing import TYPE_CHECKING

from lensllm.system.lazy import lazily

if TYPE_CHECKING:
    from lensllm.api.result import Result
    from lensllm.commands.python import load_result, select
    from lensllm.core.curves import read_curves
    from lensllm.core.protocols import Executor, Runner
    from lensllm.core.selection import RankedModel, Selection, Verdict
    from lensllm.core.task import Budget, BudgetTooSmallError, Candidate, NoCandidateError, Task
    from lensllm.core.trials import Trial, TrialResult, TrialStore
    from lensllm.evaluation import Benchmark, Evaluation, evaluate, load_rsl, load_zoo
    from lensllm.execution import ReplayRunner
    from lensllm.execution.command import CommandRunner
    from lensllm.execution.finetune import FineTuneRunner
    from lensllm.laws import (
        LawFit,
        LensLLMLaw,
        RectifiedLaw,
        ScalingLaw,
        VanillaLaw,
        fit_law,
        fit_laws,
        forward_validation,
    )
    from lensllm.selectors import (
        AcceptThenStop,
        Adaptive,
        BudgetOptimalProbing,
        Decision,
        EverySize,
        LastLine,
        LawExtrapolation,
        LensLLM,
        ModelSize,
        NLPMetrics,
        OtherWinner,
        PooledFit,
        RandomChoice,
        Selector,
        SubTuning,
        SuccessiveHalving,
        ZeroShot,
        run_campaign,
    )
    from lensllm.selectors.ask_tell import Study
    from lensllm.selectors.campaign import make_budget

__version__ = "0.1.0"

_NAMES = {
    "lensllm.api.result": ("Result",),
    "lensllm.commands.python": ("load_result", "select"),
    "lensllm.core.curves": ("read_curves",),
    "lensllm.core.protocols": ("Executor", "Runner"),
    "lensllm.core.selection": ("RankedModel", "Selection", "Verdict"),
    "lensllm.core.task": ("Budget", "BudgetTooSmallError", "Candidate", "NoCandidateError", "Task"),
    "lensllm.core.trials": ("Trial", "TrialResult", "TrialStore"),
    "lensllm.evaluation": ("Benchmark", "Evaluation", "evaluate", "load_rsl", "load_zoo"),
    "lensllm.execution": ("ReplayRunner",),
    "lensllm.execution.command": ("CommandRunner",),
    "lensllm.execution.finetune": ("FineTuneRunner",),
    "lensllm.laws": (
        "LawFit",
        "LensLLMLaw",
        "RectifiedLaw",
        "ScalingLaw",
        "VanillaLaw",
        "fit_law",
        "fit_laws",
        "forward_validation",
    ),
    "lensllm.selectors": (
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
    ),
    "lensllm.selectors.ask_tell": ("Study",),
    "lensllm.selectors.campaign": ("make_budget",),
}

__all__ = [
    "AcceptThenStop",
    "Adaptive",
    "Benchmark",
    "Budget",
    "BudgetOptimalProbing",
    "BudgetTooSmallError",
    "Candidate",
    "CommandRunner",
    "Decision",
    "Evaluation",
    "EverySize",
    "Executor",
    "FineTuneRunner",
    "LastLine",
    "LawExtrapolation",
    "LawFit",
    "LensLLM",
    "LensLLMLaw",
    "ModelSize",
    "NLPMetrics",
    "NoCandidateError",
    "OtherWinner",
    "PooledFit",
    "RandomChoice",
    "RankedModel",
    "RectifiedLaw",
    "ReplayRunner",
    "Result",
    "Runner",
    "ScalingLaw",
    "Selection",
    "Selector",
    "Study",
    "SubTuning",
    "SuccessiveHalving",
    "Task",
    "Trial",
    "TrialResult",
    "TrialStore",
    "VanillaLaw",
    "Verdict",
    "ZeroShot",
    "evaluate",
    "fit_law",
    "fit_laws",
    "forward_validation",
    "load_result",
    "load_rsl",
    "load_zoo",
    "make_budget",
    "read_curves",
    "run_campaign",
    "select",
]

__getattr__ = lazily(__name__, _NAMES)
