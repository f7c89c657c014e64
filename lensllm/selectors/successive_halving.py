"""Successive halving on extrapolated losses: compute goes to the most promising candidates."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lensllm.core.events import RANKED_BY, Event
from lensllm.core.points import losses_by_size, sizes_up_to, too_small
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.selectors.base import Decision, Selector, ask_for
from lensllm.selectors.forecast import rank_forecasts
from lensllm.selectors.last_line import last_line, line_forecast


@dataclass(frozen=True)
class SuccessiveHalving(Selector):
    """Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943) on extrapolated losses.

    All candidates are measured at `n_points` sizes. Then, round by round, the share 1/η with the
    smallest loss extrapolated by a log-log line gets the next larger size, until one candidate
    would be left. The first size is the largest one at which all rounds are affordable, whichever
    candidates survive. In the end all candidates are ranked by their latest lines: halving
    allocates the compute, but does not decide the ranking.

    Attributes:
        eta: η > 1; the share 1/η of the candidates survives each round.
        n_points: Number of points of a line, ≥ 2.
        seed: Seed of the draws for the probability of being best.
    """

    eta: float = 2.0
    n_points: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.eta > 1:
            raise ValueError(f"Expected `eta` > 1, got {self.eta:g}")
        if self.n_points < 2:
            raise ValueError(f"Expected `n_points` >= 2 for a line, got {self.n_points}")

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """The first points of all candidates, then the next size of the survivors."""
        losses = losses_by_size(curves, task.measure)
        grid = [n for n in task.sizes if n > 0 and budget.allows(n)]
        counts, first = self.schedule(task, grid, budget)
        alive = list(task.names)
        pairs = [
            (model, n)
            for model in alive
            for n in sizes_up_to(task, model, grid[first])[-self.n_points :]
        ]
        for step, count in enumerate(counts[1:], start=1):
            if any(n not in losses.get(model, {}) for model, n in pairs):
                break
            alive = self.survivors(task, losses, alive, grid[first + step - 1], count)
            size = grid[first + step]
            pairs += [(model, size) for model in alive if size in task.available[model]]
        return ask_for(task, curves, pairs)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by the predictions of the latest lines, smallest first."""
        losses = losses_by_size(curves, task.measure)
        rng = np.random.default_rng(self.seed)
        forecasts = {
            model: line_forecast(losses.get(model, {}), self.n_points, task.n_samples_full, rng)
            for model in task.names
        }
        notes = [
            Event("trained", model, n_samples=max(seen)) for model, seen in losses.items() if seen
        ]
        basis = Event(RANKED_BY, reason="last_line", numbers={"n_points": self.n_points})
        return rank_forecasts(self.name, task, forecasts, basis, notes)

    def survivors(
        self,
        task: Task,
        losses: dict[str, dict[int, float]],
        alive: list[str],
        n_samples: int,
        count: int,
    ) -> list[str]:
        """The `count` candidates with the smallest predictions from points up to a given size."""

        def prediction(model: str) -> float:
            seen = {n: x for n, x in losses.get(model, {}).items() if n <= n_samples}
            line = last_line(seen, self.n_points)
            return math.inf if line is None else line.log_loss(task.n_samples_full)

        best = sorted(alive, key=prediction)[:count]
        return [model for model in alive if model in best]

    def schedule(self, task: Task, grid: list[int], budget: Budget) -> tuple[list[int], int]:
        """The number of candidates in each round, and the position in the grid of the first D.

        The number of rounds takes precedence over a large first size.

        Raises:
            BudgetTooSmallError: Not even the first round is affordable.
        """
        if len(grid) < 2:
            raise too_small(task, budget, "at least two sizes, which a line needs", None)
        counts = [len(task.names)]
        while (fewer := math.ceil(counts[-1] / self.eta)) >= 2 and fewer < counts[-1]:
            counts.append(fewer)
        cost = math.inf
        for n_rounds in range(min(len(counts), len(grid) - 1), 0, -1):
            for first in range(len(grid) - n_rounds, 0, -1):
                cost = self._worst_cost(task, grid, counts[:n_rounds], first)
                if cost <= budget.flops:
                    return counts[:n_rounds], first
        raise too_small(task, budget, "the first two trials of every candidate", cost)

    def _worst_cost(self, task: Task, grid: list[int], counts: list[int], first: int) -> float:
        """FLOPs of all rounds if the most expensive candidates survived."""
        total = sum(
            task.costs[model, n]
            for model in task.names
            for n in sizes_up_to(task, model, grid[first])[-self.n_points :]
        )
        for step, count in enumerate(counts[1:], start=1):
            size = grid[first + step]
            costs = [task.costs[m, size] for m in task.names if size in task.available[m]]
            total += sum(sorted(costs)[-count:])
        return total
