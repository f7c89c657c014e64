"""Which differences exceed chance: paired bootstraps over candidates, data sets and other units.

All sides of a comparison use the same resamples. `paired_bootstrap` resamples the candidates and
lets selectors choose again; `resampled_means` resamples rows of finished numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lensllm.evaluation.metrics import relative_accuracy_of

_CELL = ["dataset", "seed", "candidate_set", "protocol", "budget_ratio", "budget_fraction"]
# A selector that answered fewer cells than this share would leave the others too few in common.
MIN_ANSWERED = 0.5
# Fewer data sets than this are too few to resample.
MIN_DATASETS = 5


@dataclass(frozen=True, eq=False)
class PairedBootstrap:
    """Mean values of a metric with their uncertainty, paired over selectors.

    Attributes:
        selectors: Names, in the order of the arrays, of those that ranked candidates in at least
            `MIN_ANSWERED` of the cells.
        metric: `regret` (smaller is better) or `relative_accuracy` (larger is better).
        mean: Mean over the cells that all of them answered, shape (n_selectors,).
        lower: Lower end of its 95 % interval.
        upper: Upper end.
        difference: Mean minus that of the best selector, shape (n_selectors,).
        difference_lower: Lower end of its 95 % interval, with the same resamples for both.
        difference_upper: Upper end.
        mean_rank: Mean rank across cells, 1 being the best, ties averaged.
        n_cells: Cells that all selectors answered.
        over_datasets: Whether data sets were resampled too.
    """

    selectors: tuple[str, ...]
    metric: str
    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    difference: np.ndarray
    difference_lower: np.ndarray
    difference_upper: np.ndarray
    mean_rank: np.ndarray
    n_cells: int
    over_datasets: bool

    @property
    def leads(self) -> np.ndarray:
        """Which selectors cannot be told from the best: the interval of the difference holds 0."""
        return (self.difference_lower <= 0) & (self.difference_upper >= 0)


def paired_bootstrap(
    predictions: pd.DataFrame,
    metric: str = "regret",
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> PairedBootstrap:
    """Resample the candidates, and let every selector choose again by the scores it gave.

    One resample draws as many candidates as there are, with replacement, and uses the same draw in
    every cell and for every selector. With at least `MIN_DATASETS` data sets they are resampled as
    well. The selectors are not fitted again, so the intervals cover the choice of the candidates
    and not the noise in the recorded losses.

    Args:
        predictions: Predictions of an evaluation (one protocol).
        metric: `regret` or `relative_accuracy`.
        n_resamples: Number of resamples.
        seed: Seed of the resamples.
        level: Level of the intervals.

    Returns:
        The result; without a cell that all selectors answered, or in which the metric is defined,
        all values are `nan`.

    Raises:
        ValueError: The metric is unknown.
    """
    if metric not in ("regret", "relative_accuracy"):
        raise ValueError(f"Expected the metric regret or relative_accuracy, got {metric!r}")
    names, scores, losses, datasets = _stack(predictions)
    n_cells, n_models = losses.shape
    rng = np.random.default_rng(seed)
    everyone = np.ones((1, n_models), dtype=bool)
    values = _metric(metric, scores, losses, everyone)[0]
    mean = _weighted_means(values[None], np.ones((1, n_cells)))[0]
    if not np.isfinite(mean).any():
        x = np.full(len(names), np.nan)
        return PairedBootstrap(names, metric, x, x, x, x, x, x, x, n_cells, over_datasets=False)
    counts = rng.multinomial(n_models, np.full(n_models, 1.0 / n_models), size=n_resamples)
    resampled = _metric(metric, scores, losses, counts > 0)
    labels, codes = np.unique(datasets, return_inverse=True)
    over_datasets = len(labels) >= MIN_DATASETS
    weights = np.ones((n_resamples, n_cells))
    if over_datasets:
        share = np.full(len(labels), 1.0 / len(labels))
        weights = rng.multinomial(len(labels), share, size=n_resamples)[:, codes].astype(float)
    means = _weighted_means(resampled, weights)
    sign = 1.0 if metric == "regret" else -1.0
    best = int(np.nanargmin(sign * mean))
    tails = 100 * np.array([0.5 - level / 2, 0.5 + level / 2])
    ranks = rankdata(sign * values, axis=0, nan_policy="omit")
    with warnings.catch_warnings():
        # the relative accuracy is nan in every resample where the candidates tie
        warnings.simplefilter("ignore", RuntimeWarning)
        lower, upper = np.nanpercentile(means, tails, axis=0)
        apart = np.nanpercentile(means - means[:, [best]], tails, axis=0)
        mean_rank = np.nanmean(ranks, axis=1)
    return PairedBootstrap(
        names,
        metric,
        mean,
        lower,
        upper,
        mean - mean[best],
        apart[0],
        apart[1],
        mean_rank,
        n_cells,
        over_datasets,
    )


def resample_rows(n_rows: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Positions drawn with replacement, shape (n_resamples, n_rows)."""
    return rng.integers(n_rows, size=(n_resamples, n_rows))


def resampled_means(
    values: np.ndarray,
    n_resamples: int,
    rng: np.random.Generator,
    clusters: np.ndarray | None = None,
) -> np.ndarray:
    """Means of columns over resampled rows, the same rows for all columns.

    Args:
        values: Shape (n_rows, n_columns); `nan` is left out.
        n_resamples: Number of resamples.
        rng: Source of randomness.
        clusters: Cluster of each row, shape (n_rows,): clusters are resampled, then rows inside
            each (the two-stage bootstrap of Davison and Hinkley 1997, 3.8), and a mean is that of
            the clusters' means. Without clusters, only rows are resampled.

    Returns:
        Shape (n_resamples, n_columns); `nan` where all drawn values are `nan`.
    """
    if clusters is None:
        rows = resample_rows(len(values), n_resamples, rng)
        known = np.isfinite(values)
        count = known[rows].sum(axis=1)
        total = np.where(known, values, 0.0)[rows].sum(axis=1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)
    groups = [np.flatnonzero(clusters == name) for name in np.unique(clusters)]
    draws = np.empty((n_resamples, values.shape[1]))
    for k in range(n_resamples):
        picked = [groups[i] for i in rng.integers(len(groups), size=len(groups))]
        means = [values[rng.choice(rows, size=len(rows))].mean(axis=0) for rows in picked]
        draws[k] = np.mean(means, axis=0)
    return draws


def paired_means(
    table: pd.DataFrame,
    reference: Hashable,
    n_resamples: int,
    rng: np.random.Generator,
    level: float = 0.95,
    clusters: np.ndarray | None = None,
) -> pd.DataFrame:
    """Means of columns and of their differences to one of them, with bootstrap intervals.

    Args:
        table: One row per unit, one column per method that is compared.
        reference: The column from which differences are taken, row by row.
        n_resamples: Number of resamples.
        rng: Source of randomness.
        level: Level of the intervals.
        clusters: See `resampled_means`.

    Returns:
        Indexed by the columns: `mean`, `lower`, `upper`, `difference`, `difference_lower` and
        `difference_upper`; `nan` where all values are `nan`.
    """
    values = table.to_numpy(dtype=float)
    both = np.hstack([values, values - table[[reference]].to_numpy(dtype=float)])
    draws = resampled_means(both, n_resamples, rng, clusters)
    tails = 100 * np.array([0.5 - level / 2, 0.5 + level / 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # columns of nan alone
        means = np.nanmean(both, axis=0)
        low, high = np.nanpercentile(draws, tails, axis=0)
    n = values.shape[1]
    columns = {
        f"{prefix}{end}": array[part]
        for prefix, part in (("", slice(n)), ("difference_", slice(n, None)))
        for end, array in (("mean", means), ("lower", low), ("upper", high))
    }
    frame = pd.DataFrame(columns, index=table.columns)
    return frame.rename(columns={"difference_mean": "difference"})


def spearman_interval(
    x: np.ndarray, y: np.ndarray, n_resamples: int = 2000, seed: int = 0, level: float = 0.8
) -> tuple[float, float]:
    """Bootstrap interval of a rank correlation, by resampling pairs.

    Args:
        x: One side, shape (n,).
        y: The other.
        n_resamples: Number of resamples; those of fewer than three distinct pairs are left out.
        seed: Seed of the resamples.
        level: Level of the interval.
    """
    rows = resample_rows(len(x), n_resamples, np.random.default_rng(seed))
    rows = rows[[len(set(row)) > 2 for row in rows.tolist()]]
    a, b = (rankdata(np.asarray(side)[rows], axis=1) for side in (x, y))
    a, b = (side - side.mean(axis=1, keepdims=True) for side in (a, b))
    draws = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    low, high = np.quantile(draws, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def reliability(
    rows: pd.DataFrame, edges: Sequence[float], hit: str = "right", by: Sequence[str] = ()
) -> pd.DataFrame:
    """Reliability of probabilities: how often the predictions in each bin came true.

    Args:
        rows: One row per prediction, with the column `p_best`; those without a probability do not
            count.
        edges: Edges of the bins.
        hit: Column that says what came true.
        by: Columns to group predictions by.

    Returns:
        One row per bin: those of `by`, `bin`, `said` (mean probability), `true` (share), `n`.
    """
    known = rows[np.isfinite(rows["p_best"])]
    bins = pd.cut(known["p_best"], list(edges), include_lowest=True).rename("bin")
    grouped = known.groupby([*by, bins], observed=True)
    return grouped.agg(said=("p_best", "mean"), true=(hit, "mean"), n=(hit, "size")).reset_index()


def _stack(
    predictions: pd.DataFrame,
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Names; scores (n_selectors, n_cells, n_models); losses (n_cells, n_models); data sets.

    Selectors that answered too few cells are left out, then cells that some remaining selector did
    not answer; absent candidates are `nan`.
    """
    table = predictions.copy()
    table[_CELL] = table[_CELL].astype(object).where(table[_CELL].notna(), -1)
    ranked = table[np.isfinite(table["score"].astype(float))]
    answered = ranked[[*_CELL, "selector"]].drop_duplicates().groupby("selector").size()
    n_cells = len(table[_CELL].drop_duplicates())
    kept = set(answered.index[answered >= MIN_ANSWERED * n_cells])
    names = tuple(name for name in dict.fromkeys(table["selector"]) if name in kept)
    table = table[table["selector"].isin(kept)]
    models = sorted(table["model"].unique())
    by_cell = ranked[ranked["selector"].isin(kept)].groupby(_CELL, sort=False)
    cells = [key for key, rows in by_cell if rows["selector"].nunique() == len(names)]
    scores = np.full((len(names), len(cells), len(models)), np.nan)
    losses = np.full((len(cells), len(models)), np.nan)
    wide = table.set_index([*_CELL, "selector", "model"]).sort_index()
    for c, cell in enumerate(cells):
        for s, name in enumerate(names):
            rows = wide.loc[(*cell, name)].reindex(models)
            scores[s, c] = rows["score"].astype(float)
            losses[c] = rows["true_loss"].astype(float)
    return names, scores, losses, np.array([cell[0] for cell in cells])


def _metric(metric: str, scores: np.ndarray, losses: np.ndarray, present: np.ndarray) -> np.ndarray:
    """The metric of every resample, shape (n_resamples, n_selectors, n_cells).

    `present` (n_resamples, n_models) says which candidates were drawn. The first candidate in the
    order of names wins ties. `nan` where no candidate has both values or, for the relative
    accuracy, where all are equally good.
    """
    known = np.isfinite(losses)
    results = np.full((len(present), len(scores), len(losses)), np.nan)
    for c in range(len(losses)):
        usable = present & known[c]
        worst = np.where(usable, losses[c], -np.inf).max(axis=1)
        best = np.where(usable, losses[c], np.inf).min(axis=1)
        for s in range(len(scores)):
            ranked = np.where(usable & np.isfinite(scores[s, c]), scores[s, c], np.inf)
            choice = ranked.argmin(axis=1)
            chosen = np.where(np.isfinite(ranked.min(axis=1)), losses[c][choice], np.nan)
            if metric == "regret":
                results[:, s, c] = chosen - best
            else:
                results[:, s, c] = relative_accuracy_of(chosen, best, worst)
    return results


def _weighted_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means over cells of (n_resamples, n_selectors, n_cells), `nan` left out."""
    used = np.isfinite(values) * weights[:, None, :]
    total = used.sum(axis=2)
    sums = (np.nan_to_num(values) * used).sum(axis=2)
    return np.where(total > 0, sums / np.where(total > 0, total, 1.0), np.nan)
