"""From forecasts of single candidates to a ranking with intervals and probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lensllm.core.selection import RankedModel, Selection, order
from lensllm.core.task import Task
from lensllm.predictors.draws import LossDraws

N_DRAWS = 4000


@dataclass(frozen=True)
class Forecast:
    """What is expected of one candidate at D_full.

    Attributes:
        loss: Predicted test loss in nats per target token.
        lower80: Lower end of its 80 % interval; `nan` where the points allow none.
        upper80: Upper end.
        log_draws: Draws of the log loss, shape (n_draws,); `None` where there is no interval.
        score: What the candidate is ranked by; its predicted loss by default.
    """

    loss: float
    lower80: float = math.nan
    upper80: float = math.nan
    log_draws: np.ndarray | None = None
    score: float | None = None


def rank_forecasts(
    name: str, task: Task, forecasts: Mapping[str, Forecast | str], basis: str
) -> Selection:
    """Rank candidates by the score of their forecasts, smallest first.

    Args:
        name: Name of the selector.
        task: The question.
        forecasts: For each candidate its forecast, or the reason why there is none.
        basis: In words, what a prediction rests on.

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
    ranking = order(entries)
    return Selection(
        name, task.dataset, task.n_samples_full, ranking, _reason(ranking[0], task, basis)
    )


def forecasts_of_draws(draws: LossDraws, seed: int) -> dict[str, Forecast | str]:
    """Forecasts of a measured loss at D_full, by joint draws.

    Args:
        draws: The draws.
        seed: Seed of the noise of a measurement.

    Returns:
        By candidate its expected log loss, as a loss, and 80 % interval.
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
    """Probability that each candidate has the smallest loss, by joint draws.

    The candidates' forecasts count as independent. Candidates without a forecast are left out;
    where a forecast has no distribution, no probability can be had for any.

    Returns:
        Shares that sum to 1, or an empty mapping.
    """
    given = {model: item for model, item in forecasts.items() if isinstance(item, Forecast)}
    draws = [item.log_draws for item in given.values() if item.log_draws is not None]
    if not given or len(draws) < len(given):
        return {}
    winners = np.argmin(np.stack(draws), axis=0)
    shares = np.bincount(winners, minlength=len(given)) / len(winners)
    return dict(zip(given, map(float, shares), strict=True))


def rank_losses_at(
    name: str, task: Task, losses: Mapping[str, Mapping[int, float]], n_samples: int, basis: str
) -> Selection:
    """Rank candidates by their test loss at one size, which predicts no loss at D_full.

    Args:
        name: Name of the selector.
        task: The question.
        losses: Losses seen, by candidate and size.
        n_samples: The size.
        basis: In words, what is ranked by.

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
    ranking = order(entries)
    best = ranking[0]
    reason = (
        f"{best.model} has the smallest {basis}: {best.score:.4f} nats per token"
        if best.status == "ranked"
        else f"No candidate could be ranked: {best.status}"
    )
    return Selection(name, task.dataset, task.n_samples_full, ranking, reason)


def with_decisions(selection: Selection, decisions: list[str]) -> Selection:
    """The selection with the selector's own notes on what it did."""
    return replace(selection, decisions=tuple(decisions))


def _reason(best: RankedModel, task: Task, basis: str) -> str:
    """One sentence on the best candidate."""
    if best.status != "ranked":
        return f"No candidate could be ranked: {best.status}"
    words = (
        f"{best.model} is ranked first, with a predicted loss at D = {task.n_samples_full} of "
        f"{best.predicted_loss:.4f}"
    )
    if math.isfinite(best.lower80):
        words += f" (80 % interval {best.lower80:.4f} to {best.upper80:.4f})"
    words += f", by {basis}"
    if math.isfinite(best.p_best):
        words += f"; probability of being the best candidate {best.p_best:.0%}"
    return words
