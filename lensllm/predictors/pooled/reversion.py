"""How fast candidates come closer to each other than their own laws say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Residuals:
    """What the shared laws got wrong at one cutoff, candidate against candidate.

    Attributes:
        level: How far each candidate's log loss lies above the mean of all at its last fitted size,
            shape (n_models,); `nan` where it has too few points.
        doublings: Doublings to each later size, shape (n_models, n_later); `nan` where unmeasured.
        error: Predicted minus measured log loss, less its mean over the candidates of the same
            later size, shape (n_models, n_later).
        bias: The means that were taken off, a doubling, shape (n_later,).
    """

    level: np.ndarray
    doublings: np.ndarray
    error: np.ndarray
    bias: np.ndarray

    def rates(self, reversion: float) -> np.ndarray:
        """Errors a doubling that are left when levels revert, shape (n_models, n_later)."""
        explained = self.level[:, None] * (1.0 - np.exp(-reversion * self.doublings))
        return (self.error - explained) / self.doublings


def reversion_rate(residuals: list[Residuals], prior: float, strength: float) -> float:
    """κ: the share of a level above the mean that is lost a doubling, beyond what the law says.

    Ridge regression of the errors a doubling on the levels: each cutoff and later size gives one
    slope, and the prior counts as `strength` of them.

    Args:
        residuals: Of every cutoff.
        prior: κ expected without data.
        strength: Number of slopes that the prior counts as, > 0.

    Returns:
        κ per doubling.
    """
    total, count = prior * strength, strength
    for item in residuals:
        usable = np.isfinite(item.error)
        level = np.where(np.isfinite(item.level), item.level, 0.0)[:, None] * usable
        squares = (level**2).sum(axis=0)
        rate = np.where(usable, item.error / np.where(usable, item.doublings, 1.0), 0.0)
        products = (level * rate).sum(axis=0)
        known = squares > 0
        total += float((products[known] / squares[known]).sum())
        count += int(known.sum())
    return total / count
