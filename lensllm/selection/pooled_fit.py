"""Every affordable size of all candidates, predicted together."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pandas as pd

from lensllm.predictors import CurvePredictor
from lensllm.selection.base import Budget, Selection, Selector, Task, affordable_size
from lensllm.selection.points import losses_by_size
from lensllm.selection.ranking import rank_posterior


@dataclass(frozen=True)
class PooledFit(Selector):
    """All sizes D ≤ D_max of all candidates, ranked as `Adaptive` ranks (docs/adaptive.md).

    Attributes:
        predictor: Who believes.
        seed: Seed of the draws for P(best).
    """

    predictor: CurvePredictor = field(default_factory=CurvePredictor)
    seed: int = 0

    def wants(self, task: Task, curves: pd.DataFrame, budget: Budget) -> list[tuple[str, int]]:
        """All sizes up to the largest one that can be paid for together with all below it."""
        largest = affordable_size(task, budget, cumulative=True, include_zero=False)
        return [
            (model, n) for model in task.names for n in task.available[model] if 0 < n <= largest
        ]

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """By expected log loss at D_full, smallest first."""
        return rank_by(self.predictor, self.name, task, curves, self.seed)


def rank_by(
    predictor: CurvePredictor, name: str, task: Task, curves: pd.DataFrame, seed: int
) -> Selection:
    """Rank all candidates of a task by a predictor.

    Args:
        predictor: Who believes.
        name: Name of the selector.
        task: The question.
        curves: Tidy table of the points seen.
        seed: Seed of the draws.
    """
    seen = losses_by_size(curves)
    usable = {
        model
        for model, points in seen.items()
        if any(n > 0 and math.isfinite(loss) for n, loss in points.items())
    }
    tried = {(model, n) for model, points in seen.items() for n in points}
    beliefs = predictor.posterior(task, curves, [n for n in task.sizes if n > 0])
    return rank_posterior(name, task, beliefs, usable, tried, seed)
