"""What earlier tasks say about where candidates end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lensllm.core.measures import LOSS, Measure
from lensllm.core.task import Candidate
from lensllm.predictors.pooled.model import PooledModel, fit_pooled
from lensllm.predictors.pooled.settings import PooledSettings
from lensllm.predictors.table import LossTable

# Standard deviation of a normal distribution over its median absolute deviation.
_NORMAL = 1.4826
# Standings are clipped at plus and minus this.
_FARTHEST = 2.5
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Standings:
    """Expected positions of the candidates among each other at D_full, by earlier tasks.

    A *standing* is a candidate's log loss at D_full less the median of all candidates, over their
    spread by the median absolute deviation, clipped to ±2.5 so that candidates that fail on a task
    do not blur the others. Standings z_k on K earlier tasks and on this one are
    taken as exchangeable, with correlation r between any two tasks, so that their mean z̄ is a
    measurement of the standing here: z̄ / r, with variance ((1 + (K − 1) r) / K − r²) / r².

    Attributes:
        value: The measurement, shape (n_models,); 0 where there is none.
        variance: Its variance; `inf` for candidates that no earlier task measured.
    """

    value: np.ndarray
    variance: np.ndarray

    @property
    def n_known(self) -> int:
        """Number of candidates that an earlier task measured."""
        return int(np.isfinite(self.variance).sum())

    def condition(self, log_loss: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Joint draws, given the standings (Matheron's rule).

        The spread of the true log losses here, over which standings are taken, is assumed to be
        that of all draws about the median of each draw, which has the spread of the expected log
        losses and their uncertainty. The less the task's own points determine, the farther the
        draws move towards what the earlier tasks say. At least two candidates must have a standing.

        Args:
            log_loss: Draws of log losses, the last size being D_full, shape (n_draws, n_models,
                n_sizes).
            rng: Source of randomness.

        Returns:
            The draws, same shape.
        """
        known = np.isfinite(self.variance)
        own = log_loss[:, known] - log_loss[:, known].mean(axis=1, keepdims=True)
        end = own[:, :, -1]
        shift = end - end.mean(axis=0)
        variance = (shift**2).mean(axis=0)
        scale = _spread(end - np.median(end, axis=1, keepdims=True))
        noise = scale**2 * self.variance[known]
        gain = np.einsum("dm,dms->ms", shift, own) / len(own) / (variance + noise + _TINY)[:, None]
        measured = scale * (self.value[known] - self.value[known].mean())
        imagined = end + np.sqrt(noise) * rng.standard_normal(end.shape)
        moved = log_loss.copy()
        moved[:, known] += gain * (measured - imagined)[:, :, None]
        return moved


def earlier_standings(
    models: Sequence[str],
    target: float,
    prior: pd.DataFrame,
    settings: PooledSettings,
    measure: Measure = LOSS,
) -> Standings:
    """Standings of this task's candidates on earlier data sets.

    Every earlier data set is predicted at D_full from all its points by the laws that its
    candidates share; the standings are those among the candidates that this task has as well.

    Args:
        models: Candidates of this task.
        target: D_full.
        prior: Tidy table of curves of earlier tasks.
        settings: The settings, with the correlation r.
        measure: Which loss.

    Returns:
        The standings.
    """
    total, count = np.zeros(len(models)), np.zeros(len(models))
    for _, curves in prior[prior["model"].isin(models)].groupby("dataset"):
        names = [Candidate(str(name)) for name in curves["model"].unique()]
        table = LossTable.from_curves(names, curves, measure).measured()
        if len(table.models) < 2:
            continue
        end = fit_pooled(table, settings).centre(np.array([target]))[:, 0]
        away = end - np.median(end)
        z = np.clip(away / (_spread(away) + _TINY), -_FARTHEST, _FARTHEST)
        standing = dict(zip(table.models, z, strict=True))
        total += [standing.get(name, 0.0) for name in models]
        count += [name in standing for name in models]
    r = settings.task_correlation
    if r == 0:
        count[:] = 0
    known = np.maximum(count, 1)
    variance = (1 + (known - 1) * r) / known - r**2
    return Standings(
        np.where(count > 0, total / known / (r + _TINY), 0.0),
        np.where(count > 0, variance / (r**2 + _TINY), np.inf),
    )


def unbiased(
    model: PooledModel,
    target: float,
    prior: pd.DataFrame,
    settings: PooledSettings,
    measure: Measure = LOSS,
) -> PooledModel:
    """The fitted predictor, corrected by the mean error of all candidates' laws on earlier tasks.

    Every earlier data set is predicted from its points up to the size that each candidate has been
    tried at here, and compared with the losses at the largest later size up to D_full. Mean errors
    b_k per doubling on K earlier tasks and on this one are taken as exchangeable about 0, with
    correlation γ, so that the mean b̄ predicts the error γ K / (1 + (K − 1) γ) b̄ here and explains
    the share γ² K / (1 + (K − 1) γ) of its variance.

    Args:
        model: The predictor, fitted to this task.
        target: D_full.
        prior: Tidy table of curves of earlier tasks.
        settings: The settings, with the correlation γ.
        measure: Which loss.

    Returns:
        The predictor with its `bias` and `bias_spread`; unchanged where no earlier task
        has enough later losses.
    """
    gamma = settings.bias_correlation
    if gamma == 0:
        return model
    last = dict(zip(model.table.models, model.table.last, strict=True))
    curves = prior[prior["model"].isin(last) & (prior["n_samples"] <= target)]
    found = [
        _bias(model.table, last, group, settings, measure) for _, group in curves.groupby("dataset")
    ]
    biases = [value for value in found if value is not None]
    if not biases:
        return model
    gain = gamma * len(biases) / (1 + (len(biases) - 1) * gamma)
    left = float(np.sqrt(1 - gamma * gain))
    return replace(model, bias=gain * float(np.mean(biases)), bias_spread=left * model.bias_spread)


def _bias(
    here: LossTable,
    last: Mapping[str, float],
    curves: pd.DataFrame,
    settings: PooledSettings,
    measure: Measure,
) -> float | None:
    """Mean error per doubling on one earlier task; `None` with fewer than two later losses."""
    family = dict(zip(here.models, here.families, strict=True))
    names = [Candidate(name, family=family[name]) for name in sorted(set(curves["model"]))]
    table = LossTable.from_curves(names, curves, measure).measured()
    reached = np.array([last[name] for name in table.models])
    early = table.log_loss.copy()
    early[table.sizes > reached[:, None]] = np.nan
    known = np.isfinite(early).any(axis=1)
    rows = np.flatnonzero(known & (table.last > reached))
    if len(rows) < 2:
        return None
    columns = np.isfinite(early[known]).any(axis=0)
    shown = replace(table, log_loss=early).take(np.flatnonzero(known)).at(columns)
    model, judged = fit_pooled(shown, settings), np.cumsum(known)[rows] - 1
    sizes, column = np.unique(table.last[rows], return_inverse=True)
    measured = table.log_loss[rows, np.searchsorted(table.sizes, table.last[rows])]
    error = model.centre(sizes)[judged, column] - measured
    return float((error / model.doublings(sizes)[judged, column]).mean())


def _spread(away: np.ndarray) -> float:
    """Standard deviation of numbers about their median, by the median absolute deviation."""
    return _NORMAL * float(np.median(np.abs(away)))
