"""Rank by the pooled predictor, given every affordable size."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lensllm.core.events import RANKED_BY, Event
from lensllm.core.points import require_sizes
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.predictors.pooled import PooledModel, PooledPredictor
from lensllm.selectors.base import Decision, Selector, affordable_size, ask_for
from lensllm.selectors.forecast import forecasts_of_draws, rank_forecasts

# With fewer points than this, only the slope of a candidate's own curve is known.
_MIN_SIZES = 3
_MAX_DRAWN = 4_000_000


@dataclass(frozen=True, eq=False)
class PooledFit(Selector):
    """Predict all candidates jointly from all sizes D ≤ D_max (see docs/results/pooled.md).

    Attributes:
        predictor: The predictor.
        n_draws: Joint draws for intervals and the probability of being best; fewer with more than a
            thousand candidates.
        seed: Seed of the draws.
    """

    predictor: PooledPredictor = field(default_factory=PooledPredictor)
    n_draws: int = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_draws < 100:
            raise ValueError(f"Expected `n_draws` >= 100, got {self.n_draws}")

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """All sizes up to the largest one that can be paid for together with all below it.

        Raises:
            BudgetTooSmallError: Fewer than three sizes are affordable.
        """
        largest = affordable_size(task, budget, cumulative=True, include_zero=False)
        require_sizes(task, budget, largest, _MIN_SIZES, "the pooled predictor", include_zero=False)
        pairs = [
            (model, n) for model in task.names for n in task.available[model] if 0 < n <= largest
        ]
        return ask_for(task, curves, pairs)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by expected log loss at D_full, smallest first."""
        model = self.predictor.fit(task, curves)
        if model is None:
            return rank_forecasts(self.name, task, {}, Event(RANKED_BY, reason="pooled"))
        n_models = len(model.table.models)
        n_draws = max(200, min(self.n_draws, _MAX_DRAWN // n_models))
        draws = self.predictor.draws_of(
            model, task, [task.n_samples_full], n_draws=n_draws, seed=self.seed
        )
        forecasts = forecasts_of_draws(draws, self.seed)
        basis = Event(
            RANKED_BY,
            reason="pooled_earlier" if draws.n_known else "pooled",
            numbers={"n_models": n_models, "n_known": draws.n_known},
        )
        return rank_forecasts(self.name, task, forecasts, basis, [_learned(model)])


def _learned(model: PooledModel) -> Event:
    """The event with the task's parameters; rates are per doubling of D, in log loss."""
    betas = model.laws[0].betas
    numbers = {
        "exponent": math.exp(float(model.weights.sum(axis=0) @ np.log(betas))),
        "reversion": float(model.reversion),
        "rate_spread": float(model.rate_spread),
        "bias_spread": float(model.bias_spread),
    }
    return Event("pooled", numbers=numbers)
