"""The pooled predictor: from curves to joint draws of all candidates' losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lensllm.core.task import Task
from lensllm.predictors.draws import LossDraws
from lensllm.predictors.pooled.earlier import earlier_standings, unbiased
from lensllm.predictors.pooled.model import PooledModel, fit_pooled
from lensllm.predictors.pooled.sampling import draw_log_loss
from lensllm.predictors.pooled.settings import PooledSettings
from lensllm.predictors.pooled.table import LossTable


@dataclass(frozen=True, eq=False)
class PooledPredictor:
    """Predicts all candidates of a task together (see docs/pooled.md).

    The mean is a rectified law whose exponent and floor the candidates share; how fast they come
    closer to each other, and what a family has of its own, is learned from how the laws predict the
    task's later points from its earlier ones. Where the task has `prior_curves`, what all
    laws got wrong there is taken off, and what the points here leave open follows where the
    candidates ended there. Points at D = 0 are not used.

    Attributes:
        settings: The settings.
    """

    settings: PooledSettings = field(default_factory=PooledSettings)

    def fit(self, task: Task, curves: pd.DataFrame) -> PooledModel | None:
        """Fit to the points seen so far, without earlier tasks.

        Args:
            task: The question.
            curves: Tidy table of the points seen.

        Returns:
            The fitted predictor, for the candidates with at least one finite loss at D > 0; `None`
            where no candidate has one.
        """
        table = LossTable.from_curves(task.candidates, curves, task.measure)
        return fit_pooled(table, self.settings) if table.models else None

    def draws(
        self,
        task: Task,
        curves: pd.DataFrame,
        sizes: Sequence[int],
        *,
        n_draws: int,
        seed: int,
    ) -> LossDraws:
        """Joint draws at the given sizes; see `lensllm.predictors.draws.Predictor`."""
        model = self.fit(task, curves)
        if model is None:
            return LossDraws((), tuple(sizes), np.empty((n_draws, 0, len(sizes))), np.empty(0))
        return self.draws_of(model, task, sizes, n_draws=n_draws, seed=seed)

    def draws_of(
        self, model: PooledModel, task: Task, sizes: Sequence[int], *, n_draws: int, seed: int
    ) -> LossDraws:
        """Joint draws from a fitted predictor, given the earlier tasks; see `draws`."""
        rng = np.random.default_rng(seed)
        grid = np.array(sizes, dtype=float)
        prior, target = task.prior_curves, float(grid[-1])
        if prior is not None:
            rows = prior.but(task.dataset)
            model = unbiased(model, target, rows, self.settings, task.measure)
        log_loss = draw_log_loss(model, grid, self.settings, n_draws, rng)
        n_known = 0
        if prior is not None:
            models = model.table.models
            standings = prior.once(
                (self, task.dataset, models, target, task.measure),
                lambda: earlier_standings(models, target, rows, self.settings, task.measure),
            )
            if standings.n_known > 1:
                log_loss = standings.condition(log_loss, rng)
                n_known = standings.n_known
        return LossDraws(
            model.table.models, tuple(int(size) for size in sizes), log_loss, model.noise, n_known
        )
