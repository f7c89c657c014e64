"""Who decides: the protocol of all selectors.

Every way to select a model is the same loop: `Selector.ask` names the trials to run next, a runner
runs them, and `Selector.rank` turns the curves so far into a `Selection`. A selector sees what was
measured only through the tidy table of curves (`lensllm.core.curves`) and keeps no state of its
own, so that a campaign can be killed and taken up again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import pandas as pd

from lensllm.core.selection import Selection
from lensllm.core.task import Budget, BudgetTooSmallError, Task
from lensllm.core.trials import Trial


@dataclass(frozen=True)
class Decision:
    """What a selector asks for next, and why.

    Attributes:
        trials: The trials to run; none when there is nothing more to learn or to spend.
        reasons: In words, why these, or why no more.
        stopped: Candidates that are not worth another trial as things stand, each with the reason
            in words. A candidate can come back when later trials of others change the picture.
    """

    trials: tuple[Trial, ...] = ()
    reasons: tuple[str, ...] = ()
    stopped: Mapping[str, str] = field(default_factory=dict)


class Selector(ABC):
    """Decides which trials to run, and ranks the candidates by what they found.

    Attributes:
        score_sign: Sign by which scores are multiplied before an evaluation correlates them with
            losses.
    """

    score_sign: ClassVar[float] = 1.0

    @property
    def name(self) -> str:
        """Name in tables; by default the class name in snake case."""
        letters = [f"_{c.lower()}" if c.isupper() else c for c in type(self).__name__]
        return "".join(letters).lstrip("_")

    def preparation_cost(self, task: Task) -> float:
        """FLOPs of what is needed before the first trial; a campaign charges them once."""
        return 0.0

    @abstractmethod
    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """The trials to run next; none when there is nothing more to learn or to spend.

        Args:
            task: The question.
            curves: Tidy table of the points seen; losses that are not finite mean a diverged run.
            budget: What may be spent, and what was; the campaign charges it.

        Raises:
            BudgetTooSmallError: The budget does not pay for the first trials.
        """

    @abstractmethod
    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank all candidates of the task by the curves seen.

        Args:
            task: The question.
            curves: Tidy table of the points seen; losses that are not finite mean a diverged run.

        Returns:
            The ranking without its cost, which the campaign fills in.
        """


def ask_for(task: Task, curves: pd.DataFrame, pairs: Iterable[tuple[str, int]]) -> Decision:
    """Ask for those (candidate, D) pairs that were not seen, each once, in their order."""
    seen = set(zip(curves["model"], curves["n_samples"].astype(int), strict=True))
    return Decision(tuple(task.trial(*pair) for pair in dict.fromkeys(pairs) if pair not in seen))


def affordable_size(task: Task, budget: Budget, *, cumulative: bool, include_zero: bool) -> int:
    """The largest D that the budget allows for all candidates.

    Args:
        task: The question.
        budget: What may be spent in all; what was spent already counts as available.
        cumulative: Whether all smaller sizes are to be paid for as well.
        include_zero: Whether D = 0 may be the answer, and is paid for when `cumulative`.

    Returns:
        D, a size of at least one candidate; a candidate that lacks it counts with what it has.

    Raises:
        ValueError: No size is permitted.
        BudgetTooSmallError: Not even the smallest size is affordable.
    """
    sizes = [n for n in task.sizes if (include_zero or n > 0) and budget.allows(n)]
    if not sizes:
        raise ValueError(
            f"Expected trials with {budget.permitted} for {task.dataset!r}, got those with "
            f"{', '.join(map(str, task.sizes)) or 'none'}: give smaller `sizes` or more data"
        )
    total, best = 0.0, None
    for size in sizes:
        cost = sum(task.costs[model, size] for model in task.names if size in task.available[model])
        total = total + cost if cumulative else cost
        if total <= budget.flops:
            best = size
    if best is None:
        cheapest = sum(
            task.costs[model, sizes[0]] for model in task.names if sizes[0] in task.available[model]
        )
        raise BudgetTooSmallError(
            f"Expected a budget of at least {cheapest:.3g} {task.cost_unit} "
            f"({cheapest / task.full_cost:.2%} of fine-tuning every candidate in full), which pays "
            f"for one trial of every candidate at n_samples = {sizes[0]}; got {budget.flops:.3g} "
            f"({budget.flops / task.full_cost:.2%}): raise budget.fraction or drop candidates"
        )
    return best
