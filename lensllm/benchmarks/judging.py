"""Many small campaigns on recorded curves, and whether selectors are what they say they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lensllm.benchmarks.benchmark import Benchmark
from lensllm.predictors import load_prior
from lensllm.runners.replay import ReplayRunner
from lensllm.selection import Adaptive, Budget, BudgetTooSmallError, Selector, run_campaign

FRACTIONS = (0.02, 0.05, 0.1, 0.2, 0.3)
P_EDGES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def unseen(selector: Selector, dataset: str) -> Selector:
    """The selector with a prior that has not seen the data set that it is judged on."""
    if not isinstance(selector, Adaptive):
        return selector
    prior = load_prior().without({dataset})
    return replace(selector, predictor=replace(selector.predictor, prior=prior))


def candidate_sets(
    models: Sequence[str], sizes: Sequence[int | None], n_sets: int, seed: int
) -> Iterator[tuple[str, ...]]:
    """All candidates (`None`), and `n_sets` random sets of each smaller size.

    Args:
        models: Names of the candidates.
        sizes: Sizes of sets; those that are not smaller than the whole are passed over.
        n_sets: Sets of each size.
        seed: Seed of the sets.
    """
    rng = np.random.default_rng(seed)
    names = np.array(sorted(models))
    for size in sizes:
        if size is None:
            yield tuple(names)
        elif size < len(names):
            for _ in range(n_sets):
                yield tuple(names[np.sort(rng.choice(len(names), size, replace=False))])


def judge(
    benchmark: Benchmark,
    selectors: Callable[[str], Sequence[Selector]],
    fractions: Sequence[float] = FRACTIONS,
    set_sizes: Sequence[int | None] = (None, 8, 4),
    n_sets: int = 1,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Replay campaigns of every data set, seed, set of candidates and budget.

    Args:
        benchmark: The recorded curves.
        selectors: Who is judged on a data set, by its name; their beliefs must not have seen it.
            The first one's answer counts for those for whom a budget is too small.
        fractions: Budgets as shares of fine-tuning every candidate of a set in full.
        set_sizes: See `candidate_sets`.
        n_sets: Sets of each size.
        seed: Seed of the sets.
        progress: Called with the name of every data set.

    Returns:
        One row a campaign: `dataset`, `seed`, `set`, `n_candidates`, `budget_fraction`, `selector`,
        `regret`, `relative_regret` (divided by median less best of all candidates of the set, at
        most 1), `right`, `p_best` of the choice, `coverage80` over the candidates, `verdict`,
        `held` (whether the contenders hold the best), `cost_fraction`, `n_sizes` > 0 of the choice,
        `paid` (whether the budget was enough).
    """
    rows: list[dict[str, Any]] = []
    for dataset in benchmark.datasets:
        if progress is not None:
            progress(dataset)
        judged = selectors(dataset)
        for run in benchmark.seeds(dataset):
            models = benchmark.runner(dataset, run).task().names
            for position, names in enumerate(candidate_sets(models, set_sizes, n_sets, seed)):
                runner = benchmark.runner(dataset, run, names)
                keys = {
                    "dataset": dataset,
                    "seed": run,
                    "set": position,
                    "n_candidates": len(names),
                }
                for fraction in fractions:
                    rows += _campaigns(runner, judged, fraction, keys)
    return pd.DataFrame(rows)


def _campaigns(
    runner: ReplayRunner, selectors: Sequence[Selector], fraction: float, keys: dict[str, Any]
) -> list[dict[str, Any]]:
    """The rows of all selectors for one task and budget."""
    task, truth = runner.task(), runner.truth()
    losses = np.array(list(truth.values()))
    best, spread = losses.min(), np.median(losses) - losses.min()
    rows: list[dict[str, Any]] = []
    for selector in selectors:
        named = {**keys, "budget_fraction": fraction, "selector": selector.name}
        try:
            found, curves = run_campaign(selector, runner, Budget(fraction * task.full_cost))
        except BudgetTooSmallError:
            if rows:
                rows.append({**rows[0], **named, "paid": False, "p_best": math.nan})
            continue
        regret = truth[found.best.model] - best
        covered = [
            entry.lower80 <= truth[entry.model] <= entry.upper80
            for entry in found.ranking
            if math.isfinite(entry.lower80)
        ]
        verdict = found.verdict
        sizes = curves.loc[curves["model"] == found.best.model, "n_samples"]
        rows.append(
            {
                **named,
                "regret": regret,
                "relative_regret": min(1.0, regret / spread) if spread > 0 else 0.0,
                "right": regret <= 0,
                "p_best": found.best.p_best,
                "coverage80": np.mean(covered) if covered else math.nan,
                "verdict": "" if verdict is None else verdict.kind,
                "held": math.nan
                if verdict is None
                else float(any(truth[name] <= best for name in verdict.contenders)),
                "cost_fraction": found.cost_fraction,
                "n_sizes": int(sizes[sizes > 0].nunique()),
                "paid": True,
            }
        )
    return rows


def summarize(
    rows: pd.DataFrame, metric: str, reference: str, n_resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Means over campaigns, and how far each selector is behind one of them.

    Args:
        rows: Rows of `judge`.
        metric: `regret` or `relative_regret`.
        reference: The selector that the others are compared with.
        n_resamples: Resamples of the data sets, whole, for 95 % intervals.
        seed: Their seed.

    Returns:
        One row for each budget, and one for all of them, and selector: `mean`, `lower`, `upper`,
        and `behind`, `behind_lower`, `behind_upper`, its mean less the reference's.
    """
    rng = np.random.default_rng(seed)
    found = []
    for fraction, part in [*rows.groupby("budget_fraction"), ("all", rows)]:
        by_task = part.pivot_table(index="dataset", columns="selector", values=metric)
        by_task = by_task.dropna()
        values = by_task.to_numpy()
        picks = rng.integers(len(values), size=(n_resamples, len(values)))
        means = values[picks].mean(axis=1)
        own = list(by_task.columns).index(reference)
        for column, name in enumerate(by_task.columns):
            apart = means[:, column] - means[:, own]
            low, high = np.percentile(means[:, column], [2.5, 97.5])
            behind = np.percentile(apart, [2.5, 97.5])
            found.append(
                {
                    "budget_fraction": fraction,
                    "selector": name,
                    "mean": values[:, column].mean(),
                    "lower": low,
                    "upper": high,
                    "behind": values[:, column].mean() - values[:, own].mean(),
                    "behind_lower": behind[0],
                    "behind_upper": behind[1],
                }
            )
    return pd.DataFrame(found)


def coverage(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of true losses inside 80 % intervals at the end of campaigns.

    Args:
        rows: Rows of `judge`.

    Returns:
        One row a selector and data set: `coverage80`, the mean over `n` campaigns.
    """
    known = rows[np.isfinite(rows["coverage80"])]
    grouped = known.groupby(["selector", "dataset"])["coverage80"]
    return grouped.agg(coverage80="mean", n="size").reset_index()


def reliability(rows: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """How often choices with a P(best) between two edges were right.

    Args:
        rows: Rows of `judge` of one selector.
        by: Columns by which to tell campaigns apart.

    Returns:
        One row a bin: `said` (mean), `true` (share), `n`.
    """
    known = rows[np.isfinite(rows["p_best"])]
    bins = pd.cut(known["p_best"], list(P_EDGES), include_lowest=True).rename("bin")
    grouped = known.groupby([*by, bins], observed=True)
    return grouped.agg(
        said=("p_best", "mean"), true=("right", "mean"), n=("right", "size")
    ).reset_index()
