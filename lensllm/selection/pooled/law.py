"""The mean of the predictor: rectified laws that share exponent and floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lensllm.selection.pooled.settings import PooledSettings
from lensllm.selection.pooled.slopes import LOGITS, slope_prior
from lensllm.selection.pooled.table import LossTable

# Candidates from whom the noise and the prior of slopes are learned, when there are more.
MAX_LEARNED_FROM = 300
_CHUNK_CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class SharedLaw:
    r"""Rectified laws L_i = B_i / (D_i + D^β) + E, one for every candidate and exponent β.

    With x = log D and b(x) = log(1 + exp(u_i + β (x − x_0))), log(L_i − E) = m_i − b(x) + mean of
    b: a weighted mean m_i of what was measured, and a logit u_i of how much of the final slope −β
    is reached at x_0. β and E are the same for all candidates of a task (Lin et al. 2024,
    arXiv:2402.02314, fit all four to each candidate).

    Attributes:
        betas: Exponents β, shape (n_betas,).
        floor: E in nats.
        sizes: Measured sizes, shape (n_sizes,); x_0 is the log of the last.
        weights: Weights of a candidate's points in its means, shape (n_models, n_sizes).
        level: m, shape (n_models,); `nan` for candidates without a point.
        logit: Posterior mean of u, shape (n_betas, n_models).
        logit_spread: Its posterior standard deviation, same shape.
        residual: Weighted root mean square of the residuals of log(L − E), same shape.
    """

    betas: np.ndarray
    floor: float
    sizes: np.ndarray
    weights: np.ndarray
    level: np.ndarray
    logit: np.ndarray
    logit_spread: np.ndarray
    residual: np.ndarray

    def keep(self, chosen: np.ndarray) -> SharedLaw:
        """The laws of some of the exponents, by a mask."""
        own = (self.logit[chosen], self.logit_spread[chosen], self.residual[chosen])
        return SharedLaw(self.betas[chosen], self.floor, self.sizes, self.weights, self.level, *own)

    def log_loss(self, sizes: np.ndarray) -> np.ndarray:
        """Log L at sizes D > 0 of shape (n_sizes,): shape (n_betas, n_models, n_sizes)."""
        return self._log_loss(sizes, self.logit)

    def slope_error(self, sizes: np.ndarray) -> np.ndarray:
        """Change of log L with u one standard deviation higher, shape as `log_loss`."""
        return self._log_loss(sizes, self.logit + self.logit_spread) - self.log_loss(sizes)

    def _log_loss(self, sizes: np.ndarray, logit: np.ndarray) -> np.ndarray:
        """Log L where the logits are these, shape (n_betas, n_models)."""
        mean = np.einsum("nk,bnk->bn", self.weights, self._bend(self.sizes, logit))
        bend = self._bend(sizes, logit) - mean[:, :, None]
        return np.log(self.floor + np.exp(self.level[:, None] - bend))

    def _bend(self, sizes: np.ndarray, logit: np.ndarray) -> np.ndarray:
        steps = self.betas[:, None] * np.log(sizes / self.sizes[-1])
        return np.logaddexp(0.0, logit[:, :, None] + steps[:, None, :])


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
    """Fit every candidate's curve for each exponent, the logits shrunk towards each other.

    Errors of log(L − E) are Gaussian; their variance at a candidate's last point is learned from
    all candidates with three points or more, and so is the prior of the logits (`slope_prior`).
    The posterior of a logit is found on a grid.

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

    found = []
    chunk = max(1, _CHUNK_CELLS // prior.size)
    for start in range(0, len(table.models), chunk):
        part = slice(start, start + chunk)
        squares = _squares(basis, weights[part], target[part])
        posterior = _posterior(prior - squares / (2.0 * variance[:, None] * last[part, None, None]))
        mean = posterior @ LOGITS
        spread = np.sqrt(np.maximum(posterior @ LOGITS**2 - mean**2, 0.0))
        found.append(np.stack([mean, spread, np.sqrt(squares.min(axis=2))]))
    logit, spread, residual = np.concatenate(found, axis=1).swapaxes(1, 2)
    level = np.where(n_points > 0, (weights * target).sum(axis=1), np.nan)
    return SharedLaw(betas, floor, table.sizes, weights, level, logit, spread, residual)


def _posterior(log_density: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis."""
    density = np.exp(log_density - log_density.max(axis=-1, keepdims=True))
    return density / density.sum(axis=-1, keepdims=True)


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
