"""A log-log line through the largest sizes: the baseline that needs no law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lensllm.core.events import RANKED_BY, Event
from lensllm.core.points import finite_points, largest_window, losses_by_size
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.selectors.base import Decision, Selector, ask_for
from lensllm.selectors.forecast import Forecast, rank_forecasts
from lensllm.selectors.line import LogLogLine


@dataclass(frozen=True)
class LastLine(Selector):
    """Extrapolate a log-log line through the `n_points` largest affordable sizes to D_full.

    Attributes:
        n_points: Number of points of the line, ≥ 2. With two there is no interval.
        seed: Seed of the draws for the probability of being best.
    """

    n_points: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_points < 2:
            raise ValueError(f"Expected `n_points` >= 2 for a line, got {self.n_points}")

    @property
    def name(self) -> str:
        """`last_2_line`, `last_3_line`, ..."""
        return f"last_{self.n_points}_line"

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """The largest affordable sizes of every candidate."""
        return ask_for(task, curves, largest_window(task, budget, self.n_points))

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by the lines' predictions, smallest first."""
        losses = losses_by_size(curves, task.measure)
        rng = np.random.default_rng(self.seed)
        forecasts = {
            model: line_forecast(losses.get(model, {}), self.n_points, task.n_samples_full, rng)
            for model in task.names
        }
        basis = Event(RANKED_BY, reason="last_line", numbers={"n_points": self.n_points})
        return rank_forecasts(self.name, task, forecasts, basis)


def last_line(seen: dict[int, float], n_points: int) -> LogLogLine | None:
    """The line through the last points of one candidate; `None` with fewer than two points."""
    sizes, losses = finite_points(seen, include_zero=False)
    return None if len(sizes) < 2 else LogLogLine.fit(sizes[-n_points:], losses[-n_points:])


def line_forecast(
    seen: dict[int, float], n_points: int, n_samples: int, rng: np.random.Generator
) -> Forecast | str:
    """The forecast of that line at size D, or the reason why there is none."""
    line = last_line(seen, n_points)
    if line is None:
        n_usable = len(finite_points(seen, include_zero=False)[0])
        return f"{n_usable} usable trials at D > 0, a line needs 2"
    return line.forecast(n_samples, rng)
