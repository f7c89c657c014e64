"""The pooled predictor: from curves to joint draws of all candidates' losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lensllm.core.curves import read_curves
from lensllm.core.task import Task
from lensllm.predictors.draws import LossDraws
from lensllm.predictors.pooled.earlier import Standings, earlier_standings, unbiased
from lensllm.predictors.pooled.model import PooledModel, fit_pooled
from lensllm.predictors.pooled.sampling import draw_log_loss
from lensllm.predictors.pooled.settings import PooledSettings
from lensllm.predictors.pooled.table import LossTable


@dataclass(frozen=True, eq=False)
class PooledPredictor:
    """Predicts all candidates of a task together (see docs/pooled.md).

    The mean is a rectified law whose exponent and floor the candidates share; how fast they come
    closer to each other, and what a family has of its own, is learned from how the laws predict the
    task's later points from its earlier ones. Where earlier tasks are given, what all candidates'
    laws got wrong there is taken off, and what the points here leave open follows where the
    candidates ended there. Points at D = 0 are not used.

    Attributes:
        settings: The settings.
        prior_curves: Tidy table of curves from earlier tasks, or where to read one
            (`lensllm.core.curves.read_curves`), which is done at once; rows of the task's own
            data set are left out. Losses are in the unit that is ranked by. `None` for no
            earlier tasks.

    Raises:
        FileNotFoundError: There is nothing to be read.
        ValueError: What is there are no curves.
    """

    settings: PooledSettings = field(default_factory=PooledSettings)
    prior_curves: pd.DataFrame | str | None = None
    _standings: dict[Any, Standings] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.prior_curves, str | Path):
            table = read_curves(self.prior_curves, allow_missing=True)
            object.__setattr__(self, "prior_curves", table)

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
        earlier = self._earlier(task.dataset)
        if earlier is not None:
            model = unbiased(model, float(grid[-1]), earlier, self.settings, task.measure)
        log_loss = draw_log_loss(model, grid, self.settings, n_draws, rng)
        n_known = 0
        if earlier is not None:
            key = (task.dataset, model.table.models, float(grid[-1]))
            if key not in self._standings:
                self._standings[key] = earlier_standings(
                    *key[1:], earlier, self.settings, task.measure
                )
            standings = self._standings[key]
            if standings.n_known > 1:
                log_loss = standings.condition(log_loss, rng)
                n_known = standings.n_known
        return LossDraws(
            model.table.models, tuple(int(size) for size in sizes), log_loss, model.noise, n_known
        )

    def _earlier(self, dataset: str) -> pd.DataFrame | None:
        """Curves of other data sets, if there are any."""
        prior = self.prior_curves
        return prior[prior["dataset"] != dataset] if isinstance(prior, pd.DataFrame) else None
