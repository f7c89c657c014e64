"""Rank by the pooled predictor, given every affordable size."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lensllm.core.points import require_sizes
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.predictors.pooled import PooledModel, PooledPredictor
from lensllm.selectors.base import Decision, Selector, affordable_size, ask_for
from lensllm.selectors.forecast import forecasts_of_draws, rank_forecasts, with_decisions

# Points of a candidate below which nothing but its own slope is known of it.
_MIN_SIZES = 3
_MAX_DRAWN = 4_000_000


@dataclass(frozen=True, eq=False)
class PooledFit(Selector):
    """All sizes D ≤ D_max of all candidates, predicted together (see docs/pooled.md).

    Attributes:
        predictor: The predictor.
        n_draws: Joint draws for intervals and the probability of being best; fewer where there are
            more than a thousand candidates.
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
            BudgetTooSmallError: They are fewer than three.
        """
        largest = affordable_size(task, budget, cumulative=True, include_zero=False)
        require_sizes(task, budget, largest, _MIN_SIZES, "the pooled predictor", include_zero=False)
        pairs = [
            (model, n) for model in task.names for n in task.available[model] if 0 < n <= largest
        ]
        return ask_for(task, curves, pairs)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """By expected log loss at D_full, smallest first."""
        model = self.predictor.fit(task, curves)
        if model is None:
            return rank_forecasts(self.name, task, {}, "the pooled predictor")
        n_models = len(model.table.models)
        n_draws = max(200, min(self.n_draws, _MAX_DRAWN // n_models))
        draws = self.predictor.draws_of(
            model, task, [task.n_samples_full], n_draws=n_draws, seed=self.seed
        )
        forecasts = forecasts_of_draws(draws, self.seed)
        basis = f"{n_models} candidates predicted together from {draws.basis}"
        return with_decisions(rank_forecasts(self.name, task, forecasts, basis), _notes(model))


def _notes(model: PooledModel) -> list[str]:
    """In words, what was learned of the task."""
    betas = model.laws[0].betas
    beta = math.exp(float(model.weights.sum(axis=0) @ np.log(betas)))
    return [
        f"shared exponent {beta:.2f}; levels revert by {model.reversion:.1%} a doubling; "
        f"errors a doubling {model.rate_spread:.1%} for one candidate, "
        f"{model.bias_spread:.1%} for all together"
    ]
