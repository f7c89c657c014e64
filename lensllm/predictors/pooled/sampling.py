"""Joint draws of the candidates' curves from a fitted predictor."""

from __future__ import annotations

import numpy as np

from lensllm.predictors.pooled.law import paired_normals
from lensllm.predictors.pooled.model import PooledModel
from lensllm.predictors.pooled.settings import PooledSettings

# An error's rate stays what it was (correlation 1/e) while the distance grows e²-fold.
_MEMORY = 2.0


def draw_log_loss(
    model: PooledModel,
    sizes: np.ndarray,
    settings: PooledSettings,
    n_draws: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draws of the candidates' log losses without the noise of a measurement.

    Exponent, floor, and mean and spread of slopes are drawn once for all candidates, and so is an
    error that all share; every candidate has a slope and an error of its own besides. Errors are
    rates times the doublings beyond a candidate's last size. Draws come in pairs whose normal
    numbers are each other's negatives (antithetic variates), for means with less noise.

    Args:
        model: The fitted predictor.
        sizes: Sizes D > 0, ascending, shape (n_sizes,).
        settings: The settings.
        n_draws: Draws.
        rng: Source of randomness.

    Returns:
        Shape (n_draws, n_models, n_sizes).
    """
    shape = rng.choice(model.weights.size, size=(n_draws + 1) // 2, p=model.weights.ravel())
    shape = np.repeat(shape, 2)[:n_draws]
    floor, beta = np.unravel_index(shape, model.weights.shape)
    draws = np.empty((n_draws, len(model.table.models), len(sizes)))
    for position, law in enumerate(model.laws):
        rows = np.flatnonzero(floor == position)
        draws[rows] = law.draw_log_loss(sizes, beta[rows], rng)
    draws -= model.correction(sizes)
    distance = model.doublings(sizes)
    own = settings.inflation * np.hypot(model.effect_spread, model.rate_spread)
    shared = settings.inflation * model.bias_spread
    draws += own[:, None] * distance * _drifting(distance, n_draws, rng)
    common = distance.max(axis=0, keepdims=True)
    draws += shared * distance * _drifting(common, n_draws, rng)
    return draws


def _drifting(distance: np.ndarray, n_draws: int, rng: np.random.Generator) -> np.ndarray:
    """Standard normal rates that drift with the logarithm of the distance.

    Args:
        distance: Doublings, ascending along the last axis, shape (n_rows, n_sizes).
        n_draws: Draws.
        rng: Source of randomness.

    Returns:
        Shape (n_draws, n_rows, n_sizes).
    """
    rates = paired_normals((n_draws, *distance.shape), rng)
    for k in range(1, distance.shape[1]):
        before, here = distance[:, k - 1], distance[:, k]
        gap = np.log(np.maximum(here, 1e-9) / np.maximum(before, 1e-9))
        kept = np.where(before > 0, np.exp(-gap / _MEMORY), 0.0)
        rates[..., k] = kept * rates[..., k - 1] + np.sqrt(1.0 - kept**2) * rates[..., k]
    return rates
