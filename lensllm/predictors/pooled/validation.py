"""Forward validation: the errors of the shared laws on the task's later points, and their use.

Laws fitted to the points up to one size predict the later ones. Their errors weight exponents and
floors, and show how much faster candidates come closer to each other than their laws say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lensllm.predictors.pooled.law import SharedLaw, fit_shared_law
from lensllm.predictors.pooled.settings import PooledSettings
from lensllm.predictors.table import LossTable


@dataclass(frozen=True, eq=False)
class Cutoff:
    """The laws fitted to the points up to one size, and the later ones.

    Attributes:
        laws: The laws, one per floor.
        doublings: Doublings from a candidate's last fitted size to each later one, shape
            (n_models, n_later); `nan` where that is not measured or the candidate has too few
            points.
        predicted: Predicted log losses, shape (n_floors, n_betas, n_models, n_later).
        log_loss: Measured ones, shape (n_models, n_later).
        last: Last fitted size of each candidate, shape (n_models,).
    """

    laws: tuple[SharedLaw, ...]
    doublings: np.ndarray
    predicted: np.ndarray
    log_loss: np.ndarray
    last: np.ndarray

    def keep(self, betas: np.ndarray) -> Cutoff:
        """The same for some of the exponents, by a mask."""
        laws = tuple(law.keep(betas) for law in self.laws)
        return replace(self, laws=laws, predicted=self.predicted[:, betas])

    @property
    def rates(self) -> np.ndarray:
        """Errors of the predictions per doubling: (n_floors, n_betas, n_models, n_later)."""
        return (self.predicted - self.log_loss) / self.doublings


def floors_of(table: LossTable, shares: np.ndarray) -> np.ndarray:
    """Floors E in nats, as shares of the smallest loss that was measured."""
    return shares * np.exp(np.nanmin(table.log_loss))


def cutoffs(
    table: LossTable,
    betas: np.ndarray,
    floors: np.ndarray,
    settings: PooledSettings,
) -> list[Cutoff]:
    """All ways to split the points by size into fitted and later ones.

    Args:
        table: All points.
        betas: Exponents β.
        floors: Floors E in nats.
        settings: The settings; `min_points` are needed up to the cutoff.

    Returns:
        One split per size that leaves later points of a candidate with enough earlier ones.
    """
    splits = []
    for position in range(len(table.sizes) - 1):
        early = table.until(table.sizes[position])
        enough = early.seen.sum(axis=1) >= settings.min_points
        later = table.sizes[position + 1 :]
        measured = table.log_loss[:, position + 1 :]
        usable = enough[:, None] & np.isfinite(measured)
        if not usable.any():
            continue
        laws = tuple(fit_shared_law(early, betas, floor, settings) for floor in floors)
        last = early.last
        distance = np.log2(later) - np.log2(np.maximum(last, 1.0))[:, None]
        predicted = np.stack([law.log_loss(later) for law in laws])
        doublings = np.where(usable, distance, np.nan)
        splits.append(Cutoff(laws, doublings, predicted, measured, last))
    return splits


def shape_weights(
    splits: list[Cutoff], log_prior: np.ndarray, strength: float, tolerance: float
) -> np.ndarray:
    """Weights of exponents and floors, by how well they predict the task's later points.

    log w = log prior − strength/2 · log(tolerance² + mean squared error per doubling): the
    likelihood of `strength` Gaussian errors whose variance was maximised out (the profile
    likelihood). The errors of one task are far from independent, so their number does not enter.

    Args:
        splits: The splits.
        log_prior: Shape (n_floors, n_betas); −inf where excluded.
        strength: Number of independent errors that all of them count as.
        tolerance: Error per doubling that cannot be distinguished from 0.

    Returns:
        Weights that sum to 1, shape (n_floors, n_betas).
    """
    log_weight = log_prior
    if splits:
        squares = [_mean(split.rates**2) for split in splits]
        error = np.concatenate(squares, axis=2).mean(axis=2)
        log_weight = log_prior - 0.5 * strength * np.log(tolerance**2 + error)
    weights = np.exp(log_weight - log_weight.max())
    return weights / weights.sum()


def _mean(values: np.ndarray) -> np.ndarray:
    """Means over candidates, for later sizes that have at least one: (n_floors, n_betas, k)."""
    known = np.isfinite(values).any(axis=(0, 1, 2))
    return np.nanmean(values[..., known], axis=2)


@dataclass(frozen=True, eq=False)
class Residuals:
    """Errors of the shared laws at one cutoff, relative to their mean over the candidates.

    Attributes:
        level: How far each candidate's log loss lies above the mean of all at its last fitted size,
            shape (n_models,); `nan` where it has too few points.
        doublings: Doublings to each later size, shape (n_models, n_later); `nan` where unmeasured.
        error: Predicted minus measured log loss, less its mean over the candidates of the same
            later size, shape (n_models, n_later).
        bias: The means that were subtracted, per doubling, shape (n_later,).
    """

    level: np.ndarray
    doublings: np.ndarray
    error: np.ndarray
    bias: np.ndarray

    def rates(self, reversion: float) -> np.ndarray:
        """Errors per doubling that are left when levels revert, shape (n_models, n_later)."""
        explained = self.level[:, None] * (1.0 - np.exp(-reversion * self.doublings))
        return (self.error - explained) / self.doublings


def reversion_rate(residuals: list[Residuals], prior: float, strength: float) -> float:
    """κ: the share of a level above the mean lost per doubling, beyond what the law says.

    Ridge regression of the errors per doubling on the levels: each cutoff and later size gives one
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
