"""Many small campaigns on recorded curves: random sets of candidates, budgets of FLOPs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lensllm.benchmarks.benchmark import Benchmark
from lensllm.benchmarks.evaluation import evaluate
from lensllm.benchmarks.tuning import Judge
from lensllm.selection import Selector


def random_sets(
    models: Sequence[str], n_sets: int, set_size: int, seed: int
) -> list[tuple[str, ...]]:
    """Random sets of candidates; all of them where there are no more than a set has."""
    rng = np.random.default_rng(seed)
    size = min(set_size, len(models))
    return [tuple(rng.choice(sorted(models), size, replace=False)) for _ in range(n_sets)]


def campaigns(
    benchmark: Benchmark,
    selectors: Sequence[Selector],
    fractions: Sequence[float],
    sets: Sequence[Sequence[str]],
    datasets: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Scores of campaigns among each set of candidates (`lensllm.benchmarks.evaluate`).

    Args:
        benchmark: The recorded curves.
        selectors: Who chooses.
        fractions: Budgets as shares of fine-tuning every candidate of a set in full.
        sets: Names of candidates.
        datasets: Which data sets; all by default. The others are earlier tasks all the same.

    Returns:
        Its rows with a column `candidates`, the position of the set.
    """
    parts = []
    for position, names in enumerate(sets):
        curves = benchmark.curves[benchmark.curves["model"].isin(names)]
        found = evaluate(replace(benchmark, curves=curves), selectors, (), fractions, datasets)
        parts.append(found.scores.assign(candidates=position))
    return pd.concat(parts, ignore_index=True)


def choosing_judge(
    build: Callable[[Mapping[str, Any]], Selector],
    fractions: Sequence[float],
    n_subsets: int,
    subset_size: int,
    seed: int,
) -> Judge:
    """Score = relative accuracy of the choice, over random sets of candidates.

    One choice among all candidates of a data set says little; choices among many random sets of
    them, the same for all settings, say more.

    Args:
        build: Makes a selector of settings.
        fractions: Budgets as shares of fine-tuning every candidate of a set in full.
        n_subsets: Random sets a data set.
        subset_size: Candidates of a set.
        seed: Seed of the sets.
    """

    def judge(benchmark: Benchmark, values: Mapping[str, Any]) -> pd.DataFrame:
        sets = random_sets(benchmark.curves["model"].unique(), n_subsets, subset_size, seed)
        rows = campaigns(benchmark, [build(values)], fractions, sets)
        return rows[["dataset", "relative_accuracy"]].rename(columns={"relative_accuracy": "score"})

    return judge


def summarize_campaigns(
    rows: pd.DataFrame, reference: str, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Means over the campaigns that every selector could pay, and paired differences.

    Args:
        rows: Rows of `campaigns`, also of several targets.
        reference: Selector from which the others' relative accuracy is taken.
        n_resamples: Resamples of the sets of candidates, whole, for 95 % intervals.
        seed: Their seed.

    Returns:
        One row a selector, best first: `n`, `relative_accuracy`, `regret`, `right` (share of
        choices that were the best), `cost_fraction`, and `behind`, `behind_lower`, `behind_upper`:
        the reference's relative accuracy less its own.
    """
    keys = ["candidates", "dataset", "seed", "target_n_samples", "budget_fraction"]
    names = ["relative_accuracy", "regret", "cost_fraction"]
    table = rows.pivot(index=keys, columns="selector", values=names).dropna()
    accuracy = table["relative_accuracy"]
    behind = accuracy.rsub(accuracy[reference], axis=0)
    by_set = behind.groupby("candidates")
    total, count = by_set.sum().to_numpy(), by_set.size().to_numpy()
    picks = np.random.default_rng(seed).integers(len(count), size=(n_resamples, len(count)))
    means = total[picks].sum(axis=1) / count[picks].sum(axis=1)[:, None]
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    summary = pd.DataFrame(
        {
            "n": len(table),
            **{name: table[name].mean() for name in names},
            "right": (table["regret"] == 0).mean(),
            "behind": behind.mean(),
            "behind_lower": low,
            "behind_upper": high,
        }
    )
    return summary.sort_values("relative_accuracy", ascending=False).reset_index()
