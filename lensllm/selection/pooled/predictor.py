"""The pooled predictor: from curves to joint draws of all candidates' losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from lensllm.curves import read_curves
from lensllm.selection.base import Task
from lensllm.selection.draws import LossDraws
from lensllm.selection.pooled.earlier import earlier_effects
from lensllm.selection.pooled.model import PooledModel, fit_pooled
from lensllm.selection.pooled.sampling import draw_log_loss
from lensllm.selection.pooled.settings import PooledSettings
from lensllm.selection.pooled.table import LossTable


@dataclass(frozen=True, eq=False)
class PooledPredictor:
    """Predicts all candidates of a task together (see docs/pooled.md).

    The mean is a rectified law whose exponent and floor the candidates share; how fast they come
    closer to each other, and what a family has of its own, is learned from how the laws predict the
    task's later points from its earlier ones. Points at D = 0 are not used.

    Attributes:
        settings: The settings.
        prior_curves: Tidy table of curves from earlier tasks, or where to read one
            (`lensllm.curves.read_curves`); rows of the task's own data set are left out. `None`
            for no earlier tasks.
    """

    settings: PooledSettings = field(default_factory=PooledSettings)
    prior_curves: pd.DataFrame | str | None = None

    def fit(self, task: Task, curves: pd.DataFrame) -> PooledModel | None:
        """Fit to the points seen so far.

        Args:
            task: The question.
            curves: Tidy table of the points seen.

        Returns:
            The fitted predictor, for the candidates with at least one finite loss at D > 0; `None`
            where no candidate has one.
        """
        table = LossTable.from_curves(task.candidates, curves)
        if not table.models:
            return None
        prior = self._earlier(task)
        expected = (
            None
            if prior is None
            else earlier_effects(table, float(task.n_samples_full), prior, self.settings)
        )
        return fit_pooled(table, self.settings, expected)

    def draws(
        self,
        task: Task,
        curves: pd.DataFrame,
        sizes: Sequence[int],
        *,
        n_draws: int,
        seed: int,
    ) -> LossDraws:
        """Joint draws at the given sizes; see `lensllm.selection.draws.Predictor`."""
        model = self.fit(task, curves)
        grid = tuple(int(size) for size in sizes)
        if model is None:
            return LossDraws((), grid, np.empty((n_draws, 0, len(grid))), np.empty(0))
        rng = np.random.default_rng(seed)
        log_loss = draw_log_loss(model, np.array(grid, dtype=float), self.settings, n_draws, rng)
        return LossDraws(model.table.models, grid, log_loss, model.noise)

    def _earlier(self, task: Task) -> pd.DataFrame | None:
        """Curves of other data sets, if there are any."""
        prior = self.prior_curves
        if prior is None:
            return None
        table = read_curves(prior, allow_missing=True) if isinstance(prior, str | Path) else prior
        table = table[table["dataset"] != task.dataset]
        return None if table.empty else table
