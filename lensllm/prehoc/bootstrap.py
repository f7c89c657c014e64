"""Draws of mean squared errors: a studentised bootstrap over whole clusters."""

from __future__ import annotations

import numpy as np

MAX_DEVIATION = 5.0  # cap on |t*|: where the resampled clusters are alike, s* is close to 0
_TINY = 1e-12


def cluster_draws(
    values: np.ndarray, clusters: np.ndarray, n_draws: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws of the mean M of rows >= 0, whose percentiles are confidence limits of the true mean.

    With few clusters, resampled means of squared errors lie too low and too near each other: a
    resample without the large errors also has too small a spread. The studentised logarithm
    t* = (log M* − log M) / s* is nearly a pivot: its distribution hardly depends on the truth. The
    draws are therefore M exp(−s t*) (the bootstrap-t interval: Efron, Can. J. Statist. 9, 1981). s
    is the standard error of the logarithm of a mean over clusters, by the delta method.

    Args:
        values: Shape (n_rows, n_columns), >= 0.
        clusters: Cluster of each row, shape (n_rows,); clusters are resampled whole.
        n_draws: Number of draws.
        rng: Source of randomness.

    Returns:
        Shape (n_draws, n_columns); all columns of a draw come from the same resample.
    """
    names, index = np.unique(clusters, return_inverse=True)
    mean = values.mean(0)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, index, values / np.where(mean > 0, mean, 1.0))
    sizes = np.bincount(index).astype(float)[:, None]
    resampled = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_draws)
    _, error = _log_mean(sums, sizes, np.ones((1, len(names))))
    log_ratio, errors = _log_mean(sums, sizes, resampled)
    deviation = np.clip(log_ratio / errors, -MAX_DEVIATION, MAX_DEVIATION)
    return mean * np.exp(-error * deviation)


def _log_mean(
    sums: np.ndarray, sizes: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of Σ sums / Σ sizes over clusters taken `counts` times, and its standard error."""
    n = counts @ sizes
    mean = np.maximum(counts @ sums / n, _TINY)
    squares = (counts @ sums**2) / mean**2 - 2 * (counts @ (sums * sizes)) / mean
    return np.log(mean), np.sqrt(np.maximum(squares + counts @ sizes**2, _TINY)) / n
