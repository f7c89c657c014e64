"""Do takeovers rank and forecast candidates as trials from the start do?"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from lensllm.evaluation.metrics import correlations, log_rmse, regret
from lensllm.execution.replay import ReplayRunner
from lensllm.selectors import Adaptive, LastLine
from lensllm.studies.selectors.judging import unseen
from lensllm.studies.takeover.trials import START

OTHER_SEED = f"{START}, another seed"


def compare_points(losses: pd.DataFrame) -> pd.DataFrame:
    """The losses of each way against those from the start of the same task, seed and size.

    Trials from the start of another seed are a way too: they say how much of a difference is noise.

    Args:
        losses: Rows of `run_ways`, of the same candidates and sizes for each way of a task.

    Returns:
        One row per task, seed, size and way. Over the candidates, `difference` is the mean of the
        loss minus that from the start, `spread` its standard deviation (a shift that all candidates
        share changes no ranking), `rank_correlation` Spearman's, and `same_best` whether both have
        the same best one. `full_correlation` is the rank correlation with the losses from the start
        at D_full, and `regret` how much worse the best one by these losses is there than the best,
        in nats; `mixed_regret` is the mean regret where half of the candidates, any half, have
        these losses and the others those from the start. At the smallest size ways do not differ.
    """
    rows = []
    full = losses["n_samples"].max()
    for (dataset, seed, n_samples), reference, ways in _points(losses):
        truth = _from_start(losses, dataset, seed, full)
        for way, values in ways.items():
            gap = values - reference
            rows.append(
                {
                    "dataset": dataset,
                    "seed": seed,
                    "n_samples": n_samples,
                    "way": way,
                    "difference": gap.mean(),
                    "spread": gap.std(),
                    "rank_correlation": correlations(values, reference)["spearman"],
                    "same_best": values.idxmin() == reference.idxmin(),
                    "full_correlation": correlations(values, truth)["spearman"],
                    "regret": regret(values, truth),
                    "mixed_regret": np.mean([regret(m, truth) for m in mixed(values, reference)]),
                }
            )
    return pd.DataFrame(rows)


def mixed(some: pd.Series, others: pd.Series) -> list[np.ndarray]:
    """All vectors that have half of the candidates' losses from one series, the rest from another.

    Example:
        >>> [m.tolist() for m in mixed(pd.Series([1.0, 2.0]), pd.Series([3.0, 4.0]))]
        [[1.0, 4.0], [3.0, 2.0]]
    """
    n_models = len(some)
    halves = combinations(range(n_models), n_models // 2)
    return [np.where(np.isin(np.arange(n_models), half), some, others) for half in halves]


def compare_forecasts(losses: pd.DataFrame) -> pd.DataFrame:
    """Forecasts of the losses from the start at D_full, from each way's losses at smaller sizes.

    They are those of a log-log line through the three largest sizes, and of the adaptive selector
    with a prior that has not seen the task.

    Args:
        losses: See `compare_points`.

    Returns:
        One row per task, seed, way and selector: `log_rmse` over the candidates, `bias` (mean of
        log predicted − log true), `rank_correlation`, and the `regret` of the first of the ranking.
    """
    rows = []
    full = losses["n_samples"].max()
    for (dataset, seed, way), curves in losses.groupby(["dataset", "seed", "way"]):
        truth = _from_start(losses, dataset, seed, full)
        task = ReplayRunner(curves, dataset, full, seed).task()
        for selector in unseen([LastLine(3), Adaptive()], dataset):
            selection = selector.rank(task, curves[curves["n_samples"] < full])
            predicted = pd.Series({item.model: item.predicted_loss for item in selection.ranking})
            predicted = predicted.loc[truth.index]
            rows.append(
                {
                    "dataset": dataset,
                    "seed": seed,
                    "way": way,
                    "selector": selector.name,
                    "log_rmse": log_rmse(predicted, truth),
                    "bias": np.log(predicted / truth).mean(),
                    "rank_correlation": correlations(predicted, truth)["spearman"],
                    "regret": regret(predicted, truth),
                }
            )
    return pd.DataFrame(rows)


def relative_cost(losses: pd.DataFrame) -> pd.DataFrame:
    """FLOPs of all sizes of all candidates, as a share of those from the start, by task and way.

    A chain contains its first trial, so that it costs what a campaign would pay that runs every
    size. Shares are means over seeds.
    """
    index = ["dataset", "seed"]
    flops = losses.pivot_table(index=index, columns="way", values="flops", aggfunc="sum")
    return flops.div(flops[START], axis=0).groupby("dataset").mean()


def _points(
    losses: pd.DataFrame,
) -> Iterator[tuple[tuple[Any, ...], pd.Series, dict[str, pd.Series]]]:
    """By task, seed and size: the losses from the start, and those of each way."""
    keys = ["dataset", "seed", "n_samples"]
    smallest = losses["n_samples"].min()
    for point, rows in losses.groupby(keys):
        table = rows.pivot(index="model", columns="way", values="test_loss")
        reference = table[START]
        ways = {way: table[way] for way in table if way == START or point[2] > smallest}
        seeds = sorted(losses.loc[losses["dataset"] == point[0], "seed"].unique())
        if len(seeds) > 1:
            other = seeds[(seeds.index(point[1]) + 1) % len(seeds)]
            ways[OTHER_SEED] = _from_start(losses, point[0], other, point[2])
        yield point, reference, ways


def _from_start(losses: pd.DataFrame, dataset: str, seed: int, n_samples: int) -> pd.Series:
    """Losses from the start by model, sorted by name."""
    is_one = (losses["dataset"] == dataset) & (losses["seed"] == seed) & (losses["way"] == START)
    rows = losses[is_one & (losses["n_samples"] == n_samples)]
    return rows.set_index("model")["test_loss"].sort_index()
