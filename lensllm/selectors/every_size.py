"""Every size: a fixed design, ranked by another selector."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd

from lensllm.core.events import Event
from lensllm.core.points import too_small
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.selectors.accept_then_stop import AcceptThenStop
from lensllm.selectors.base import Decision, Selector, ask_for


@dataclass(frozen=True)
class EverySize(Selector):
    """Measure every candidate at every size that the task lists, including D = 0.

    Use it to get complete curves: other selectors leave out the sizes that they do not need, as
    Accept then Stop does D = 0. All trials are asked for at once, smallest sizes first.

    Attributes:
        ranker: The selector that ranks by the curves; its `ask` is not called.
    """

    ranker: Selector = field(default_factory=AcceptThenStop)

    def preparation_cost(self, task: Task) -> float:
        """FLOPs that the ranker needs before the first trial."""
        return self.ranker.preparation_cost(task)

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """All sizes of all candidates, by ascending size.

        Raises:
            BudgetTooSmallError: The budget does not pay for all of them.
        """
        pairs = [
            (model, size)
            for size in task.sizes
            for model in task.names
            if size in task.available[model] and budget.allows(size)
        ]
        cost = self.preparation_cost(task) + sum(task.costs[pair] for pair in pairs)
        if cost > budget.flops:
            what = f"{len(pairs)} trials at n_samples up to {task.sizes[-1]}"
            advice = "raise the budget, or list fewer sizes"
            raise too_small(task, budget, what, cost, advice=advice)
        return ask_for(task, curves, pairs)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank as the ranker does."""
        selection = self.ranker.rank(task, curves)
        whole = Event("every_size", reason=self.ranker.name)
        return replace(selection, selector=self.name, events=(whole, *selection.events))
