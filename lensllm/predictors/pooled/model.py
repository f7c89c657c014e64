"""One task's fitted predictor: shared parts, each candidate's own, and their uncertainty."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lensllm.predictors.pooled.law import MAX_LEARNED_FROM, SharedLaw, fit_shared_law
from lensllm.predictors.pooled.settings import PooledSettings
from lensllm.predictors.pooled.validation import (
    Cutoff,
    Residuals,
    cutoffs,
    floors_of,
    reversion_rate,
    shape_weights,
)
from lensllm.predictors.table import LossTable

# Exponents and floors with less weight than this, relative to the best, are left out.
_NEGLIGIBLE = 1e-3
# Smallest standard deviation of a measured log loss.
_SMALLEST_NOISE = 0.004


@dataclass(frozen=True, eq=False)
class PooledModel:
    """What `fit_pooled` found.

    Attributes:
        table: The points.
        laws: Laws that are kept, one per floor.
        weights: Weight of each exponent and floor, shape (n_floors, n_betas).
        level: How far each candidate lies above the mean of all, in log loss at its last size.
        reversion: κ per doubling.
        effect: Own rate of each candidate, in log loss per doubling, shape (n_models,).
        effect_spread: Its posterior standard deviation, same shape.
        rate_spread: Standard deviation of errors per doubling in the forward validation.
        bias: Expected error per doubling that all candidates share, from earlier tasks.
        bias_spread: Its remaining standard deviation; without earlier tasks the root mean square of
            the errors that all candidates share in the forward validation.
        noise: Standard deviation of a measured log loss, shape (n_models,).
    """

    table: LossTable
    laws: tuple[SharedLaw, ...]
    weights: np.ndarray
    level: np.ndarray
    reversion: float
    effect: np.ndarray
    effect_spread: np.ndarray
    rate_spread: float
    bias_spread: float
    noise: np.ndarray
    bias: float = 0.0

    def doublings(self, sizes: np.ndarray) -> np.ndarray:
        """Doublings beyond each candidate's last size, 0 up to it: (n_models, n_sizes)."""
        return np.maximum(np.log2(sizes) - np.log2(self.table.last)[:, None], 0.0)

    def law_log_loss(self, sizes: np.ndarray) -> np.ndarray:
        """Log L by every law that is kept: (n_floors, n_betas, n_models, n_sizes)."""
        return np.stack([law.log_loss(sizes) for law in self.laws])

    def correction(self, sizes: np.ndarray) -> np.ndarray:
        """Sum of reversion, own rates and bias, subtracted from log loss: (n_models, n_sizes)."""
        distance = self.doublings(sizes)
        reverted = self.level[:, None] * (1.0 - np.exp(-self.reversion * distance))
        return reverted + (self.effect[:, None] + self.bias) * distance

    def centre(self, sizes: np.ndarray) -> np.ndarray:
        """Expected log loss at sizes D > 0 of shape (n_sizes,): (n_models, n_sizes)."""
        mean = np.einsum("fb,fbnd->nd", self.weights, self.law_log_loss(sizes))
        return mean - self.correction(sizes)


def fit_pooled(table: LossTable, settings: PooledSettings) -> PooledModel:
    """Fit the predictor to the points of one task.

    Args:
        table: The points, at least one per candidate.
        settings: The settings.

    Returns:
        The fitted predictor.
    """
    floors = floors_of(table, np.array(settings.floor_shares))
    betas, weights, splits = _shape(table, settings, floors)
    residuals = [_residuals(split, weights) for split in splits]
    reversion = reversion_rate(residuals, settings.reversion, settings.reversion_strength)
    rates = _mean_rates(residuals, reversion, len(table.models))
    rate_spread, bias_spread = _spreads(residuals, rates, settings)
    effect, variance = shrunken_effects(
        rates, table.family_index, settings.family_variance, settings.model_variance
    )
    laws = tuple(fit_shared_law(table, betas, floor, settings) for floor in floors)
    return PooledModel(
        table=table,
        laws=laws,
        weights=weights,
        level=_levels(laws, weights, table.last),
        reversion=reversion,
        effect=effect,
        effect_spread=rate_spread * np.sqrt(variance),
        rate_spread=rate_spread,
        bias_spread=bias_spread,
        noise=_noise(laws, weights),
    )


def _shape(
    table: LossTable, settings: PooledSettings, floors: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[Cutoff]]:
    """The exponents that are not negligible, the weights of floors and exponents, the splits."""
    betas = settings.betas
    log_prior = -0.5 * (np.log(betas / settings.exponent) / settings.exponent_spread) ** 2
    log_prior = np.broadcast_to(log_prior, (len(floors), len(betas)))
    judged = table
    if len(table.models) > MAX_LEARNED_FROM:
        rows = np.random.default_rng(0).choice(len(table.models), MAX_LEARNED_FROM, replace=False)
        judged = table.take(np.sort(rows))
    splits = cutoffs(judged, betas, floors, settings)
    weights = shape_weights(splits, log_prior, settings.validation_strength, settings.tolerance)
    kept = weights.max(axis=0) > _NEGLIGIBLE * weights.max()
    weights, betas = weights[:, kept] / weights[:, kept].sum(), betas[kept]
    if judged is table:
        return betas, weights, [split.keep(kept) for split in splits]
    splits = cutoffs(table, betas, floors, settings)
    return betas, weights, splits


def _residuals(split: Cutoff, weights: np.ndarray) -> Residuals:
    """Errors of the weighted prediction at one cutoff, relative to their mean over candidates."""
    usable = np.isfinite(split.doublings)
    kept = usable.any(axis=0)
    predicted = np.einsum("fb,fbnd->nd", weights, split.predicted[..., kept])
    error = np.where(usable[:, kept], predicted - split.log_loss[:, kept], np.nan)
    bias = np.nanmean(error, axis=0)
    doublings = np.where(usable[:, kept], split.doublings[:, kept], np.nan)
    level = np.where(usable.any(axis=1), _levels(split.laws, weights, split.last), np.nan)
    return Residuals(level, doublings, error - bias, bias / np.nanmean(doublings, axis=0))


def _levels(laws: tuple[SharedLaw, ...], weights: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Log L of each candidate at its last size less the mean of all candidates there."""
    sizes, position = np.unique(last[last > 0], return_inverse=True)
    values = np.stack([law.log_loss(sizes) for law in laws])
    curves = np.einsum("fb,fbnd->nd", weights, values)
    deviation = np.full(len(last), np.nan)
    rows = np.flatnonzero(last > 0)
    deviation[rows] = (curves - np.nanmean(curves, axis=0))[rows, position]
    return deviation


def _mean_rates(residuals: list[Residuals], reversion: float, n_models: int) -> np.ndarray:
    """Mean error per doubling of each candidate over all cutoffs; `nan` without any."""
    total, count = np.zeros(n_models), np.zeros(n_models)
    for item in residuals:
        rates = item.rates(reversion)
        total += np.nansum(rates, axis=1)
        count += np.isfinite(rates).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _spreads(
    residuals: list[Residuals], rates: np.ndarray, settings: PooledSettings
) -> tuple[float, float]:
    """Spread of the candidates' rates and of their common bias, with prior ones mixed in."""
    n_sizes = sum(item.error.shape[1] for item in residuals)
    own = float(np.nanmean(rates**2)) if np.isfinite(rates).any() else 0.0
    biases = np.concatenate([item.bias for item in residuals]) if residuals else np.zeros(0)
    strength, prior = settings.spread_strength, settings.rate_spread**2
    total = n_sizes + strength
    return (
        math.sqrt((n_sizes * own + strength * prior) / total),
        math.sqrt((float((biases**2).sum()) + strength * prior) / total),
    )


def _noise(laws: tuple[SharedLaw, ...], weights: np.ndarray) -> np.ndarray:
    """Standard deviation of a measured log loss: the median of the candidates' residuals."""
    squares = np.einsum("fb,fbn->n", weights, np.stack([law.residual for law in laws]) ** 2)
    middle = math.sqrt(float(np.median(squares)))
    return np.full(len(squares), max(middle, _SMALLEST_NOISE))


def shrunken_effects(
    rates: np.ndarray,
    family: np.ndarray,
    family_variance: float,
    model_variance: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior of effects with a part that the family shares and one of the candidate alone.

    rate_i = f_family(i) + c_i + noise, with all variances in units of the noise's: best
    linear prediction of random effects (Henderson 1975, Biometrics 31:423).

    Args:
        rates: Measured rates, shape (n_models,); `nan` where there is none.
        family: Position of the family, shape (n_models,).
        family_variance: Variance of f over that of the noise.
        model_variance: Variance of c over that of the noise.

    Returns:
        Mean, in the units of `rates`, and variance over the noise's, both of shape (n_models,).
    """
    known = np.isfinite(rates)
    excess = np.where(known, rates, 0.0)
    size = int(family.max(initial=-1)) + 1
    count = np.bincount(family, weights=known, minlength=size)
    total = np.bincount(family, weights=excess, minlength=size)
    spread = model_variance + 1.0
    shared = family_variance * total / (family_variance * count + spread)
    shared_variance = family_variance * spread / (family_variance * count + spread)
    own = model_variance / spread
    gain = np.where(known, own, 0.0)
    mean = shared[family] + gain * (excess - shared[family])
    variance = (1.0 - gain) ** 2 * shared_variance[family] + np.where(known, own, model_variance)
    return mean, variance
