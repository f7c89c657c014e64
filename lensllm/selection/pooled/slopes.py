"""How far each candidate's slope has come, shrunk towards what the other candidates show."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lensllm.selection.pooled.settings import PooledSettings

# Logits of the share of the final log-log slope that is reached at the largest size.
LOGITS = np.linspace(-6.0, 6.0, 241)
# Logs of mean slopes that are considered, in standard deviations of their prior.
_MEANS = np.linspace(-3.0, 3.0, 31)
_TINY = 1e-300


def slope_prior(
    log_likelihood: np.ndarray, betas: np.ndarray, settings: PooledSettings
) -> np.ndarray:
    r"""Prior of a candidate's logit u, learned from all of them (empirical Bayes).

    The log-log slope at the largest size, g = β / (1 + exp(−u)), is normal over candidates, between
    its bounds 0 and β. Means and standard deviations of that normal are weighed by how likely they
    make all candidates' points and, for means, by a log-normal prior.

    Args:
        log_likelihood: Of every candidate's logits, shape (n_models, n_betas, n_logits).
        betas: Exponents β, shape (n_betas,).
        settings: The settings.

    Returns:
        Log probabilities of the logits, shape (n_betas, n_logits).
    """
    key = (settings.slope, settings.slope_uncertainty, tuple(settings.slope_spreads))
    log_weight, density = _slope_densities(tuple(betas.tolist()), *key)
    if len(log_likelihood):
        top = log_likelihood.max(axis=2, keepdims=True)
        likelihood = np.moveaxis(np.exp(log_likelihood - top), 1, 0) @ density.swapaxes(1, 2)
        log_weight = log_weight + np.log(likelihood + _TINY).sum(axis=1)
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    return np.log(np.einsum("bh,bhu->bu", weight, density) + _TINY)


@lru_cache(maxsize=64)
def _slope_densities(
    betas: tuple[float, ...], slope: float, uncertainty: float, spreads: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Log prior of each pair of mean and spread, and what it says of the logits.

    Returns:
        Shapes (1, n_pairs) and (n_betas, n_pairs, n_logits); the second sums to 1.
    """
    means, widths = np.meshgrid(_MEANS, np.array(spreads), indexing="ij")
    slopes = np.array(betas)[:, None] / (1.0 + np.exp(-LOGITS))
    centre = slope * np.exp(uncertainty * means.reshape(-1, 1))
    exponent = -0.5 * ((slopes[:, None, :] / centre - 1.0) / widths.reshape(-1, 1)) ** 2
    density = np.exp(exponent - exponent.max(axis=2, keepdims=True))
    return -0.5 * means.reshape(1, -1) ** 2, density / density.sum(axis=2, keepdims=True)
