"""What families and candidates have of their own, beyond what all candidates share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def family_index(models: Sequence[str], families: Sequence[str]) -> np.ndarray:
    """Position of each candidate's family; a candidate without one is its own, (n_models,)."""
    keys = [family or f"\0{model}" for model, family in zip(models, families, strict=True)]
    return np.unique(keys, return_inverse=True)[1]


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
