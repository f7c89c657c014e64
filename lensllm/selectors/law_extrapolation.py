"""Fit a law to every affordable point and extrapolate it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lensllm.core.events import RANKED_BY, Event
from lensllm.core.points import finite_points, losses_by_size, require_sizes
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, Task
from lensllm.laws import LawFits, ScalingLaw, fit_law, fit_laws
from lensllm.selectors.base import Decision, Selector, affordable_size, ask_for
from lensllm.selectors.forecast import N_DRAWS, Forecast, rank_forecasts


@dataclass(frozen=True)
class LawExtrapolation(Selector):
    """Fit a law to all D ≤ D_max of each candidate, extrapolate to D_full (RSL's baselines).

    `vanilla_fit` and `rectified_fit` of the papers' tables are this selector with the vanilla and
    the rectified law. D = 0 is included if the law is finite there, as in the papers, though the
    loss before training is not on the curve of the fine-tuned models, so that intervals are too
    narrow. Candidates are ranked by the fit, as in the papers; the predicted loss, its interval and
    the probability of being best come from the posterior of the law given the points.

    Attributes:
        law: The law.
        objective: See `lensllm.laws.fit_law`.
        delta: δ of the Huber objective.
        n_starts: Starting points of each fit.
        seed: Seed of starts and draws.
    """

    law: ScalingLaw
    objective: str = "squared_log"
    delta: float = 1e-3
    n_starts: int = 8
    seed: int = 0

    @property
    def name(self) -> str:
        """`vanilla_fit`, `rectified_fit`, ..."""
        return f"{self.law.name}_fit"

    def ask(self, task: Task, curves: pd.DataFrame, budget: Budget) -> Decision:
        """All sizes up to the largest one that can be paid for together with all below it.

        Raises:
            BudgetTooSmallError: There are fewer affordable sizes than the law has parameters.
        """
        zero = self.law.defined_at_zero
        largest = affordable_size(task, budget, cumulative=True, include_zero=zero)
        what = f"the {self.law.name} law"
        require_sizes(task, budget, largest, self.law.n_params, what, include_zero=zero)
        pairs = [
            (model, n)
            for model in task.names
            for n in task.available[model]
            if n <= largest and (n > 0 or zero)
        ]
        return ask_for(task, curves, pairs)

    def rank(self, task: Task, curves: pd.DataFrame) -> Selection:
        """Rank by the fitted laws at D_full, smallest first."""
        losses = losses_by_size(curves, task.measure)
        zero = self.law.defined_at_zero
        sizes = sorted({n for seen in losses.values() for n in seen if n > 0 or zero})
        basis = Event(RANKED_BY, reason="law", message=self.law.name)
        if not sizes:
            return rank_forecasts(self.name, task, {}, basis)
        table = [[losses.get(model, {}).get(n, math.nan) for n in sizes] for model in task.names]
        fits = fit_laws(
            self.law,
            np.array(sizes, dtype=float),
            np.array(table),
            objective=self.objective,
            use_zero=zero,
            delta=self.delta,
            n_starts=self.n_starts,
            seed=self.seed,
            on_error="skip",
        )
        forecasts = law_forecasts(fits, task.n_samples_full, np.random.default_rng(self.seed))
        notes = [
            Event("fit_warning", model, message="; ".join(fit.warnings))
            for model, fit in zip(task.names, fits, strict=True)
            if fit.warnings
        ]
        by_name = dict(zip(task.names, forecasts, strict=True))
        return rank_forecasts(self.name, task, by_name, basis, notes)

    def curve_draws(
        self, task: Task, curves: pd.DataFrame, model: str, sizes: np.ndarray, n_draws: int
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Draws of the posterior of the law that is fitted to the candidate's points."""
        seen = losses_by_size(curves, task.measure).get(model, {})
        points = finite_points(seen, include_zero=self.law.defined_at_zero)
        if len(points[0]) < self.law.n_params:
            return None
        fit = fit_law(
            self.law,
            *points,
            objective=self.objective,
            use_zero=self.law.defined_at_zero,
            delta=self.delta,
            n_starts=self.n_starts,
            seed=self.seed,
        )
        if fit.posterior is None:
            return None
        without, measured = (
            fit.posterior.sample(sizes, n_draws, np.random.default_rng(self.seed), noise=noise)
            for noise in (False, True)
        )
        return without, measured


def law_forecasts(fits: LawFits, n_samples: int, rng: np.random.Generator) -> list[Forecast | str]:
    """Forecasts at size D: predictions come from the posterior, the score from the fit.

    With few points, the best fit can be far from the centre of the posterior.

    Args:
        fits: Fits of one law to every candidate; skipped candidates have `nan` parameters.
        n_samples: Size D.
        rng: Source of the draws.

    Returns:
        For each curve its forecast, or the reason why it was not fitted.
    """
    scores = fits.predict([float(n_samples)])[:, 0]
    forecasts: list[Forecast | str] = []
    for i, posterior in enumerate(fits.posteriors):
        if posterior is None or not math.isfinite(scores[i]):
            forecasts.append(f"too few usable trials: {int(fits.n_points[i])} for a law")
            continue
        low, middle, high = posterior.quantiles(float(n_samples), [0.1, 0.5, 0.9])[:, 0]
        draws = posterior.sample(float(n_samples), N_DRAWS, rng)[:, 0]
        forecasts.append(
            Forecast(float(middle), float(low), float(high), np.log(draws), float(scores[i]))
        )
    return forecasts
