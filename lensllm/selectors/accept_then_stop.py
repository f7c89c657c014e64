"""Accept then Stop, the selector of the Rectified Scaling Law paper."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd

from lensllm.core.events import RANKED_BY, Event
from lensllm.core.points import losses_by_size, require_sizes, sizes_up_to
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.selectors.base import Decision, Selector, affordable_size, ask_for
from lensllm.selectors.forecast import Forecast, rank_forecasts
from lensllm.selectors.line import LogLogLine


@dataclass(frozen=True)
class Walk:
    """The state of one candidate's walk from D_max down to smaller sizes.

    Attributes:
        accepted: Sizes that the line is fitted to, descending.
        ask: Size to be tested next, if it has not been measured; `None` when the walk has ended.
        note: Why it stopped, in words.
    """

    accepted: tuple[int, ...]
    ask: int | None = None
    note: str = ""


@dataclass(frozen=True)
class AcceptThenStop(Selector):
    """Accept then Stop, AtS (Algorithm 1 of Lin et al., ICML 2024, arXiv:2402.02314).

    Fit a line of log L on log D to the k largest sizes. Accept the next smaller size while its
    absolute residual is at most δ · (population standard deviation of the residuals of the points
    accepted so far), else stop; then extrapolate to D_full. As in the paper's published figures,
    all sizes are used if there are at most k; otherwise the smallest size never enters the line,
    and so is not asked for either. D = 0 is not used.

    Under a budget of FLOPs, D_max is the largest size at which even the longest walk of every
    candidate is affordable; the budget is charged only for the trials actually asked for.

    Attributes:
        k: Points that are accepted untested, ≥ 3 (two leave no residuals).
        delta: δ > 0, the threshold.
        seed: Seed of the draws for the probability of being best.
    """

    asks_early: ClassVar[bool] = True  # no walk depends on another one
    k: int = 3
    delta: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.k < 3:
            raise ValueError(f"Expected `k` >= 3, got {self.k}: two points leave no residuals")
        if not self.delta > 0:
            raise ValueError(f"Expected `delta` > 0, got {self.delta:g}")

    @property
    def name(self) -> str:
        """`ats`, as in the papers' tables."""
        return "ats"

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """The k largest sizes of every candidate, then the next one of each open walk."""
        largest = affordable_size(task, budget, cumulative=True, include_zero=False)
        require_sizes(task, budget, largest, 2, "a line", include_zero=False)
        losses = losses_by_size(curves, task.measure)
        pairs: list[tuple[str, int]] = []
        for model in task.names:
            sizes = sizes_up_to(task, model, largest)
            first = [n for n in sizes[-self.k :] if n not in losses.get(model, {})]
            if not first:
                step = self.walk(sizes, losses.get(model, {}))
                first = [] if step.ask is None else [step.ask]
            pairs += [(model, n) for n in first]
        return ask_for(task, curves, pairs)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by the predictions of the accepted lines, smallest first."""
        losses = losses_by_size(curves, task.measure)
        rng = np.random.default_rng(self.seed)
        forecasts: dict[str, Forecast | str] = {}
        notes = []
        for model in task.names:
            seen = losses.get(model, {})
            sizes = [n for n in task.available[model] if n in seen and n > 0]
            smallest = next((n for n in task.available[model] if n > 0), 0)
            # The smallest available size never enters the line, even if it was not run.
            if len(sizes) >= self.k and sizes[0] != smallest:
                sizes = [smallest, *sizes]
            accepted = self.walk(tuple(sizes), seen).accepted
            if len(accepted) < 2:
                forecasts[model] = f"{len(accepted)} usable trials at D > 0, a line needs 2"
                continue
            points = np.array(sorted(accepted), dtype=float)
            line = LogLogLine.fit(points, np.array([seen[n] for n in sorted(accepted)]))
            forecasts[model] = line.forecast(task.n_samples_full, rng)
            ends = {"smallest": float(points[0]), "largest": float(points[-1])}
            notes.append(Event("line", model, numbers={"n_points": len(points), **ends}))
        rule = {"k": self.k, "delta": self.delta}
        basis = Event(RANKED_BY, reason="accepted_line", numbers=rule)
        return rank_forecasts(self.name, task, forecasts, basis, notes)

    def walk(self, sizes: tuple[int, ...], seen: dict[int, float]) -> Walk:
        """Walk down from the largest size as far as points are measured and accepted.

        Args:
            sizes: Sizes 0 < D ≤ D_max of one candidate, ascending.
            seen: Its losses by size; `nan` for a diverged trial, which is skipped.

        Returns:
            The accepted sizes and, if it has not been measured yet, the next size.
        """
        accepted: list[int] = []
        for n in reversed(sizes):
            enough = len(accepted) >= self.k
            if enough and n == sizes[0]:
                return Walk(tuple(accepted), note="reached the smallest size")
            if n not in seen:
                return Walk(tuple(accepted), ask=n)
            if not math.isfinite(seen[n]):
                continue
            if enough and not self._accepts(accepted, seen, n):
                return Walk(tuple(accepted), note=f"stopped at D = {n}")
            accepted.append(n)
        return Walk(tuple(accepted), note="used all sizes")

    def _accepts(self, accepted: list[int], seen: dict[int, float], n: int) -> bool:
        """Whether the residual of size n is within δ standard deviations of the accepted ones."""
        line = LogLogLine.fit(
            np.array(accepted, dtype=float), np.array([seen[size] for size in accepted])
        )
        residual = math.log(seen[n]) - line.log_loss(n)
        return abs(residual) <= self.delta * line.residual_std
