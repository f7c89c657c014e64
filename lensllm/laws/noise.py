"""The noise of a curve, split into noise between seeds and misfit of the law."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lensllm.laws.result import LawFit


@dataclass(frozen=True)
class NoiseEstimate:
    """Standard deviations on log loss, that is, relative to the loss.

    Attributes:
        total: Of the residuals, with n − (free coordinates) degrees of freedom; `nan` where there
            are none left.
        seed: Between runs of the same size; `nan` without repeated sizes.
        misfit: The part of `total` beyond `seed`, which is the error of the law; `nan` without
            repeated sizes.
    """

    total: float
    seed: float = math.nan
    misfit: float = math.nan


def estimate_noise(fit: LawFit) -> NoiseEstimate:
    """Split a fit's residuals into noise between seeds and misfit (lack-of-fit decomposition).

    With r residuals on log loss, n points on m sizes and k free coordinates,
    seed² = Σ (r − mean at its size)² / (n − m), and the mean square of the sizes' means over
    m − k degrees of freedom estimates seed² + misfit² · n / m.

    Args:
        fit: A fit, to points of several seeds where the split is wanted.

    Returns:
        The estimate.
    """
    problem, i = fit.batch.problem, fit.index
    z = fit.batch.coordinates[i]
    n_free = int(((z > problem.lower[i]) & (z < problem.upper[i])).sum())
    residuals = fit.log_residuals
    n_points = len(residuals)
    squares = float((residuals**2).sum())
    total = math.sqrt(squares / (n_points - n_free)) if n_points > n_free else math.nan
    sizes, place = np.unique(fit.n_samples, return_inverse=True)
    if len(sizes) == n_points:
        return NoiseEstimate(total)
    means = np.bincount(place, residuals) / np.bincount(place)
    within = float(((residuals - means[place]) ** 2).sum())
    seed_variance = within / (n_points - len(sizes))
    if len(sizes) <= n_free:
        return NoiseEstimate(total, math.sqrt(seed_variance))
    between = (squares - within) / (len(sizes) - n_free)
    misfit = max(between - seed_variance, 0.0) * len(sizes) / n_points
    return NoiseEstimate(total, math.sqrt(seed_variance), math.sqrt(misfit))
