"""What earlier tasks say of the candidates of this one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lensllm.core.measures import LOSS, Measure
from lensllm.predictors.posterior import Hints, Points, posterior
from lensllm.predictors.prior import CurvePrior
from lensllm.predictors.table import LossTable, Named

# The prior probability that earlier tasks are informative at all, and the prior of the sum of their
# coefficients and of how it is shared among them: learned on recorded tasks, each with others as
# its earlier ones (scripts/learn_prior.py).
LIKE = 0.3
SUM_MEAN, SUM_SPREAD, SHARE_SPREAD = 0.5, 0.4, 0.15
# Distances from the median are clipped at this many robust standard deviations.
FARTHEST = 3.0
_NORMAL = 1.4826


def earlier_effects(
    prior: CurvePrior,
    candidates: Sequence[Named],
    curves: pd.DataFrame,
    grid: Sequence[float] | np.ndarray,
    measure: Measure = LOSS,
) -> np.ndarray:
    """Where each candidate's curve lies among the others on each earlier task.

    Args:
        prior: The prior.
        candidates: The candidates of this task.
        curves: Tidy table of curves of earlier tasks; every data set is a task of its own.
        grid: Sizes D > 0, ascending.
        measure: Which loss of these curves.

    Returns:
        Expected log losses less their median over the candidates that an earlier task measured, 0
        for the others, shape (n_models, n_sizes, n_tasks); tasks that measured fewer than two are
        left out.
    """
    position = {item.name: i for i, item in enumerate(candidates)}
    found = []
    for _, rows in curves[curves["model"].isin(position)].groupby("dataset"):
        table = LossTable.from_curves(candidates, rows, measure)
        known = np.flatnonzero(table.seen.any(axis=1))
        if len(known) < 2:
            continue
        table = table.take(known)
        points = Points.of(table, grid, float(table.sizes[0]))
        mean = posterior(prior, points, grid).expected
        away = mean - np.median(mean, axis=0)
        scale = _NORMAL * np.median(np.abs(away), axis=0) + 1e-12
        effect = np.zeros((len(candidates), len(grid)))
        effect[known] = np.clip(away, -FARTHEST * scale, FARTHEST * scale)
        found.append(effect)
    return np.stack(found, axis=-1) if found else np.zeros((len(candidates), len(grid), 0))


def hints_of(effects: np.ndarray) -> list[tuple[float, Hints]]:
    """Effects on earlier tasks as hints, with the probability that they count."""
    count = effects.shape[-1]
    if not count:
        return []
    mean = np.full(count, SUM_MEAN / count)
    shared = np.full((count, count), (SUM_SPREAD / count) ** 2)
    single = (SHARE_SPREAD**2 / count) * (np.eye(count) - 1.0 / count)
    return [(LIKE, Hints(effects, mean, shared + single))]
