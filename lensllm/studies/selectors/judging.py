"""Many small campaigns on recorded curves: regret of selectors and coverage of their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from lensllm.evaluation.judge import TOO_SMALL
from lensllm.evaluation.statistics import paired_means
from lensllm.predictors import load_prior
from lensllm.selectors import Adaptive, Selector

P_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # of bins of P(best)
_CAMPAIGN = ["dataset", "seed", "candidate_set", "budget_fraction"]


def unseen(selectors: Sequence[Selector], dataset: str) -> list[Selector]:
    """The selectors, any learned prior without its components of one data set.

    Args:
        selectors: The selectors.
        dataset: The data set that they are to be judged on.
    """
    prior, ready = load_prior().without({dataset}), []
    for item in selectors:
        if isinstance(item, Adaptive):
            item = replace(item, predictor=replace(item.predictor, prior=prior))
        ready.append(item)
    return ready


def campaigns(scores: pd.DataFrame) -> pd.DataFrame:
    """One answer per campaign and selector; another's where the selector's budget is too small.

    Args:
        scores: Scores of an evaluation with budgets of FLOPs.

    Returns:
        The rows with the columns `paid` (whether the budget was enough) and `right` (whether the
        best candidate was chosen). Rows of a selector that could not pay have the values of the
        first selector that could, but no `p_best`; they are left out where no selector could.
    """
    paid = scores["status"] != TOO_SMALL
    first = scores[paid].drop_duplicates(_CAMPAIGN).set_index(_CAMPAIGN)
    poor = scores[~paid]
    lent = first.reindex(pd.MultiIndex.from_frame(poor[_CAMPAIGN])).reset_index()
    lent = lent.set_index(poor.index).assign(selector=poor["selector"], p_best=math.nan)
    lent = lent[lent["status"].notna()]
    rows = pd.concat([scores[paid].assign(paid=True), lent.assign(paid=False)]).sort_index()
    rows = rows.astype({"n_candidates": int, "n_sizes": int})
    return rows.assign(right=rows["regret"] <= 0)


def summarize(
    rows: pd.DataFrame, metric: str, reference: str, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Means over campaigns, and the difference of each selector to one of them.

    Args:
        rows: Rows of `campaigns`.
        metric: `regret` or `relative_regret`.
        reference: The selector that the others are compared with.
        n_resamples: Number of resamples of whole data sets, for 95 % intervals.
        seed: Seed of the resamples.

    Returns:
        One row per selector and budget, and one per selector for all budgets: `mean`, `lower`,
        `upper`, and `behind`, `behind_lower`, `behind_upper`, its mean less the reference's.
    """
    rng = np.random.default_rng(seed)
    found = []
    for fraction, part in [*rows.groupby("budget_fraction"), ("all", rows)]:
        by_task = part.pivot_table(index="dataset", columns="selector", values=metric).dropna()
        means = paired_means(by_task, reference, n_resamples, rng).reset_index(names="selector")
        means.columns = means.columns.str.replace("difference", "behind")
        means.insert(0, "budget_fraction", fraction)
        found.append(means)
    return pd.concat(found, ignore_index=True)


def coverage(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of true losses inside 80 % intervals at the end of campaigns.

    Args:
        rows: Rows of `campaigns`.

    Returns:
        One row per selector and data set: `coverage80`, the mean over `n` campaigns.
    """
    known = rows[np.isfinite(rows["coverage80"])]
    grouped = known.groupby(["selector", "dataset"])["coverage80"]
    return grouped.agg(coverage80="mean", n="size").reset_index()
