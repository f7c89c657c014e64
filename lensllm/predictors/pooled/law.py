"""The mean of the predictor: rectified laws that share exponent and floor, and slopes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from lensllm.predictors.pooled.settings import PooledSettings
from lensllm.predictors.table import LossTable

# Logits of the share of the final log-log slope that is reached at the largest size.
LOGITS = np.linspace(-6.0, 6.0, 241)
# Logs of mean slopes that are considered, in standard deviations of their prior.
_MEANS = np.linspace(-3.0, 3.0, 31)
# Pairs of mean and spread with less weight than this, relative to the best, are left out.
_NEGLIGIBLE = 1e-3
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class SlopePrior:
    """Posterior of the mean and spread of the candidates' slopes, as weighted pairs.

    Attributes:
        weight: Posterior weight of each pair, shape (n_betas, n_pairs); rows sum to 1.
        density: Probabilities of the logits under each pair, shape (n_betas, n_pairs, n_logits).
        slopes: Log-log slopes g of the logits, shape (n_betas, n_logits).
    """

    weight: np.ndarray
    density: np.ndarray
    slopes: np.ndarray

    def posterior(self, log_likelihood: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of every candidate's slope g under each pair.

        Args:
            log_likelihood: Of every candidate's logits, shape (n_models, n_betas, n_logits).

        Returns:
            Both of shape (n_betas, n_pairs, n_models).
        """
        top = log_likelihood.max(axis=2, keepdims=True)
        likelihood = np.moveaxis(np.exp(log_likelihood - top), 0, 2)
        total = self.density @ likelihood + _TINY
        mean = (self.density * self.slopes[:, None]) @ likelihood / total
        square = (self.density * self.slopes[:, None] ** 2) @ likelihood / total
        return mean, np.sqrt(np.maximum(square - mean**2, 0.0))


def slope_prior(
    log_likelihood: np.ndarray, betas: np.ndarray, settings: PooledSettings
) -> SlopePrior:
    r"""Prior of a candidate's slope, learned from all of them (hierarchical Bayes).

    The log-log slope at the largest size, g = β / (1 + exp(−u)), is normal over candidates, between
    its bounds 0 and β. Pairs of mean and standard deviation of that normal are weighted by the
    likelihood of all candidates' points and, for means, by a log-normal prior. The pairs are not
    averaged: the uncertainty of the mean is common to all candidates and changes none of their
    differences.

    Args:
        log_likelihood: Of every candidate's logits, shape (n_models, n_betas, n_logits).
        betas: Exponents β, shape (n_betas,).
        settings: The settings.

    Returns:
        The pairs that are not negligible.
    """
    key = (settings.slope, settings.slope_uncertainty, tuple(settings.slope_spreads))
    log_weight, density = _slope_densities(tuple(betas.tolist()), *key)
    if len(log_likelihood):
        top = log_likelihood.max(axis=2, keepdims=True)
        likelihood = np.moveaxis(np.exp(log_likelihood - top), 1, 0) @ density.swapaxes(1, 2)
        log_weight = log_weight + np.log(likelihood + _TINY).sum(axis=1)
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    weight = np.broadcast_to(weight, density.shape[:2])
    kept = (weight > _NEGLIGIBLE).any(axis=0)
    weight = weight[:, kept] / weight[:, kept].sum(axis=1, keepdims=True)
    return SlopePrior(weight, density[:, kept], slopes_of(LOGITS, betas[:, None]))


def slopes_of(logits: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Log-log slopes g = β / (1 + exp(−u)) of logits u."""
    return betas / (1.0 + np.exp(-logits))


def logits_of(slopes: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Logits u of log-log slopes g, within the range of `LOGITS`."""
    bounds = betas / (1.0 + np.exp(-LOGITS[0])), betas / (1.0 + np.exp(-LOGITS[-1]))
    inside = np.clip(slopes, *bounds)
    return np.log(inside / (betas - inside))


@lru_cache(maxsize=64)
def _slope_densities(
    betas: tuple[float, ...], slope: float, uncertainty: float, spreads: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Log prior of each pair of mean and spread, and the probabilities of the logits under it.

    Returns:
        Shapes (1, n_pairs) and (n_betas, n_pairs, n_logits); the second sums to 1.
    """
    means, widths = np.meshgrid(_MEANS, np.array(spreads), indexing="ij")
    slopes = slopes_of(LOGITS, np.array(betas)[:, None])
    centre = slope * np.exp(uncertainty * means.reshape(-1, 1))
    exponent = -0.5 * ((slopes[:, None, :] / centre - 1.0) / widths.reshape(-1, 1)) ** 2
    density = np.exp(exponent - exponent.max(axis=2, keepdims=True))
    return -0.5 * means.reshape(1, -1) ** 2, density / density.sum(axis=2, keepdims=True)


# Largest number of candidates from which the noise and the prior of slopes are learned.
MAX_LEARNED_FROM = 300
_CHUNK_CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class SharedLaw:
    r"""Rectified laws L_i = B_i / (D_i + D^β) + E, one for every candidate and exponent β.

    With x = log D and b(x) = log(1 + exp(u_i + β (x − x_0))), log(L_i − E) = m_i − b(x) + mean of
    b: a weighted mean m_i of what was measured, and a logit u_i of how much of the final slope −β
    is reached at x_0, where the log-log slope is g_i = β / (1 + exp(−u_i)). β and E are the same
    for all candidates of a task (Lin et al. 2024, arXiv:2402.02314, fit all four to each
    candidate); slopes are normal over candidates, with one of several pairs of mean and spread.

    Attributes:
        betas: Exponents β, shape (n_betas,).
        floor: E in nats.
        sizes: Measured sizes, shape (n_sizes,); x_0 is the log of the last.
        weights: Weights of a candidate's points in its means, shape (n_models, n_sizes).
        level: m, shape (n_models,); `nan` for candidates without a point.
        pair_weight: Posterior weight of each pair, shape (n_betas, n_pairs).
        slope: Posterior mean of g under each pair, shape (n_betas, n_pairs, n_models).
        slope_spread: Its posterior standard deviation, same shape.
        residual: Weighted root mean square of the residuals of log(L − E), shape (n_betas,
            n_models).
    """

    betas: np.ndarray
    floor: float
    sizes: np.ndarray
    weights: np.ndarray
    level: np.ndarray
    pair_weight: np.ndarray
    slope: np.ndarray
    slope_spread: np.ndarray
    residual: np.ndarray

    def keep(self, chosen: np.ndarray) -> SharedLaw:
        """The laws of some of the exponents, by a mask."""
        names = ("betas", "pair_weight", "slope", "slope_spread", "residual")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def log_loss(self, sizes: np.ndarray) -> np.ndarray:
        """Log L at sizes D > 0 of shape (n_sizes,): shape (n_betas, n_models, n_sizes)."""
        slope = np.einsum("bh,bhn->bn", self.pair_weight, self.slope)
        return self._log_loss(sizes, self.betas, slope)

    def draw_log_loss(
        self, sizes: np.ndarray, betas: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Draws of log L: one pair for all candidates, then a slope for each of them.

        Args:
            sizes: Sizes D > 0, shape (n_sizes,).
            betas: Position of the exponent of each draw, shape (n_draws,); two neighbours have the
                same one and antithetic slopes.
            rng: Source of randomness.

        Returns:
            Shape (n_draws, n_models, n_sizes).
        """
        reached = np.cumsum(self.pair_weight, axis=1)[betas]
        uniform = np.repeat(rng.random(((len(betas) + 1) // 2, 1)), 2, axis=0)[: len(betas)]
        pairs = (uniform > reached[:, :-1]).sum(axis=1)
        spread = self.slope_spread[betas, pairs]
        slope = self.slope[betas, pairs] + spread * paired_normals(spread.shape, rng)
        chunk = max(1, _CHUNK_CELLS // (slope.shape[1] * (len(self.sizes) + len(sizes))))
        parts = [slice(k, k + chunk) for k in range(0, len(betas), chunk)]
        found = [self._log_loss(sizes, self.betas[betas[part]], slope[part]) for part in parts]
        return np.concatenate(found)

    def _log_loss(self, sizes: np.ndarray, betas: np.ndarray, slope: np.ndarray) -> np.ndarray:
        """Log L for exponents of shape (n,) and slopes of shape (n, n_models)."""
        logit = logits_of(slope, betas[:, None])

        def bend(at: np.ndarray) -> np.ndarray:
            steps = betas[:, None] * np.log(at / self.sizes[-1])
            return np.logaddexp(0.0, logit[:, :, None] + steps[:, None, :])

        mean = np.einsum("mk,nmk->nm", self.weights, bend(self.sizes))
        return np.log(self.floor + np.exp(self.level[:, None] - bend(sizes) + mean[:, :, None]))


def paired_normals(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Standard normal numbers, every second row the negative of the one before."""
    half = rng.standard_normal(((shape[0] + 1) // 2, *shape[1:]))
    return np.stack([half, -half], axis=1).reshape(-1, *shape[1:])[: shape[0]]


def recency_weights(table: LossTable, decay: float) -> np.ndarray:
    """Weights decay^k of points k doublings before a candidate's last one, summing to 1.

    Returns:
        Shape (n_models, n_sizes); rows of zeros for candidates without a point.
    """
    age = np.log2(np.maximum(table.last, table.sizes[0]))[:, None] - np.log2(table.sizes)
    weights = np.where(table.seen, decay ** np.maximum(age, 0.0), 0.0)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)


def fit_shared_law(
    table: LossTable, betas: np.ndarray, floor: float, settings: PooledSettings
) -> SharedLaw:
    """Fit every candidate's curve for each exponent, the slopes shrunk towards each other.

    Errors of log(L − E) are Gaussian; their variance at a candidate's last point is learned from
    all candidates with three points or more, and the prior of slopes from those with two
    (`slope_prior`). Posteriors of slopes are found on a grid of logits.

    Args:
        table: The points, all losses above `floor`.
        betas: Exponents β, shape (n_betas,).
        floor: E in nats.
        settings: The settings.

    Returns:
        The laws.
    """
    weights = recency_weights(table, settings.decay)
    last = np.maximum(weights.max(axis=1), 1e-300)
    n_points = table.seen.sum(axis=1)
    target = np.log(np.exp(np.where(table.seen, table.log_loss, 0.0)) - floor * table.seen)
    steps = betas[:, None, None] * np.log(table.sizes / table.sizes[-1])
    basis = -np.logaddexp(0.0, steps + LOGITS[:, None])

    rows = np.flatnonzero(n_points > 1)
    if len(rows) > MAX_LEARNED_FROM:
        rows = np.random.default_rng(0).choice(rows, MAX_LEARNED_FROM, replace=False)
    squares = _squares(basis, weights[rows], target[rows]) / last[rows, None, None]
    free = np.maximum(n_points[rows] - 2, 0)
    total = (squares.min(axis=2) * (free > 0)[:, None]).sum(axis=0)
    strength = settings.noise_strength
    variance = (strength * settings.noise**2 + total) / (strength + free.sum())
    prior = slope_prior(-squares / (2.0 * variance[:, None]), betas, settings)

    moments, residuals = [], []
    chunk = max(1, _CHUNK_CELLS // (len(betas) * len(LOGITS)))
    for start in range(0, len(table.models), chunk):
        part = slice(start, start + chunk)
        squares = _squares(basis, weights[part], target[part])
        error = 2.0 * variance[:, None] * last[part, None, None]
        moments.append(prior.posterior(-squares / error))
        residuals.append(np.sqrt(squares.min(axis=2)).T)
    slope, spread = (np.concatenate(parts, axis=2) for parts in zip(*moments, strict=True))
    level = np.where(n_points > 0, (weights * target).sum(axis=1), np.nan)
    residual = np.concatenate(residuals, axis=1)
    return SharedLaw(
        betas, floor, table.sizes, weights, level, prior.weight, slope, spread, residual
    )


def _squares(basis: np.ndarray, weights: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weighted mean square of the residuals for every exponent and logit.

    Args:
        basis: Minus the bends, shape (n_betas, n_logits, n_sizes).
        weights: Shape (n_models, n_sizes).
        target: log(L − E), shape (n_models, n_sizes).

    Returns:
        Shape (n_models, n_betas, n_logits).
    """
    n_betas, n_logits, n_sizes = basis.shape
    flat = basis.reshape(-1, n_sizes).T
    weighted = weights * target
    mean = weighted.sum(axis=1, keepdims=True)
    basis_mean = weights @ flat
    squares = (
        (weighted * target).sum(axis=1, keepdims=True)
        - mean**2
        - 2.0 * (weighted @ flat - mean * basis_mean)
        + weights @ flat**2
        - basis_mean**2
    )
    return np.maximum(squares, 0.0).reshape(-1, n_betas, n_logits)
