"""From a joint posterior of all curves to a ranking and a verdict."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from lensllm.core.events import RANKED_BY, Event
from lensllm.core.evidence import CLOSE
from lensllm.core.points import losses_by_size
from lensllm.core.selection import RankedModel, Selection, Verdict
from lensllm.core.task import Task
from lensllm.predictors import CurvePredictor, Posterior
from lensllm.predictors.tree import root_of
from lensllm.selectors.paired_losses import covariance_over_examples
from lensllm.selectors.value import Outlook

# Draws of log losses at D_full; fewer with more than a thousand candidates.
N_DRAWS = 4000
_MAX_DRAWN = 4_000_000
# The choice is clear if its model is the best one with at least this probability.
CLEAR = 0.95
# The contenders include the best model with at least this probability.
HELD = 0.9
# Contenders whose next trials are considered.
MAX_WEIGHED = 12
# Up to this many candidates, a next trial is suggested and the error of the test set is included.
MAX_IN_DETAIL = 500


def rank_posterior(
    name: str,
    task: Task,
    beliefs: Posterior,
    usable: Collection[str],
    tried: Collection[tuple[str, int]],
    seed: int,
    test_error: np.ndarray | None = None,
) -> Selection:
    """Rank candidates by expected log loss at D_full, with intervals, P(best) and a verdict.

    A loss that was measured at D_full is taken as it is. Intervals are for losses on this test set,
    and of losses that were measured at D_full for text like it. P(best), contenders and regret are
    for losses on the population that it was drawn from: more trials do not reduce the sampling
    error of the test set.

    Args:
        name: Name of the selector.
        task: The selection task.
        beliefs: Posterior of all candidates of the task, at all its sizes D > 0 and D_full.
        usable: Candidates with a usable point; the others come last.
        tried: The (candidate, D) pairs of the trials so far.
        seed: Seed of the draws.
        test_error: Covariance over test examples of the candidates' log losses, in the order of the
            task, shape (n_models, n_models); assumed to hold at D_full.

    Returns:
        The ranking without its cost.
    """
    names = task.names
    rows = np.array([i for i, model in enumerate(names) if model in usable], dtype=int)
    unusable = [
        RankedModel(model, math.nan, status="no usable trial")
        for model in names
        if model not in usable
    ]
    by = Event(RANKED_BY, reason="posterior", numbers={"n_models": len(rows)})
    if not len(rows):
        return Selection.of(name, task, unusable, by)
    n_draws = max(200, min(N_DRAWS, _MAX_DRAWN // len(rows)))
    curves, measured = (part[:, rows] for part in beliefs.draws(n_draws, seed))
    if test_error is not None:
        news = np.random.default_rng([seed, 1]).standard_normal(curves.shape)
        sampling = news @ root_of(test_error[np.ix_(rows, rows)]).T
        curves = curves + sampling
        # Two runs with about the same losses differ in which examples are right.
        measured = measured if task.measure.is_loss else measured + sampling
    # Of a loss that was measured at D_full, the error of the test set is all that is left.
    measured = np.where(beliefs.is_settled[rows], curves, measured)
    low, high = np.exp(np.quantile(measured, (0.1, 0.9), axis=0))
    expected = np.exp(beliefs.expected[rows, -1])
    p_best = np.bincount(curves.argmin(axis=1), minlength=len(rows)) / n_draws
    entries = [
        RankedModel(
            names[i],
            float(expected[k]),
            float(expected[k]),
            float(low[k]),
            float(high[k]),
            float(p_best[k]),
        )
        for k, i in enumerate(rows)
    ]
    models = [task.candidates[i].base_model for i in rows]
    choice = int(expected.argmin())
    verdict = _verdict(models, choice, p_best, np.exp(curves), float(expected[choice]))
    weighed = [k for k in np.argsort(-p_best, kind="stable") if models[k] in verdict.contenders]
    weighed = weighed if len(weighed) > 1 else list(np.argsort(-p_best, kind="stable")[:2])
    trial, share, gain = _next_trial(task, beliefs, rows[weighed[:MAX_WEIGHED]], tried)
    verdict = replace(verdict, next_trial=trial, next_cost_fraction=share, next_gain=gain)
    return Selection.of(name, task, [*entries, *unusable], by, verdict=verdict)


def _verdict(
    models: Sequence[str], choice: int, p_best: np.ndarray, losses: np.ndarray, predicted: float
) -> Verdict:
    """The verdict on models, whose chances are the sums over their arms, without a next trial.

    Args:
        models: The model that each candidate is an arm of, length n_candidates.
        choice: Position of the chosen candidate.
        p_best: Probability of being the best candidate, shape (n_candidates,).
        losses: Joint draws of losses at D_full, shape (n_draws, n_candidates).
        predicted: Predicted loss of the chosen candidate.
    """
    chances: dict[str, float] = {}
    for model, chance in zip(models, p_best, strict=True):
        chances[model] = chances.get(model, 0.0) + float(chance)
    own = losses[:, [model == models[choice] for model in models]].min(axis=1)
    between = float((own - losses.min(axis=1)).mean())
    within = float((losses[:, choice] - own).mean())
    if chances[models[choice]] >= CLEAR:
        kind = "clear"
    elif between <= CLOSE * predicted:
        kind = "too_close_to_call"
    else:
        kind = "not_enough_evidence"
    by_chance = sorted(chances, key=lambda model: -chances[model])
    held = np.cumsum([chances[model] for model in by_chance])
    least = 1 if kind == "clear" else 2
    count = min(max(int(np.searchsorted(held, HELD - 1e-9)) + 1, least), len(held))
    contenders, held_by = tuple(by_chance[:count]), float(held[count - 1])
    return Verdict(kind, contenders, held_by, between + within, arm_regret=within)


def _next_trial(
    task: Task, beliefs: Posterior, contenders: np.ndarray, tried: Collection[tuple[str, int]]
) -> tuple[tuple[str, int] | None, float, float]:
    """The trial with the best ratio of gain to cost, its share of full cost, its gain in nats.

    Only trials with at least half of the largest gain are considered, so that a cheap trial with
    next to no gain is not suggested.
    """
    outlook = Outlook(*beliefs.moments(contenders))
    news = np.random.default_rng(0).standard_normal((500, 1))
    news = np.concatenate([news, -news])
    scale = math.exp(float(outlook.mean[:, -1].min()))
    found = []
    for k, i in enumerate(contenders):
        for s, size in enumerate(beliefs.sizes[:-1]):
            trial = (task.names[i], int(size))
            if trial not in tried and trial[1] in task.available[trial[0]]:
                gain = scale * max(0.0, float(outlook.value([(k, s)], news).mean()))
                found.append((trial, task.costs[trial] / task.full_cost, gain))
    if not found:
        return None, math.nan, math.nan
    most = max(gain for _, _, gain in found)
    worth = [item for item in found if item[2] >= 0.5 * most]
    return min(worth, key=lambda item: item[1] / max(item[2], 1e-300))


def rank_by(
    predictor: CurvePredictor, name: str, task: Task, curves: pd.DataFrame, seed: int
) -> Selection:
    """Rank all candidates of a task by a predictor.

    Args:
        predictor: The predictor of the curves.
        name: Name of the selector.
        task: The selection task.
        curves: Tidy table of the measured points.
        seed: Seed of the draws.
    """
    seen = losses_by_size(curves, task.measure)
    usable = {
        model
        for model, points in seen.items()
        if any(n > 0 and math.isfinite(loss) for n, loss in points.items())
    }
    tried = {(model, n) for model, points in seen.items() for n in points}
    few = len(task.names) <= MAX_IN_DETAIL
    sizes = [n for n in task.sizes if n > 0] if few else []
    beliefs = predictor.posterior(task, curves, sizes)
    test_error = covariance_over_examples(task.names, curves, task.measure) if few else None
    return rank_posterior(name, task, beliefs, usable, tried, seed, test_error)
