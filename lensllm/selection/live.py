"""Selectors side by side in campaigns that really fine-tune."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lensllm.selection.base import BudgetTooSmallError, Selector
from lensllm.selection.campaign import Runner, make_budget, run_campaign


def candidate_sets(
    models: Sequence[str], n_subsets: int, subset_size: int, seed: int
) -> list[tuple[str, ...]]:
    """All candidates, then distinct random subsets of them.

    Args:
        models: Names of the candidates.
        n_subsets: Subsets beside the whole set.
        subset_size: Candidates of a subset, at least 2 and fewer than there are.
        seed: Seed of the subsets.

    Raises:
        ValueError: The subsets are too small or too large, or there are not as many.
    """
    if n_subsets and not 2 <= subset_size < len(models):
        raise ValueError(
            f"Expected `subset_size` from 2 to {len(models) - 1} of {len(models)} candidates, "
            f"got {subset_size}"
        )
    if n_subsets > math.comb(len(models), subset_size):
        raise ValueError(
            f"Expected at most {math.comb(len(models), subset_size)} subsets of {subset_size} "
            f"candidates, got `n_subsets` = {n_subsets}"
        )
    rng = np.random.default_rng(seed)
    found = [tuple(models)]
    while len(found) <= n_subsets:
        picked = sorted(rng.choice(len(models), size=subset_size, replace=False))
        subset = tuple(models[i] for i in picked)
        if subset not in found:
            found.append(subset)
    return found


def judge_live(
    selector: Selector, runner: Runner, fraction: float, truth: Mapping[str, float]
) -> dict[str, Any]:
    """One campaign of one selector, against losses at D_full that it has not seen.

    Args:
        selector: Who decides.
        runner: Who fine-tunes.
        fraction: Budget as a share of fine-tuning every candidate in full.
        truth: Loss at D_full of every candidate.

    Returns:
        `selector`, `budget_fraction`, `selected`, `regret` in nats, `cost_fraction`, `p_best`,
        `verdict`, `n_trials` and `status`; no choice and `nan` where the budget is too small.
    """
    task = runner.task()
    row: dict[str, Any] = {"selector": selector.name, "budget_fraction": fraction}
    try:
        selection, curves = run_campaign(selector, runner, make_budget(task, fraction))
    except BudgetTooSmallError:
        unknown = dict.fromkeys(("regret", "cost_fraction", "p_best"), math.nan)
        return {
            **row,
            "selected": "",
            **unknown,
            "verdict": "",
            "n_trials": 0,
            "status": "budget too small",
        }
    best = min(truth[name] for name in task.names)
    ranked = selection.best.status == "ranked"
    return {
        **row,
        "selected": selection.best.model if ranked else "",
        "regret": truth[selection.best.model] - best if ranked else math.nan,
        "cost_fraction": selection.cost_fraction,
        "p_best": selection.best.p_best,
        "verdict": "" if selection.verdict is None else selection.verdict.kind,
        "n_trials": len(curves),
        "status": selection.best.status,
    }


def summarize_live(
    rows: pd.DataFrame, reference: str, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Means over repetitions with 95 % bootstrap intervals, and differences from one selector.

    Repetitions (columns `seed` and `candidates`) are resampled, the same for all selectors. They
    share candidates and data, so that the intervals say what another seed or subset would change
    and nothing of other candidates.

    Args:
        rows: Rows of `judge_live` with the columns `seed` and `candidates`.
        reference: Selector from which differences in regret are taken.
        n_resamples: Resamples.
        seed: Their seed.

    Returns:
        One row a budget and selector, smallest mean regret first.
    """
    rng = np.random.default_rng(seed)
    found = []
    for fraction, part in rows.groupby("budget_fraction"):
        index = ["seed", "candidates"]
        regret = part.pivot(index=index, columns="selector", values="regret")
        cost = part.pivot(index=index, columns="selector", values="cost_fraction")
        picks = rng.integers(len(regret), size=(n_resamples, len(regret)))
        for name in regret:
            difference = regret[name] - regret[reference]
            found.append(
                {
                    "budget_fraction": fraction,
                    "selector": name,
                    "n": int(regret[name].notna().sum()),
                    "right": float((regret[name] == 0).sum() / max(regret[name].count(), 1)),
                    **_interval("regret", regret[name], picks),
                    **_interval("cost_fraction", cost[name], picks),
                    **_interval("difference", difference, picks),
                }
            )
    frame = pd.DataFrame.from_records(found)
    return frame.sort_values(["budget_fraction", "regret"], kind="stable").reset_index(drop=True)


def _interval(name: str, values: pd.Series, picks: np.ndarray) -> dict[str, float]:
    """Mean and 95 % interval of the mean over resampled repetitions; `nan` left out."""
    array = values.to_numpy(dtype=float)
    known = np.isfinite(array)
    if not known.any():
        return dict.fromkeys((name, f"{name}_lower", f"{name}_upper"), math.nan)
    weight = known[picks].sum(axis=1)
    means = np.where(known, array, 0.0)[picks].sum(axis=1)[weight > 0] / weight[weight > 0]
    low, high = np.percentile(means, [2.5, 97.5])
    return {name: float(array[known].mean()), f"{name}_lower": low, f"{name}_upper": high}
