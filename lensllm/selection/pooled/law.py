"""The mean of the predictor: rectified laws that share exponent and floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lensllm.selection.pooled.table import LossTable

# Logits of the share of the final log-log slope that is reached at the largest size.
LOGITS = np.linspace(-6.0, 6.0, 121)
_CHUNK_CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class SharedLaw:
    r"""Rectified laws L_i = B_i / (D_i + D^β) + E, one for every candidate and exponent β.

    With x = log D, log(L_i − E) = a_i − log(1 + exp(u_i + β (x − x_0))): a level a_i and a logit
    u_i of how much of the final slope −β is reached at x_0. β and E are the same for all
    candidates of a task (Lin et al. 2024, arXiv:2402.02314, fit all four to each candidate).

    Attributes:
        betas: Exponents β, shape (n_betas,).
        floor: E in nats.
        origin: x_0.
        level: a, shape (n_betas, n_models); `nan` for candidates without a point.
        logit: u, shape (n_betas, n_models).
        residual: Weighted root mean square of the residuals of log(L − E), same shape.
    """

    betas: np.ndarray
    floor: float
    origin: float
    level: np.ndarray
    logit: np.ndarray
    residual: np.ndarray

    def keep(self, chosen: np.ndarray) -> SharedLaw:
        """The laws of some of the exponents, by a mask."""
        parts = (self.betas, self.level, self.logit, self.residual)
        betas, level, logit, residual = (part[chosen] for part in parts)
        return SharedLaw(betas, self.floor, self.origin, level, logit, residual)

    def log_loss(self, sizes: np.ndarray) -> np.ndarray:
        """Log L at sizes D > 0 of shape (n_sizes,): shape (n_betas, n_models, n_sizes)."""
        steps = self.betas[:, None] * (np.log(sizes) - self.origin)
        bend = np.logaddexp(0.0, self.logit[:, :, None] + steps[:, None, :])
        return np.log(self.floor + np.exp(self.level[:, :, None] - bend))


def recency_weights(table: LossTable, decay: float) -> np.ndarray:
    """Weights decay^k of points k doublings before a candidate's last one, summing to 1.

    Returns:
        Shape (n_models, n_sizes); rows of zeros for candidates without a point.
    """
    age = np.log2(np.maximum(table.last, table.sizes[0]))[:, None] - np.log2(table.sizes)
    weights = np.where(table.seen, decay ** np.maximum(age, 0.0), 0.0)
    return weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)


def fit_shared_law(table: LossTable, betas: np.ndarray, floor: float, decay: float) -> SharedLaw:
    """Fit level and logit of every candidate by weighted least squares of log(L − E).

    The logit is searched on a grid and refined by a parabola; a candidate with one point takes the
    mean logit of those with more.

    Args:
        table: The points, all losses above `floor`.
        betas: Exponents β, shape (n_betas,).
        floor: E in nats.
        decay: Weight of a point relative to one twice as large.

    Returns:
        The laws.
    """
    x = np.log(table.sizes)
    bends = betas[:, None, None] * (x - x[-1]) + LOGITS[:, None]
    basis = -np.logaddexp(0.0, bends)
    weights = recency_weights(table, decay)
    target = np.log(np.exp(np.where(table.seen, table.log_loss, 0.0)) - floor * table.seen)
    n_models, n_betas = len(table.models), len(betas)
    logit, residual = np.empty((n_betas, n_models)), np.empty((n_betas, n_models))
    step = max(1, _CHUNK_CELLS // (n_betas * len(LOGITS)))
    for start in range(0, n_models, step):
        rows = slice(start, start + step)
        found = _search(basis, weights[rows], target[rows])
        logit[:, rows], residual[:, rows] = found
    n_points = table.seen.sum(axis=1)
    if (n_points > 1).any():
        logit[:, n_points < 2] = logit[:, n_points > 1].mean(axis=1, keepdims=True)
    else:
        logit[:] = 0.0
    steps = betas[:, None, None] * (x - x[-1])
    fitted = np.logaddexp(0.0, logit[:, :, None] + steps)
    level = (weights * (target + fitted)).sum(axis=2)
    level[:, n_points == 0] = np.nan
    return SharedLaw(betas, floor, float(x[-1]), level, logit, residual)


def _search(
    basis: np.ndarray, weights: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Best logit for every exponent and candidate, and the residual there.

    Args:
        basis: Bends, shape (n_betas, n_logits, n_sizes).
        weights: Shape (n_models, n_sizes).
        target: log(L − E), shape (n_models, n_sizes).

    Returns:
        Both of shape (n_betas, n_models).
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
    ).reshape(-1, n_betas, n_logits)
    best = np.clip(squares.argmin(axis=2), 1, n_logits - 2)[:, :, None]
    left, here, right = (
        np.take_along_axis(squares, best + shift, axis=2)[:, :, 0] for shift in (-1, 0, 1)
    )
    curvature = left - 2.0 * here + right
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = np.where(curvature > 0, 0.5 * (left - right) / curvature, 0.0)
    shift = np.clip(shift, -1.0, 1.0)
    logit = LOGITS[best[:, :, 0]] + shift * (LOGITS[1] - LOGITS[0])
    least = here + 0.5 * shift * (right - left) + 0.5 * shift**2 * curvature
    return logit.T, np.sqrt(np.maximum(least, 0.0)).T
