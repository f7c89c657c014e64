"""From forecasts of single candidates to a ranking with intervals and probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lensllm.core.events import RANKED_BY, Event
from lensllm.core.selection import RankedModel, Selection
from lensllm.core.task import Task
from lensllm.predictors.draws import LossDraws

N_DRAWS = 4000


@dataclass(frozen=True)
class Forecast:
    """The forecast of one candidate's loss at D_full.

    Attributes:
        loss: Predicted loss in the unit of the task's measure.
        lower80: Lower end of its 80 % interval; `nan` if there are too few points for one.
        upper80: Upper end of the same interval.
        log_draws: Draws of the log loss, shape (n_draws,); `None` if there is no interval.
        score: The score that the candidate is ranked by; its predicted loss by default.
    """

    loss: float
    lower80: float = math.nan
    upper80: float = math.nan
    log_draws: np.ndarray | None = None
    score: float | None = None


def rank_forecasts(
    name: str,
    task: Task,
    forecasts: Mapping[str, Forecast | str],
    basis: Event,
    notes: Sequence[Event] = (),
) -> Selection:
    """Rank candidates by the score of their forecasts, smallest first.

    Args:
        name: Name of the selector.
        task: The selection task.
        forecasts: For each candidate its forecast, or the reason why there is none.
        basis: The basis of the predictions, an event of the kind `ranked_by`.
        notes: Further events to report.

    Returns:
        The ranking; candidates without a forecast come last, with the reason as their status.
    """
    entries = []
    shares = probabilities_of_best(forecasts)
    for model in task.names:
        forecast = forecasts.get(model, "no usable trial")
        if isinstance(forecast, str):
            entries.append(RankedModel(model, math.nan, status=forecast))
        else:
            entries.append(
                RankedModel(
                    model,
                    forecast.loss if forecast.score is None else forecast.score,
                    forecast.loss,
                    forecast.lower80,
                    forecast.upper80,
                    shares.get(model, math.nan),
                )
            )
    return Selection.of(name, task, entries, basis, *notes)


def forecasts_of_draws(draws: LossDraws, seed: int) -> dict[str, Forecast | str]:
    """Forecasts of a measured loss at D_full, from joint draws.

    Args:
        draws: The draws.
        seed: Seed of the noise of a measurement.

    Returns:
        For each candidate the exponential of its expected log loss, and its 80 % interval.
    """
    end = draws.log_loss[:, :, -1]
    rng = np.random.default_rng(seed)
    measured = end + draws.noise * rng.standard_normal(end.shape)
    low, high = np.exp(np.quantile(measured, (0.1, 0.9), axis=0))
    centre = np.exp(end.mean(axis=0))
    return {
        name: Forecast(float(centre[m]), float(low[m]), float(high[m]), end[:, m])
        for m, name in enumerate(draws.models)
    }


def probabilities_of_best(forecasts: Mapping[str, Forecast | str]) -> dict[str, float]:
    """Probability that each candidate has the smallest loss, from joint draws.

    Forecasts of different candidates are taken as independent. Candidates without a forecast are
    left out. If any forecast has no distribution, no probabilities are computed.

    Returns:
        Probabilities that sum to 1, or an empty mapping.
    """
    given = {model: item for model, item in forecasts.items() if isinstance(item, Forecast)}
    draws = [item.log_draws for item in given.values() if item.log_draws is not None]
    if not given or len(draws) < len(given):
        return {}
    winners = np.argmin(np.stack(draws), axis=0)
    shares = np.bincount(winners, minlength=len(given)) / len(winners)
    return dict(zip(given, map(float, shares), strict=True))


def rank_losses_at(
    name: str, task: Task, losses: Mapping[str, Mapping[int, float]], n_samples: int
) -> Selection:
    """Rank candidates by their test loss at one size, without predicting a loss at D_full.

    Args:
        name: Name of the selector.
        task: The selection task.
        losses: Measured losses, by candidate and size.
        n_samples: The size.

    Returns:
        The ranking; candidates without a finite loss at that size come last.
    """
    entries = []
    for model in task.names:
        loss = losses.get(model, {}).get(n_samples)
        if loss is None:
            entries.append(RankedModel(model, math.nan, status=f"no trial at D = {n_samples}"))
        elif not math.isfinite(loss):
            entries.append(RankedModel(model, math.nan, status=f"diverged at D = {n_samples}"))
        else:
            entries.append(RankedModel(model, loss))
    by = Event(RANKED_BY, reason="measured", n_samples=n_samples)
    return Selection.of(name, task, entries, by)
