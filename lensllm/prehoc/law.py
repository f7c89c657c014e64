"""The risk law R(c) = σ²_int + κ c^(−α), and its fit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from lensllm.prehoc.bootstrap import cluster_draws

Shape = Literal["power", "exponential", "constant"]
PARAMETERS = ("intrinsic", "scale", "decay")
DECAYS = np.geomspace(0.05, 5.0, 241)  # steps of 2 %
RATES = np.geomspace(0.5, 500.0, 241)  # of exp(−c / τ), c a share of the full run
N_REWEIGHTINGS = 3


@dataclass(frozen=True, eq=False)
class RiskLaw:
    """R(c) = σ²_int + κ c^(−α) for c > 0, and R(0) (SCIENCE: arXiv:2606.17649).

    Attributes:
        intrinsic: σ²_int in nats², the limit that no probe removes.
        scale: κ in nats², the reducible risk V at c = 1.
        decay: α.
        static_risk: R(0) in nats², the risk of what is known before training; `nan` if unknown.
        draws: Draws of (σ²_int, κ, α), see `cluster_draws`, shape (n_draws, 3); empty for a law
            that was not fitted.
    """

    intrinsic: float
    scale: float
    decay: float
    static_risk: float = math.nan
    draws: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))

    def __call__(self, cost: np.ndarray | float) -> np.ndarray:
        """R(c); costs > 0, as shares of the full run."""
        return self.intrinsic + self.reducible(cost)

    def reducible(self, cost: np.ndarray | float) -> np.ndarray:
        """V(c) = κ c^(−α), at most R(0) − σ²_int where R(0) is known."""
        left = self.scale * np.asarray(cost, dtype=float) ** -self.decay
        if math.isfinite(self.static_risk):
            left = np.minimum(left, max(self.static_risk - self.intrinsic, 0.0))
        return left

    def marginal(self, cost: np.ndarray | float) -> np.ndarray:
        """−V'(c) = α κ c^(−α−1): fall of the risk for one more unit of cost."""
        return self.decay * self.scale * np.asarray(cost, dtype=float) ** (-self.decay - 1)

    def interval(self, name: str, level: float = 0.9) -> tuple[float, float]:
        """Percentile interval of one parameter from the draws.

        Raises:
            ValueError: The name is no parameter, or the law has no draws.
        """
        if name not in PARAMETERS:
            raise ValueError(f"Expected one of {', '.join(PARAMETERS)}, got {name!r}")
        if not len(self.draws):
            raise ValueError(f"Expected a fitted law for an interval of {name!r}, got a given one")
        tails = [(1 - level) / 2, (1 + level) / 2]
        low, high = np.quantile(self.draws[:, PARAMETERS.index(name)], tails)
        return float(low), float(high)

    def band(self, costs: np.ndarray, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Percentile band of R(c), two arrays of the shape of `costs`."""
        curves = self.draws[:, :1] + self.draws[:, 1:2] * costs ** -self.draws[:, 2:]
        low, high = np.quantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
        return low, high


def fit_shape(
    costs: np.ndarray, risks: np.ndarray, shape: Shape = "power"
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares of σ² + κ g(c), σ² ≥ 0, κ ≥ 0, for many risk curves at once.

    g(c) = c^(−α), exp(−c/τ) or nothing. The weight of a point is 1 / R(c)², the inverse variance of
    a mean of squared Gaussian errors, first with the measured R, then with the fitted one. Given α
    or τ the problem is linear in two parameters with a closed form; the best of a fine grid is
    taken.

    Args:
        costs: Shape (n_costs,).
        risks: Shape (n_curves, n_costs), nats².
        shape: Form of g.

    Returns:
        Parameters (σ², κ, α or 1/τ), shape (n_curves, 3), and the mean weighted squared residual
        of each curve, shape (n_curves,). A constant has κ = 0.
    """
    basis, rates = _basis(costs, shape)
    fitted = risks
    for _ in range(N_REWEIGHTINGS):
        weights = 1.0 / np.maximum(fitted, 1e-12 + 1e-3 * risks.mean(1, keepdims=True)) ** 2
        weights = weights / weights.sum(1, keepdims=True)
        parameters = _best_on_grid(basis, rates, risks, weights)
        g = basis[np.searchsorted(rates, parameters[:, 2])]
        fitted = parameters[:, :1] + parameters[:, 1:2] * g
    residuals = ((risks / fitted - 1.0) ** 2).mean(1)
    return parameters, residuals


def _basis(costs: np.ndarray, shape: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Values of g on the grid of its rate, shape (n_rates, n_costs), and the rates."""
    if shape == "power":
        return costs ** -DECAYS[:, None], DECAYS
    if shape == "exponential":
        return np.exp(-costs * RATES[:, None]), RATES
    return np.zeros((1, len(costs))), np.zeros(1)


def _best_on_grid(
    basis: np.ndarray, rates: np.ndarray, risks: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Closed-form non-negative solution of each curve at the rate that fits it best."""
    mean_g = weights @ basis.T  # (n_curves, n_rates)
    mean_gg = weights @ (basis**2).T
    mean_y = (weights * risks).sum(1)[:, None]
    mean_gy = (weights * risks) @ basis.T
    spread = np.maximum(mean_gg - mean_g**2, 1e-300)
    kappa = np.maximum((mean_gy - mean_g * mean_y) / spread, 0.0)
    sigma = mean_y - kappa * mean_g
    alone = sigma < 0  # then the best has σ² = 0
    kappa = np.where(alone, mean_gy / np.maximum(mean_gg, 1e-300), kappa)
    sigma = np.where(alone, 0.0, sigma)
    mean_yy = (weights * risks**2).sum(1)[:, None]
    loss = (
        mean_yy
        + sigma**2
        + kappa**2 * mean_gg
        - 2 * (sigma * mean_y + kappa * mean_gy - sigma * kappa * mean_g)
    )
    best = loss.argmin(1)
    rows = np.arange(len(risks))
    return np.stack([sigma[rows, best], kappa[rows, best], rates[best]], axis=1)


def fit_risk_law(
    costs: np.ndarray,
    squared_errors: np.ndarray,
    clusters: np.ndarray,
    static_risk: float = math.nan,
    n_draws: int = 400,
    seed: int = 0,
) -> RiskLaw:
    """Fit the law to the mean squared errors of predictors, with a cluster bootstrap.

    Args:
        costs: Probe costs, shape (n_costs,).
        squared_errors: Squared error of each run's prediction at each cost, nats², shape
            (n_runs, n_costs).
        clusters: What is resampled as a whole, the model for instance; shape (n_runs,).
        static_risk: R(0), nats².
        n_draws: Bootstrap draws.
        seed: Seed of the bootstrap.

    Returns:
        The law with its draws.
    """
    rng = np.random.default_rng(seed)
    risks = np.concatenate(
        [
            squared_errors.mean(0, keepdims=True),
            cluster_draws(squared_errors, clusters, n_draws, rng),
        ]
    )
    parameters, _ = fit_shape(np.asarray(costs, dtype=float), risks)
    intrinsic, scale, decay = parameters[0].tolist()
    return RiskLaw(intrinsic, scale, decay, static_risk, parameters[1:])
