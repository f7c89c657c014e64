"""Metrics of selections as pure functions of tensors: unrounded, `nan` where undefined.

All metrics of a selection take one score and one true loss a candidate, both of shape
(n_candidates,), smaller being better. The candidate with the smallest score is the one selected,
the first one on ties; a score that is not finite is never selected while another one is. Candidates
whose true loss is not finite are left out of what is best and worst. Where a metric is undefined it
is `nan`, with a warning that says why.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor


def relative_accuracy(scores: Tensor, losses: Tensor) -> Tensor:
    """(L_worst − L_selected) / (L_worst − L_best), the RelAcc of RSL (arXiv:2402.02314).

    1 for the best choice, 0 for the worst; undefined where all candidates are equally good.

    Args:
        scores: Scores, shape (n_candidates,).
        losses: True losses at D_full in nats per target token, shape (n_candidates,).

    Returns:
        A scalar in [0, 1].

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> relative_accuracy(torch.tensor([0.2, 0.1, 0.3]), torch.tensor([1.0, 2.0, 3.0])).item()
        0.5
    """
    scores, losses = _pair(scores, losses)
    chosen, known = _selected(scores, losses)
    if chosen is None:
        return _undefined("relative accuracy", "no candidate has both a score and a true loss")
    spread = known.max() - known.min()
    if spread == 0:
        return _undefined("relative accuracy", "all candidates have the same true loss")
    return (known.max() - chosen) / spread


def regret(scores: Tensor, losses: Tensor) -> Tensor:
    """L_selected − L_best in nats per target token, ≥ 0.

    Args:
        scores: See `relative_accuracy`.
        losses: See `relative_accuracy`.

    Returns:
        A scalar.
    """
    scores, losses = _pair(scores, losses)
    chosen, known = _selected(scores, losses)
    if chosen is None:
        return _undefined("regret", "no candidate has both a score and a true loss")
    return chosen - known.min()


def relative_regret(scores: Tensor, losses: Tensor) -> Tensor:
    """(L_selected − L_best) / (L_median − L_best), at most 1; 0 where the two are equal.

    One number for data sets whose losses spread differently: 1 is a choice that is no better than
    half of the candidates.

    Args:
        scores: See `relative_accuracy`.
        losses: See `relative_accuracy`.

    Returns:
        A scalar in [0, 1].
    """
    lost = regret(scores, losses)
    known = torch.as_tensor(losses, dtype=torch.float64)
    known = known[torch.isfinite(known)].sort().values
    if not torch.isfinite(lost):
        return lost
    median = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
    spread = median - known[0]
    return (lost / spread).clamp(max=1.0) if spread > 0 else torch.zeros_like(lost)


def top_k_hit(scores: Tensor, losses: Tensor, k: int = 3) -> Tensor:
    """1 if the selected candidate is truly among the k best, else 0.

    Args:
        scores: See `relative_accuracy`.
        losses: See `relative_accuracy`.
        k: How many count as a hit, ≥ 1; candidates that tie with the k-th count too.

    Returns:
        A scalar.

    Raises:
        ValueError: `k` is below 1.
    """
    if k < 1:
        raise ValueError(f"Expected `k` >= 1, got {k}")
    scores, losses = _pair(scores, losses)
    chosen, known = _selected(scores, losses)
    if chosen is None:
        return _undefined("top-k hit", "no candidate has both a score and a true loss")
    return (chosen <= known.sort().values[: min(k, len(known))][-1]).to(losses.dtype)


def log_rmse(predicted: Tensor, losses: Tensor) -> Tensor:
    """Root mean squared error of log loss (RSL's RMSD), over the pairs that are finite.

    Args:
        predicted: Predicted losses, shape (n,).
        losses: True losses, shape (n,).

    Returns:
        A scalar.
    """
    squares, count = log_squares(*_pair(predicted, losses))
    if count == 0:
        return _undefined("log RMSE", "no candidate has both a prediction and a true loss")
    return (squares / count).sqrt()


def interval_coverage(lower: Tensor, upper: Tensor, losses: Tensor) -> Tensor:
    """Share of true losses inside their interval, over the intervals that are finite.

    Args:
        lower: Lower ends, shape (n,).
        upper: Upper ends, shape (n,).
        losses: True losses, shape (n,).

    Returns:
        A scalar in [0, 1]; the level of the intervals, if they are calibrated.
    """
    inside, _, count = interval_counts(lower, upper, losses)
    if count == 0:
        return _undefined("interval coverage", "no candidate has both an interval and a true loss")
    return inside / count


def interval_width(lower: Tensor, upper: Tensor, losses: Tensor) -> Tensor:
    """Sharpness: mean of log(upper / lower), over the intervals that count for the coverage.

    Args:
        lower: Lower ends, shape (n,).
        upper: Upper ends, shape (n,).
        losses: True losses, shape (n,), which say which intervals count.

    Returns:
        A scalar ≥ 0; smaller is better at equal coverage.
    """
    _, width, count = interval_counts(lower, upper, losses)
    if count == 0:
        return _undefined("interval width", "no candidate has both an interval and a true loss")
    return width / count


def log_squares(predicted: Tensor, losses: Tensor) -> tuple[Tensor, int]:
    """Sum of squared errors of log loss, and over how many finite pairs."""
    predicted, losses = _pair(predicted, losses)
    used = torch.isfinite(predicted) & torch.isfinite(losses)
    errors = predicted[used].log() - losses[used].log()
    return (errors**2).sum(), int(used.sum())


def interval_counts(lower: Tensor, upper: Tensor, losses: Tensor) -> tuple[Tensor, Tensor, int]:
    """How many true losses are inside, the sum of log widths, and how many intervals count."""
    lower, losses = _pair(lower, losses)
    upper, losses = _pair(upper, losses)
    used = torch.isfinite(lower) & torch.isfinite(upper) & torch.isfinite(losses)
    inside = ((lower <= losses) & (losses <= upper))[used].sum().to(losses.dtype)
    return inside, (upper[used] / lower[used]).log().sum(), int(used.sum())


def _pair(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64 vectors of one length."""
    left, right = (torch.as_tensor(x, dtype=torch.float64) for x in (left, right))
    if left.ndim != 1 or left.shape != right.shape:
        raise ValueError(
            "Expected two vectors of one length, "
            f"got shapes {tuple(left.shape)} and {tuple(right.shape)}"
        )
    return left, right


def _selected(scores: Tensor, losses: Tensor) -> tuple[Tensor | None, Tensor]:
    """True loss of the selected candidate, or `None`, and all true losses that are known."""
    known = losses[torch.isfinite(losses)]
    if not torch.isfinite(scores).any():
        return None, known
    # argmin takes the first one on ties on the CPU only
    ranked = torch.where(torch.isfinite(scores), scores, torch.inf)
    chosen = losses[torch.nonzero(ranked == ranked.min())[0, 0]]
    return (chosen if torch.isfinite(chosen) else None), known


def _undefined(metric: str, why: str) -> Tensor:
    """`nan`, with a warning."""
    warnings.warn(f"{metric} is undefined: {why}", UserWarning, stacklevel=3)
    return torch.tensor(torch.nan, dtype=torch.float64)
