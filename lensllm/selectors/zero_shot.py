"""Zero-shot: the loss of the pre-trained model decides."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lensllm.core.points import losses_by_size
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.selectors.base import Decision, Selector, affordable_size, ask_for
from lensllm.selectors.forecast import rank_losses_at


@dataclass(frozen=True)
class ZeroShot(Selector):
    """Choose the smallest L(0), the test loss before any fine-tuning (RSL, arXiv:2402.02314)."""

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """A trial at D = 0 of every candidate that has this size."""
        if 0 in task.sizes:
            affordable_size(task, budget, cumulative=False, include_zero=True)
        pairs = [(model, 0) for model in task.names if 0 in task.available[model]]
        return ask_for(task, curves, pairs)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by L(0), smallest first."""
        return rank_losses_at(self.name, task, losses_by_size(curves, task.measure), 0)
