"""How steep each candidate's curve is, given how steep those of the others are."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lensllm.predictors.pooled.settings import PooledSettings

# Logits of the share of the final log-log slope that is reached at the largest size.
LOGITS = np.linspace(-6.0, 6.0, 241)
# Logs of mean slopes that are considered, in standard deviations of their prior.
_MEANS = np.linspace(-3.0, 3.0, 31)
# Pairs of mean and spread with less weight than this, relative to the best, are left out.
_NEGLIGIBLE = 1e-3
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class SlopePrior:
    """What all candidates' points say of slopes: pairs of their mean and spread, weighed.

    Attributes:
        weight: Credibility of each pair, shape (n_betas, n_pairs); rows sum to 1.
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
    its bounds 0 and β. Means and standard deviations of that normal are weighed by how likely they
    make all candidates' points and, for means, by a log-normal prior. They are kept apart: what is
    not known of the mean is the same for all candidates, and changes none of their differences.

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
    """Log prior of each pair of mean and spread, and what it says of the logits.

    Returns:
        Shapes (1, n_pairs) and (n_betas, n_pairs, n_logits); the second sums to 1.
    """
    means, widths = np.meshgrid(_MEANS, np.array(spreads), indexing="ij")
    slopes = slopes_of(LOGITS, np.array(betas)[:, None])
    centre = slope * np.exp(uncertainty * means.reshape(-1, 1))
    exponent = -0.5 * ((slopes[:, None, :] / centre - 1.0) / widths.reshape(-1, 1)) ** 2
    density = np.exp(exponent - exponent.max(axis=2, keepdims=True))
    return -0.5 * means.reshape(1, -1) ** 2, density / density.sum(axis=2, keepdims=True)
