"""Cross-checks of the posterior: the residual bootstrap and Laplace's approximation."""

from __future__ import annotations

import numpy as np

from lensllm.laws.fitting import fit_laws
from lensllm.laws.noise import estimate_noise
from lensllm.laws.posterior import LawPosterior
from lensllm.laws.result import LawFit
from lensllm.laws.solver import covariances


def bootstrap(fit: LawFit, n_draws: int = 200, seed: int = 0) -> LawPosterior:
    """Refit curves made of the fitted one and its resampled residuals (Efron, 1979).

    Residuals on log loss are centred, scaled up by √(n / (n − free coordinates)), and drawn with
    replacement. There is no prior: with few points the draws spread too little.

    Args:
        fit: A fit with more points than parameters.
        n_draws: Curves refitted, all in one call.
        seed: Seed of the resampling.

    Returns:
        The refitted laws as equally weighted draws.

    Raises:
        ValueError: There are no residuals to resample.
    """
    rng = np.random.default_rng(seed)
    noise = estimate_noise(fit).total
    if not np.isfinite(noise):
        raise ValueError(
            f"Expected more than {fit.law.n_params} points to resample residuals, "
            f"got {len(fit.losses)}"
        )
    residuals = fit.log_residuals.mean() - fit.log_residuals  # observed minus fitted
    spread = np.sqrt(np.mean(residuals**2))
    residuals = residuals * (noise / spread if spread > 0 else 0.0)
    drawn = rng.choice(residuals, size=(n_draws, len(residuals)))
    refitted = fit_laws(
        fit.law,
        fit.n_samples,
        fit.predict(fit.n_samples) * np.exp(drawn),
        objective=fit.batch.objective.name,
        delta=min(fit.batch.objective.delta, 1.0),
        weights=np.tile(fit.batch.weights[fit.index][fit.used], (n_draws, 1)),
        n_starts=8,
        seed=seed,
    )
    return LawPosterior(
        fit.law,
        refitted.coordinates,
        np.full(n_draws, noise),
        float(fit.batch.log_reference[fit.index]),
        float(n_draws),
    )


def laplace(fit: LawFit, n_draws: int = 1000, seed: int = 0) -> LawPosterior:
    """Normal draws about the fitted coordinates, with the Jacobian's covariance, cut to the box.

    Args:
        fit: A fit of squared log loss with more points than parameters.
        n_draws: Draws.
        seed: Seed of the draws.

    Returns:
        The draws.

    Raises:
        ValueError: There is no degree of freedom left for the noise.
    """
    rng = np.random.default_rng(seed)
    noise = estimate_noise(fit).total
    if not np.isfinite(noise):
        raise ValueError(
            f"Expected more than {fit.law.n_params} points to estimate the noise, "
            f"got {len(fit.losses)}"
        )
    batch, i = fit.batch, fit.index
    values, vectors = np.linalg.eigh(covariances(batch.problem, batch.coordinates)[i])
    factor = vectors * np.sqrt(np.maximum(values, 0.0))
    draws = batch.coordinates[i] + rng.standard_normal((n_draws, len(values))) @ factor.T
    draws = np.clip(draws, batch.problem.lower[i], batch.problem.upper[i])
    return LawPosterior(
        fit.law, draws, np.full(n_draws, noise), float(batch.log_reference[i]), float(n_draws)
    )
