"""LensLLM for curves with losses only: L(0)² replaces the value from the NTK."""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd

from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.laws import ExponentialCurve
from lensllm.selectors.base import Decision, ask_for
from lensllm.selectors.lensllm import LensLLM


@dataclass(frozen=True)
class LensLLMStandIn(LensLLM):
    r"""`LensLLM` with F(0) = L(0)² and one decay, for recorded curves without the models' weights.

    With t fitted, F takes any value in (0, F(0)], whatever the spectrum of the NTK. The weights
    determine only F(0), the mean squared loss of the probe examples; L(0)² is the squared mean of
    these losses and so a lower bound. No kernel is charged for. Candidates without a recorded loss
    at D = 0 cannot be ranked.

    Raises:
        ValueError: `ntk` is given, the mode is not `prediction`, or D = 0 is to be left out.
    """

    _bounds: dict[tuple[str, float], ExponentialCurve] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ntk is not None or self.mode != "prediction" or not self.use_zero:
            raise ValueError(
                "Expected a stand-in without `ntk`, with mode=prediction and use_zero=true, got "
                f"mode={self.mode}, use_zero={self.use_zero}: use selector=lensllm for the others"
            )

    @property
    def name(self) -> str:
        """`lensllm_stand_in`, with `_kappa` if κ is fitted."""
        return super().name.replace("lensllm", "lensllm_stand_in")

    def preparation_cost(self, task: Task) -> float:
        """Nothing: there is no kernel."""
        return 0.0

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """As `LensLLM`; only candidates whose L(0) is known continue their walks."""
        wanted = super().ask(task, self._prepared(task, curves), budget).trials
        return ask_for(task, curves, [(trial.model, trial.n_samples) for trial in wanted])

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """As `LensLLM`."""
        return super().rank(task, self._prepared(task, curves))

    def _prepared(self, task: Task, curves: pd.DataFrame) -> pd.DataFrame:
        """The rows of candidates that have a loss at D = 0, whose stand-ins are set."""
        losses = task.measure.errors(curves)
        losses = losses[(curves["n_samples"] == 0) & losses.notna()]
        zeros = losses.groupby(curves["model"]).mean()
        for model, zero in zeros.items():
            # The same object for the same bound, since the cache of tests is keyed by it.
            bound = self._bounds.setdefault((model, zero), ExponentialCurve([zero**2], [1.0]))
            self._curves[model] = bound
        return curves[curves["model"].isin(zeros.index)]
