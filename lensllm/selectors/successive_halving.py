"""Successive halving on a line: compute goes to the candidates that still look good."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lensllm.core.points import losses_by_size, sizes_up_to
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, BudgetTooSmallError, Task
from lensllm.selectors.base import Decision, Selector, ask_for
from lensllm.selectors.forecast import rank_forecasts, with_decisions
from lensllm.selectors.last_line import last_line, line_forecast


@dataclass(frozen=True)
class SuccessiveHalving(Selector):
    """Successive halving (Jamieson and Talwalkar 2016, arXiv:1502.07943) on the last points' line.

    All candidates get `n_points` sizes; then, round by round, the 1/η with the smallest loss
    extrapolated by a log-log line get the next larger size, until one would be left. The largest
    first size is taken at which all rounds can be paid for, whoever survives. In the end all
    candidates are ranked by their latest lines: halving decides where compute goes, not who wins.

    Attributes:
        eta: η > 1, the share 1/η goes on.
        n_points: Points of a line, ≥ 2.
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
        losses = losses_by_size(curves)
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
        """By the latest lines' predictions, smallest first."""
        losses = losses_by_size(curves)
        rng = np.random.default_rng(self.seed)
        forecasts = {
            model: line_forecast(losses.get(model, {}), self.n_points, task.n_samples_full, rng)
            for model in task.names
        }
        notes = [
            f"{model}: trained up to D = {max(seen)}" for model, seen in losses.items() if seen
        ]
        basis = f"a log-log line through its last {self.n_points} points"
        return with_decisions(rank_forecasts(self.name, task, forecasts, basis), notes)

    def survivors(
        self,
        task: Task,
        losses: dict[str, dict[int, float]],
        alive: list[str],
        n_samples: int,
        count: int,
    ) -> list[str]:
        """The `count` candidates with the smallest prediction from points up to one size."""

        def prediction(model: str) -> float:
            seen = {n: x for n, x in losses.get(model, {}).items() if n <= n_samples}
            line = last_line(seen, self.n_points)
            return math.inf if line is None else line.log_loss(task.n_samples_full)

        best = sorted(alive, key=prediction)[:count]
        return [model for model in alive if model in best]

    def schedule(self, task: Task, grid: list[int], budget: Budget) -> tuple[list[int], int]:
        """How many candidates each round has, and the position in the grid of the first D.

        As many rounds as can be had come before a large first size.

        Raises:
            BudgetTooSmallError: Not even the first round can be paid for.
        """
        if len(grid) < 2:
            limit = "" if budget.max_n_samples is None else f" <= {budget.max_n_samples}"
            raise BudgetTooSmallError(
                f"Expected at least two sizes 0 < n_samples{limit} for {task.dataset!r}, got "
                f"{len(grid)}: a line needs two points"
            )
        counts = [len(task.names)]
        while (fewer := math.ceil(counts[-1] / self.eta)) >= 2 and fewer < counts[-1]:
            counts.append(fewer)
        cost = math.inf
        for n_rounds in range(min(len(counts), len(grid) - 1), 0, -1):
            for first in range(len(grid) - n_rounds, 0, -1):
                cost = self._worst_cost(task, grid, counts[:n_rounds], first)
                if cost <= budget.flops:
                    return counts[:n_rounds], first
        raise BudgetTooSmallError(
            f"Expected a budget of at least {cost:.3g} {task.cost_unit} "
            f"({cost / task.full_cost:.2%} of fine-tuning every candidate in full), which pays for "
            f"the first two trials of every candidate; got {budget.flops:.3g}: raise "
            "budget.fraction or drop candidates"
        )

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
