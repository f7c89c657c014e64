"""Every size: a fixed design, ranked as another selector ranks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd

from lensllm.core.selection import Selection
from lensllm.core.task import Budget, BudgetTooSmallError, Task
from lensllm.selectors.accept_then_stop import AcceptThenStop
from lensllm.selectors.base import Decision, Selector, ask_for


@dataclass(frozen=True)
class EverySize(Selector):
    """Measure every candidate at every size that the task lists, D = 0 included.

    For curves to look at, where a selector that decides would leave out what it does not need:
    Accept then Stop never asks for D = 0. Trials are asked for in one piece, smallest sizes first.

    Attributes:
        ranker: Who ranks by the curves; its own questions are not asked.
    """

    ranker: Selector = field(default_factory=AcceptThenStop)

    def preparation_cost(self, task: Task) -> float:
        """What the ranker needs."""
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
            raise BudgetTooSmallError(
                f"Expected a budget of at least {cost:.3g} {task.cost_unit} "
                f"({cost / task.full_cost:.2%} of fine-tuning every candidate in full), "
                f"which pays for {len(pairs)} trials at n_samples up to {task.sizes[-1]}; got "
                f"{budget.flops:.3g} ({budget.flops / task.full_cost:.2%}): raise "
                "budget.fraction, or list fewer sizes"
            )
        return ask_for(task, curves, pairs)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """As the ranker does."""
        selection = self.ranker.rank(task, curves)
        reason = f"every size was measured; ranked by {self.ranker.name}: {selection.reason}"
        return replace(selection, selector=self.name, reason=reason)
