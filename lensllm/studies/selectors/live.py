"""Selectors side by side in campaigns that really fine-tune."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lensllm.core.protocols import Runner
from lensllm.evaluation.judge import judge
from lensllm.evaluation.statistics import paired_means
from lensllm.selectors.base import Selector
from lensllm.selectors.campaign import make_budget


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
    share candidates and data, so that the intervals cover the choice of seeds and subsets and not
    that of the candidates.

    Args:
        rows: Rows of `judge_live` with the columns `seed` and `candidates`.
        reference: Selector from which differences in regret are taken.
        n_resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        One row per budget and selector, smallest mean regret first.
    """
    rng = np.random.default_rng(seed)
    found = []
    index, values = ["seed", "candidates"], ["regret", "cost_fraction"]
    for fraction, part in rows.groupby("budget_fraction"):
        wide = part.pivot(index=index, columns="selector", values=values).astype(float)
        summary = paired_means(wide, ("regret", reference), n_resamples, rng)
        regret, cost = summary.loc["regret"], summary.loc["cost_fraction"]
        known = wide["regret"].notna().sum()
        columns = {
            "budget_fraction": fraction,
            "selector": regret.index,
            "n": known,
            "right": (wide["regret"] == 0).sum() / known.clip(lower=1),
            "regret": regret["mean"],
            "regret_lower": regret["lower"],
            "regret_upper": regret["upper"],
            "cost_fraction": cost["mean"],
            "cost_fraction_lower": cost["lower"],
            "cost_fraction_upper": cost["upper"],
            **regret.filter(like="difference"),
        }
        found.append(pd.DataFrame(columns))
    frame = pd.concat(found, ignore_index=True)
    return frame.sort_values(["budget_fraction", "regret"], kind="stable").reset_index(drop=True)
