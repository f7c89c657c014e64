"""Selectors side by side in campaigns that really fine-tune."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lensllm.evaluation.judge import judge
from lensllm.selectors.base import Selector
from lensllm.selectors.campaign import Runner, make_budget


def judge_live(
    selector: Selector, runner: Runner, fraction: float, truth: Mapping[str, float]
) -> dict[str, Any]:
    """One campaign of one selector that really fine-tunes.

    Args:
        selector: Who decides.
        runner: Who fine-tunes.
        fraction: Budget as a share of fine-tuning every candidate in full.
        truth: Loss at D_full of every candidate.

    Returns:
        The scores of `lensllm.evaluation.judge.judge` with `budget_fraction`; no choice and `nan`
        where the budget is too small.
    """
    row, _ = judge(selector, runner, make_budget(runner.task(), fraction), truth)
    nothing = dict.fromkeys(("regret", "cost_fraction", "p_best"), math.nan)
    return {"budget_fraction": fraction, "selected": "", **nothing, "n_trials": 0, **row}


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
