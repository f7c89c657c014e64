"""One campaign of one selector against the truth: a row of scores, and its predictions."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from lensllm.core.prior_curves import PriorCurves
from lensllm.core.protocols import Runner
from lensllm.core.selection import Selection
from lensllm.core.task import Budget, BudgetTooSmallError
from lensllm.evaluation.metrics import (
    correlations,
    interval_coverage,
    interval_width,
    log_rmse,
    regret,
    relative_accuracy,
    relative_regret,
    top_k_hit,
)
from lensllm.selectors import Selector, run_campaign

TOO_SMALL = "budget too small"


def judge(
    selector: Selector,
    runner: Runner,
    budget: Budget,
    truth: Mapping[str, float],
    prior_curves: PriorCurves | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Run one campaign of one selector, and score its answer by losses that it has not seen.

    Args:
        selector: Who decides.
        runner: Who executes: a replay, or a runner that fine-tunes.
        budget: What may be spent; it is charged in place.
        truth: Loss at D_full by candidate, in the unit of the task's measure.
        prior_curves: Curves of earlier tasks, where there are any.

    Returns:
        A row of scores: `selector`, `n_candidates`, `status`, and, where the budget is not too
        small, those of `selection_metrics` with `cost_fraction`, `selected`, `n_trials`, `p_best`
        of the selected candidate, the kind of its `verdict`, whether its contenders include the
        best candidate (`held`), and the number of sizes D > 0 of the selected candidate
        (`n_sizes`). Then a row of predictions for each candidate.
    """
    task = runner.task()
    keys: dict[str, Any] = {"selector": selector.name, "n_candidates": len(task.names)}
    try:
        selection, curves = run_campaign(selector, runner, budget, prior_curves=prior_curves)
    except BudgetTooSmallError:
        return {**keys, "status": TOO_SMALL}, []
    best, verdict = selection.best, selection.verdict
    sizes = curves.loc[curves["model"] == best.model, "n_samples"]
    lowest = min(truth[name] for name in task.names)
    row = {
        **keys,
        **selection_metrics(selection, truth, selector.score_sign),
        "cost_fraction": selection.cost_fraction,
        "selected": best.model if best.status == "ranked" else "",
        "status": best.status,
        "n_trials": len(curves),
        "p_best": best.p_best,
        "n_sizes": int(sizes[sizes > 0].nunique()),
    }
    if verdict is not None:
        best_models = {c.base_model for c in task.candidates if truth[c.name] <= lowest}
        held = not best_models.isdisjoint(verdict.contenders)
        row |= {"verdict": verdict.kind, "held": float(held)}
    lines = [
        {
            "selector": selector.name,
            "model": entry.model,
            "predicted_loss": entry.predicted_loss,
            "lower80": entry.lower80,
            "upper80": entry.upper80,
            "true_loss": truth[entry.model],
            "score": entry.score,
            "p_best": entry.p_best,
            "status": entry.status,
        }
        for entry in selection.ranking
    ]
    return row, lines


def selection_metrics(
    selection: Selection, truth: Mapping[str, float], score_sign: float = 1.0
) -> dict[str, float]:
    """All metrics of one selection.

    Args:
        selection: The selection.
        truth: True loss at D_full by candidate.
        score_sign: Sign by which scores are multiplied before they are correlated.

    Returns:
        The metrics by name; `nan` where undefined.
    """
    entries = {entry.model: entry for entry in selection.ranking}
    # In the order of the ranking, so that ties in score go to the one that was chosen.
    models = [model for model in entries if model in truth]

    def column(name: str) -> np.ndarray:
        return np.array([getattr(entries[model], name) for model in models], dtype=float)

    scores, predicted = column("score"), column("predicted_loss")
    low, high = column("lower80"), column("upper80")
    losses = np.array([truth[model] for model in models])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return {
            "relative_accuracy": relative_accuracy(scores, losses),
            "regret": regret(scores, losses),
            "relative_regret": relative_regret(scores, losses),
            "top3_hit": top_k_hit(scores, losses, 3),
            "log_rmse": log_rmse(predicted, losses),
            "coverage80": interval_coverage(low, high, losses),
            "width80": interval_width(low, high, losses),
            **correlations(score_sign * scores, losses),
        }
