"""The base class of all selectors.

Every selection method is the same loop: `Selector.ask` names the trials to run next, a runner runs
them, and `Selector.rank` turns the curves so far into a `Selection`. A selector sees measurements
only through the tidy table of curves (`lensllm.core.curves`) and keeps no state of its own, so that
a killed campaign can be resumed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pandas as pd

from lensllm.core.events import Event
from lensllm.core.points import too_small
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.core.trials import Trial


@dataclass(frozen=True)
class Decision:
    """The trials that a selector asks for next, with its reasons.

    Attributes:
        trials: The trials to run; none when there is nothing more to learn or to spend.
        events: The reasons for these trials, or for stopping, and one event of the kind `stopped`
            for each candidate that is currently not worth another trial. Later trials of other
            candidates can change that.
        p_best: Probability of being the best one, by candidate, where the decision rests on it.
    """

    trials: tuple[Trial, ...] = ()
    events: tuple[Event, ...] = ()
    p_best: Mapping[str, float] = field(default_factory=dict)


class Selector(ABC):
    """Chooses which trials to run, and ranks the candidates by their results.

    Attributes:
        score_sign: Sign by which scores are multiplied before an evaluation correlates them with
            losses.
        asks_early: Whether `ask` takes the trials in `budget.pending` into account, so that a
            campaign may ask again while they run. Otherwise it asks again only when all have ended,
            and the order in which they end has no influence.
    """

    score_sign: ClassVar[float] = 1.0
    asks_early: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """Name in tables; by default the class name in snake case."""
        letters = [f"_{c.lower()}" if c.isupper() else c for c in type(self).__name__]
        return "".join(letters).lstrip("_")

    def preparation_cost(self, task: Task) -> float:
        """FLOPs needed before the first trial; a campaign charges them once."""
        return 0.0

    @abstractmethod
    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """The trials to run next; none when there is nothing more to learn or to spend.

        Args:
            task: The selection task.
            curves: Tidy table of the points seen; losses that are not finite mean a diverged run.
            budget: The budget, what was spent of it, and the trials that are still running, which
                need not be left out of the answer; the campaign charges it.

        Raises:
            BudgetTooSmallError: The budget does not pay for the first trials.
        """

    @abstractmethod
    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank all candidates of the task by the curves seen.

        Args:
            task: The selection task.
            curves: Tidy table of the points seen; losses that are not finite mean a diverged run.

        Returns:
            The ranking without its cost, which the campaign fills in.
        """

    def curve_draws(
        self, task: Task, curves: pd.DataFrame, model: str, sizes: np.ndarray, n_draws: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Joint draws of one candidate's losses at several sizes, also beyond D_full.

        Args:
            task: The selection task.
            curves: Tidy table of the points seen.
            model: Name of the candidate.
            sizes: Sizes D > 0, ascending, shape (n_sizes,).
            n_draws: Number of draws.

        Returns:
            Losses of the curve, and as they would be measured, both of shape (n_draws, n_sizes);
            `None` from selectors that do not predict curves.
        """
        return None


def ask_for(
    task: Task, curves: pd.DataFrame, pairs: Iterable[tuple[str, int]], *events: Event
) -> Decision:
    """Ask for the (candidate, D) pairs that were not measured yet, each once, in their order.

    Args:
        task: The task.
        curves: Tidy table of the points seen.
        pairs: The wanted pairs, measured ones included or not.
        *events: Why.
    """
    seen = set(zip(curves["model"], curves["n_samples"].astype(int), strict=True))
    wanted = (task.trial(*pair) for pair in dict.fromkeys(pairs) if pair not in seen)
    return Decision(tuple(wanted), events)


def affordable_size(task: Task, budget: Budget, *, cumulative: bool, include_zero: bool) -> int:
    """The largest D that the budget allows for all candidates.

    Args:
        task: The selection task.
        budget: The total budget; what was already spent counts as available.
        cumulative: Whether all smaller sizes must be paid for as well.
        include_zero: Whether D = 0 may be returned, and is paid for when `cumulative`.

    Returns:
        D, a size of at least one candidate; a candidate without this size adds no cost for it.

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
        what = f"one trial of every candidate at n_samples = {sizes[0]}"
        raise too_small(task, budget, what, cheapest)
    return best
