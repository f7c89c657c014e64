"""Metrics of selections as pure functions of arrays: unrounded, `nan` where undefined.

All metrics of a selection take one score and one true loss per candidate, both of shape
(n_candidates,), smaller being better. The candidate with the smallest score is the one selected,
the first one on ties; a score that is not finite is never selected where another one is finite.
Candidates whose true loss is not finite are left out of the best and the worst. Where a metric is
undefined it is `nan`, with a warning that says why.
"""

from __future__ import annotations

import math
import warnings

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


def relative_accuracy(scores: ArrayLike, losses: ArrayLike) -> float:
    """(L_worst − L_selected) / (L_worst − L_best), the RelAcc of RSL (arXiv:2402.02314).

    1 for the best choice, 0 for the worst; undefined where all candidates are equally good.

    Args:
        scores: Scores, shape (n_candidates,).
        losses: True losses at D_full in nats per target token, shape (n_candidates,).

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> relative_accuracy([0.2, 0.1, 0.3], [1.0, 2.0, 3.0])
        0.5
    """
    chosen, known = _selected(scores, losses)
    if math.isnan(chosen):
        return _undefined("relative accuracy", "no candidate has both a score and a true loss")
    if known.max() == known.min():
        return _undefined("relative accuracy", "all candidates have the same true loss")
    return float(relative_accuracy_of(chosen, known.min(), known.max()))


def relative_accuracy_of(chosen: ArrayLike, best: ArrayLike, worst: ArrayLike) -> np.ndarray:
    """`relative_accuracy` of the losses of choices, elementwise; `nan` where all are equal.

    Args:
        chosen: True losses of the chosen candidates in nats, any shape.
        best: Smallest true losses, a shape that broadcasts with it.
        worst: Largest true losses, likewise.

    Returns:
        (worst − chosen) / (worst − best), of the broadcast shape.
    """
    chosen, best, worst = (np.asarray(x, dtype=float) for x in (chosen, best, worst))
    return (worst - chosen) / np.where(worst > best, worst - best, np.nan)


def regret(scores: ArrayLike, losses: ArrayLike) -> float:
    """L_selected − L_best in nats per target token, ≥ 0.

    Args:
        scores: See `relative_accuracy`.
        losses: See `relative_accuracy`.
    """
    chosen, known = _selected(scores, losses)
    if math.isnan(chosen):
        return _undefined("regret", "no candidate has both a score and a true loss")
    return chosen - float(known.min())


def relative_regret(scores: ArrayLike, losses: ArrayLike) -> float:
    """(L_selected − L_best) / (L_median − L_best), at most 1; 0 where the two are equal.

    It compares data sets whose losses have different spreads: 1 is a choice that is no better than
    half of the candidates.

    Args:
        scores: See `relative_accuracy`.
        losses: See `relative_accuracy`.
    """
    chosen, known = _selected(scores, losses)
    if math.isnan(chosen):
        return _undefined("relative regret", "no candidate has both a score and a true loss")
    spread = float(np.median(known) - known.min())
    return min(1.0, (chosen - float(known.min())) / spread) if spread > 0 else 0.0


def top_k_hit(scores: ArrayLike, losses: ArrayLike, k: int = 3) -> float:
    """1 if the selected candidate is truly among the k best, else 0.

    Args:
        scores: See `relative_accuracy`.
        losses: See `relative_accuracy`.
        k: How many count as a hit, ≥ 1; candidates that tie with the k-th count too.

    Raises:
        ValueError: `k` is below 1.
    """
    if k < 1:
        raise ValueError(f"Expected `k` >= 1, got {k}")
    chosen, known = _selected(scores, losses)
    if math.isnan(chosen):
        return _undefined("top-k hit", "no candidate has both a score and a true loss")
    return float(chosen <= np.sort(known)[: min(k, len(known))][-1])


def log_rmse(predicted: ArrayLike, losses: ArrayLike) -> float:
    """Root mean squared error of log loss (RSL's RMSD), over the pairs that are finite.

    Args:
        predicted: Predicted losses, shape (n,).
        losses: True losses, shape (n,).
    """
    predicted, losses = _pair(predicted, losses)
    used = np.isfinite(predicted) & np.isfinite(losses)
    if not used.any():
        return _undefined("log RMSE", "no candidate has both a prediction and a true loss")
    return float(np.sqrt(np.mean((np.log(predicted[used]) - np.log(losses[used])) ** 2)))


def interval_coverage(lower: ArrayLike, upper: ArrayLike, losses: ArrayLike) -> float:
    """Share of true losses inside their interval, over the intervals that are finite.

    Args:
        lower: Lower ends, shape (n,).
        upper: Upper ends, shape (n,).
        losses: True losses, shape (n,).

    Returns:
        A number in [0, 1]; the level of the intervals, if they are calibrated.
    """
    low, high, truth = _intervals(lower, upper, losses)
    if not len(truth):
        return _undefined("interval coverage", "no candidate has both an interval and a true loss")
    return float(np.mean((low <= truth) & (truth <= high)))


def interval_width(lower: ArrayLike, upper: ArrayLike, losses: ArrayLike) -> float:
    """Sharpness: mean of log(upper / lower), over the intervals that count for the coverage.

    Args:
        lower: Lower ends, shape (n,).
        upper: Upper ends, shape (n,).
        losses: True losses, shape (n,); intervals without a finite one do not count.

    Returns:
        A number ≥ 0; smaller is better at equal coverage.
    """
    low, high, truth = _intervals(lower, upper, losses)
    if not len(truth):
        return _undefined("interval width", "no candidate has both an interval and a true loss")
    return float(np.mean(np.log(high / low)))


def expected_random(truth: ArrayLike) -> dict[str, float]:
    """Exact expectation of the metrics of a uniformly random choice.

    Args:
        truth: True losses of the candidates, all finite.

    Returns:
        `relative_accuracy`, `regret` and `top3_hit`; the first is `nan` where all are equal.
    """
    losses = np.sort(np.asarray(truth, dtype=float))
    spread = losses[-1] - losses[0]
    return {
        "relative_accuracy": float((losses[-1] - losses).mean() / spread) if spread else math.nan,
        "regret": float((losses - losses[0]).mean()),
        "top3_hit": float((losses <= losses[min(2, len(losses) - 1)]).mean()),
    }


def correlations(scores: ArrayLike, losses: ArrayLike) -> dict[str, float]:
    """Pearson, Spearman and Kendall correlation over the candidates that have both values.

    Returns:
        The three by name; `nan` with fewer than two candidates, or where either side is constant.
    """
    scores, losses = _pair(scores, losses)
    used = np.isfinite(scores) & np.isfinite(losses)
    x, y = scores[used], losses[used]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return dict.fromkeys(("pearson", "spearman", "kendall"), math.nan)
    return {
        "pearson": float(stats.pearsonr(x, y).statistic),
        "spearman": float(stats.spearmanr(x, y).statistic),
        "kendall": float(stats.kendalltau(x, y).statistic),
    }


def _pair(left: ArrayLike, right: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as vectors of one length."""
    left, right = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    if left.ndim != 1 or left.shape != right.shape:
        raise ValueError(
            f"Expected two vectors of one length, got shapes {left.shape} and {right.shape}"
        )
    return left, right


def _intervals(
    lower: ArrayLike, upper: ArrayLike, losses: ArrayLike
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The intervals that count, with their true losses."""
    low, truth = _pair(lower, losses)
    high, _ = _pair(upper, losses)
    used = np.isfinite(low) & np.isfinite(high) & np.isfinite(truth)
    return low[used], high[used], truth[used]


def _selected(scores: ArrayLike, losses: ArrayLike) -> tuple[float, np.ndarray]:
    """True loss of the selected candidate, `nan` where there is none, and all that are known."""
    scores, losses = _pair(scores, losses)
    known = losses[np.isfinite(losses)]
    if not np.isfinite(scores).any():
        return math.nan, known
    chosen = losses[np.where(np.isfinite(scores), scores, np.inf).argmin()]
    return (float(chosen) if np.isfinite(chosen) else math.nan), known


def _undefined(metric: str, why: str) -> float:
    """`nan`, with a warning."""
    warnings.warn(f"{metric} is undefined: {why}", UserWarning, stacklevel=3)
    return math.nan
