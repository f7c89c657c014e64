"""The pooled predictor: from curves to joint draws of all candidates' losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lensllm.core.task import Task
from lensllm.predictors.draws import LossDraws
from lensllm.predictors.pooled.earlier import earlier_standings, unbiased
from lensllm.predictors.pooled.law import paired_normals
from lensllm.predictors.pooled.model import PooledModel, fit_pooled
from lensllm.predictors.pooled.settings import PooledSettings
from lensllm.predictors.table import LossTable

# The autocorrelation of an error's rate falls to 1/e when the distance grows e²-fold.
_MEMORY = 2.0


@dataclass(frozen=True, eq=False)
class PooledPredictor:
    """Predicts all candidates of a task together (see docs/results/pooled.md).

    The mean is a rectified law whose exponent and floor the candidates share; how fast they come
    closer to each other, and what a family has of its own, is learned from how the laws predict the
    task's later points from its earlier ones. Where the task has `prior_curves`, the mean error of
    all laws on these earlier tasks is subtracted, and the draws are conditioned on where the
    candidates ended there. Points at D = 0 are not used.

    Attributes:
        settings: The settings.
    """

    settings: PooledSettings = field(default_factory=PooledSettings)

    def fit(self, task: Task, curves: pd.DataFrame) -> PooledModel | None:
        """Fit to the points seen so far, without earlier tasks.

        Args:
            task: The task.
            curves: Tidy table of the points seen.

        Returns:
            The fitted predictor, for the candidates with at least one finite loss at D > 0; `None`
            where no candidate has one.
        """
        table = LossTable.from_curves(task.candidates, curves, task.measure).measured()
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


def draw_log_loss(
    model: PooledModel,
    sizes: np.ndarray,
    settings: PooledSettings,
    n_draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws of the candidates' log losses without the noise of a measurement.

    Exponent, floor, and mean and spread of slopes are drawn once for all candidates, and so is an
    error that all share; every candidate has a slope and an error of its own besides. Errors are
    rates times the doublings beyond a candidate's last size. Draws come in pairs whose normal
    numbers are each other's negatives (antithetic variates), for means with less noise.

    Args:
        model: The fitted predictor.
        sizes: Sizes D > 0, ascending, shape (n_sizes,).
        settings: The settings.
        n_draws: Number of draws.
        rng: Source of randomness.

    Returns:
        Shape (n_draws, n_models, n_sizes).
    """
    shape = rng.choice(model.weights.size, size=(n_draws + 1) // 2, p=model.weights.ravel())
    shape = np.repeat(shape, 2)[:n_draws]
    floor, beta = np.unravel_index(shape, model.weights.shape)
    draws = np.empty((n_draws, len(model.table.models), len(sizes)))
    for position, law in enumerate(model.laws):
        rows = np.flatnonzero(floor == position)
        draws[rows] = law.draw_log_loss(sizes, beta[rows], rng)
    draws -= model.correction(sizes)
    distance = model.doublings(sizes)
    own = settings.inflation * np.hypot(model.effect_spread, model.rate_spread)
    shared = settings.inflation * model.bias_spread
    draws += own[:, None] * distance * _drifting(distance, n_draws, rng)
    common = distance.max(axis=0, keepdims=True)
    draws += shared * distance * _drifting(common, n_draws, rng)
    return draws


def _drifting(distance: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Standard normal rates that drift with the logarithm of the distance.

    Args:
        distance: Doublings, ascending along the last axis, shape (n_rows, n_sizes).
        n_draws: Number of draws.
        rng: Source of randomness.

    Returns:
        Shape (n_draws, n_rows, n_sizes).
    """
    rates = paired_normals((n_draws, *distance.shape), rng)
    for k in range(1, distance.shape[1]):
        before, here = distance[:, k - 1], distance[:, k]
        gap = np.log(np.maximum(here, 1e-9) / np.maximum(before, 1e-9))
        kept = np.where(before > 0, np.exp(-gap / _MEMORY), 0.0)
        rates[..., k] = kept * rates[..., k - 1] + np.sqrt(1.0 - kept**2) * rates[..., k]
    return rates
