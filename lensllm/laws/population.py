"""Posteriors of laws by population Monte Carlo, where residuals are far from linear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, log_expit, logsumexp

from lensllm.laws.base import Array
from lensllm.laws.linearised import Target

_N_KERNELS, _N_ROUNDS = 256, 12
_PRIOR_SHARE = 0.1
# A thin mode within a wide one needs kernels thinner than Silverman's.
_SCALES = np.array([1.0, 0.3, 0.1])
_TEMPERED_SHARE = 0.3


@dataclass(frozen=True)
class Population:
    """Weighted draws of one curve's law.

    Attributes:
        coordinates: Shape (n_draws, n_coordinates).
        noise: Standard deviations on log loss, shape (n_draws,).
        weights: Importance weights that sum to 1, shape (n_draws,).
    """

    coordinates: Array
    noise: Array
    weights: Array

    @property
    def effective_size(self) -> float:
        """Effective sample size of the weighted draws."""
        return float(1.0 / (self.weights**2).sum())


def draw_population(
    target: Target, curve: int, n_draws: int, enough: float, rng: np.random.Generator
) -> Population:
    """Draw from the exact posterior of one curve (population Monte Carlo, Cappé et al. 2004).

    Level and noise integrate out of the exact model in closed form, which leaves the share p and
    the shape. Draws begin with the prior; each round resamples them by weights that are tempered
    until enough draws have a notable weight, and draws anew from normal kernels about the resampled
    ones and, for a tenth, from the prior. Every round's weights are exact, so the best round is
    kept.

    Args:
        target: The curves, see `sample_posteriors`.
        curve: Index of the curve.
        n_draws: Draws of a round.
        enough: Effective size at which to stop.
        rng: Random generator of the draws.

    Returns:
        The round with the largest effective size.
    """
    n_free = len(target.centre)
    points = _prior(n_draws, n_free, rng)
    log_q = _log_prior(points)
    best: Population | None = None
    for _ in range(_N_ROUNDS):
        log_likelihood, offset, squares, shape = _evaluate(target, curve, points)
        log_weights = log_likelihood + _log_prior(points) - log_q
        found = _complete(target, curve, points, log_weights, offset, squares, shape, rng)
        if best is None or found.effective_size > best.effective_size:
            best = found
        if best.effective_size >= enough:
            break
        kernels, factor = _kernels(points, _temper(log_weights), found.weights, rng)
        points, log_q = _propose(kernels, factor, n_draws, rng)
    assert best is not None
    return best


def _prior(n: int, n_free: int, rng: np.random.Generator) -> Array:
    """Points (logit p, x) of the prior: p uniform, x standard normal."""
    logit = rng.logistic(size=(n, 1))
    return np.concatenate([logit, rng.standard_normal((n, n_free))], axis=1)


def _log_prior(points: Array) -> Array:
    logit, x = points[:, 0], points[:, 1:]
    normal = -0.5 * (x**2).sum(axis=1) - 0.5 * x.shape[1] * np.log(2 * np.pi)
    return log_expit(logit) + log_expit(-logit) + normal


def _evaluate(target: Target, curve: int, points: Array) -> tuple[Array, Array, Array, Array]:
    """Log likelihood with level and noise integrated out; the level's mean, squares and shape."""
    problem = target.problem.take(np.array([curve]))
    law, weights = target.laws[curve], problem.weights[0]
    shape = law.free_to_shape(target.centre + target.width * points[:, 1:])
    z = np.concatenate([np.zeros((len(points), 1)), expit(points[:, :1]), shape], axis=1)
    reference = np.full(len(points), problem.log_reference[0])
    log_n = np.broadcast_to(problem.log_n[0], (len(points), len(weights)))
    fitted, _ = law.log_loss(log_n, z, reference, gradient=False)
    gap = problem.log_loss[0] - fitted
    offset = gap @ weights / weights.sum()
    squares = target.prior_squares + (gap - offset[:, None]) ** 2 @ weights
    degrees = target.prior.degrees + (weights > 0).sum() - 1.0
    return -0.5 * degrees * np.log(squares), offset, squares, z


def _complete(
    target: Target,
    curve: int,
    points: Array,
    log_weights: Array,
    offset: Array,
    squares: Array,
    z: Array,
    rng: np.random.Generator,
) -> Population:
    """Add draws of noise and level given share and shape."""
    weights = target.problem.weights[curve]
    degrees = target.prior.degrees + (weights > 0).sum() - 1.0
    noise = np.sqrt(squares / rng.chisquare(degrees, len(points)))
    level = offset + noise / np.sqrt(weights.sum()) * rng.standard_normal(len(points))
    coordinates = np.concatenate([level[:, None], z[:, 1:]], axis=1)
    return Population(coordinates, noise, np.exp(log_weights - logsumexp(log_weights)))


def _temper(log_weights: Array) -> Array:
    """Weights to the largest power ≤ 1 at which a share of the draws counts."""
    needed = _TEMPERED_SHARE * len(log_weights)
    low, high = 0.0, 1.0
    if _effective(log_weights) < needed:
        for _ in range(30):
            middle = 0.5 * (low + high)
            enough = _effective(middle * log_weights) >= needed
            low, high = (middle, high) if enough else (low, middle)
        high = low
    tempered = high * log_weights
    return np.exp(tempered - logsumexp(tempered))


def _effective(log_weights: Array) -> float:
    return float(np.exp(2.0 * logsumexp(log_weights) - logsumexp(2.0 * log_weights)))


def _kernels(
    points: Array, tempered: Array, weights: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Centres of the kernels, half by each kind of weight, and a Cholesky factor of covariance.

    The covariance is that of the tempered draws, by Silverman's rule.
    """
    centres = points[rng.choice(len(points), _N_KERNELS, p=0.5 * (tempered + weights))]
    d = points.shape[1]
    width = (4.0 / (d + 2.0) / _N_KERNELS) ** (1.0 / (d + 4.0))
    covariance = np.cov(points.T, aweights=tempered).reshape(d, d)
    return centres, width * np.linalg.cholesky(covariance + 1e-12 * np.eye(d))


def _propose(
    centres: Array, factor: Array, n: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Draws from kernels and prior, and their log density."""
    d = centres.shape[1]
    n_prior = int(_PRIOR_SHARE * n)
    near = centres[rng.integers(len(centres), size=n - n_prior)]
    scale = rng.choice(_SCALES, size=(len(near), 1))
    near = near + scale * rng.standard_normal(near.shape) @ factor.T
    points = np.concatenate([near, _prior(n_prior, d - 1, rng)])
    inverse = np.linalg.inv(factor)
    a, b = points @ inverse.T, centres @ inverse.T
    distance = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2.0 * a @ b.T
    wide = -0.5 * np.maximum(distance, 0.0)
    parts = [logsumexp(wide / scale**2, axis=1) - d * np.log(scale) for scale in _SCALES]
    kernel = logsumexp(parts, axis=0) - np.log(len(_SCALES) * len(centres) * np.linalg.det(factor))
    kernel = kernel - 0.5 * d * np.log(2 * np.pi)
    share = np.log([1.0 - _PRIOR_SHARE, _PRIOR_SHARE])
    return points, np.logaddexp(share[0] + kernel, share[1] + _log_prior(points))
