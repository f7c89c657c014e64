"""Sub-tuning: the loss at the largest affordable size decides."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lensllm.core.points import losses_by_size
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.selectors.base import Decision, Selector, affordable_size, ask_for
from lensllm.selectors.forecast import rank_losses_at


@dataclass(frozen=True)
class SubTuning(Selector):
    """Choose the smallest L(D_max) at the largest affordable D_max (RSL, arXiv:2402.02314).

    D_max is one size for all candidates; a candidate that has no trial there comes last.
    """

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """A trial at D_max of every candidate that has this size."""
        size = affordable_size(task, budget, cumulative=False, include_zero=False)
        pairs = [(model, size) for model in task.names if size in task.available[model]]
        return ask_for(task, curves, pairs)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by the loss at the largest measured size, smallest first."""
        losses = losses_by_size(curves, task.measure)
        size = max((n for seen in losses.values() for n in seen), default=0)
        return rank_losses_at(self.name, task, losses, size)
