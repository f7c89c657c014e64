"""Posteriors of a curve's law and of its continuation, in batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lensllm.laws.base import Array, ScalingLaw, log_sizes

# Effective sample size below which intervals of a posterior are not to be trusted.
ENOUGH_DRAWS = 200.0


@dataclass(frozen=True)
class NoisePrior:
    """Prior of the noise of log loss.

    The variance is scaled inverse χ²: as if `degrees` residuals of size `scale` had been seen.

    Args:
        scale: Typical noise of log loss (relative noise of the loss).
        degrees: How many observed residuals the prior is worth, > 0.
    """

    scale: float = 0.01
    degrees: float = 2.0

    def __post_init__(self) -> None:
        for name in ("scale", "degrees"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"Expected `{name}` > 0, got {getattr(self, name):g}")


@dataclass(frozen=True)
class LawPosterior:
    """Equally weighted draws of one curve's law and noise.

    Attributes:
        law: The law.
        coordinates: Draws of its coordinates, shape (n_draws, n_coordinates).
        noise: Draws of the noise's standard deviation on log loss, shape (n_draws,).
        log_reference: log R of the coordinates.
        effective_size: Effective sample size: how many independent draws they are worth.
    """

    law: ScalingLaw
    coordinates: Array
    noise: Array
    log_reference: float
    effective_size: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the draws, in words; empty where nothing is."""
        if self.effective_size >= ENOUGH_DRAWS:
            return ()
        return (
            f"the posterior's draws are worth {self.effective_size:.0f} independent ones, fewer "
            f"than {ENOUGH_DRAWS:.0f}: do not trust its intervals",
        )

    @property
    def params(self) -> Array:
        """Draws of the parameters, shape (n_draws, n_params)."""
        return self.law.params_of(self.coordinates, np.full(len(self.noise), self.log_reference))

    def sample(
        self,
        n_samples: ArrayLike,
        n_draws: int | None = None,
        rng: np.random.Generator | None = None,
        *,
        noise: bool = True,
    ) -> Array:
        """Joint draws of the loss at several sizes.

        Args:
            n_samples: Sizes D, shape (n_points,) or a scalar.
            n_draws: How many; by default all draws, in their order.
            rng: Random generator of the noise and, with `n_draws`, of the choice; seeded by 0 by
                default.
            noise: Whether to draw losses as they would be measured; the law's own values otherwise.

        Returns:
            Losses in nats per target token, shape (n_draws, n_points).
        """
        rng = np.random.default_rng(0) if rng is None else rng
        rows = np.arange(len(self.noise))
        if n_draws is not None:
            rows = rng.choice(rows, size=n_draws, replace=n_draws > len(rows))
        log_n = np.atleast_1d(log_sizes(n_samples))
        reference = np.full(len(rows), self.log_reference)
        values, _ = self.law.log_loss(log_n, self.coordinates[rows], reference, gradient=False)
        if noise:
            values = values + self.noise[rows, None] * rng.standard_normal(values.shape)
        return np.exp(values)

    def mean(self, n_samples: ArrayLike) -> Array:
        """Predictive mean of the loss at sizes D, shape (n_points,)."""
        return self.sample(n_samples, noise=False).mean(axis=0)

    def quantiles(self, n_samples: ArrayLike, levels: ArrayLike, *, noise: bool = True) -> Array:
        """Predictive quantiles, shape (n_levels, n_points)."""
        return np.quantile(self.sample(n_samples, noise=noise), np.atleast_1d(levels), axis=0)

    def interval(
        self, n_samples: ArrayLike, level: float = 0.8, *, noise: bool = True
    ) -> tuple[Array, Array]:
        """Ends of the central interval of the loss at sizes D, each of shape (n_points,).

        Raises:
            ValueError: `level` is not between 0 and 1.
        """
        low, high = self.quantiles(n_samples, _tails(level), noise=noise)
        return low, high

    def band(self, n_samples: ArrayLike, level: float = 0.8) -> tuple[Array, Array, Array]:
        """Lower end, median and upper end of the law itself at sizes D, without noise.

        The median is always between the ends; the law with the best parameters need not be.

        Raises:
            ValueError: `level` is not between 0 and 1.
        """
        low, high = _tails(level)
        low, median, high = self.quantiles(n_samples, [low, 0.5, high], noise=False)
        return low, median, high

    def param_interval(self, name: str, level: float = 0.8) -> tuple[float, float]:
        """Ends of the central interval of a parameter, or of `transition_size`."""
        if name == "transition_size":
            draws = self.law.transition_size(self.params)
        elif name in self.law.param_names:
            draws = self.params[:, self.law.param_names.index(name)]
        else:
            known = ", ".join((*self.law.param_names, "transition_size"))
            raise ValueError(f"Expected a parameter of {known}, got {name!r}")
        # "nearest" does not interpolate between draws, of which some may be infinite
        low, high = np.quantile(draws, _tails(level), method="nearest")
        return float(low), float(high)

    def n_samples_for(self, loss: float, level: float = 0.8) -> tuple[float, float, float]:
        """Median and interval of the size D at which the law reaches a loss; may be infinite."""
        draws = np.sort(self.law.n_samples_for(loss, self.params))
        low, high = _tails(level)
        # no interpolation between finite and infinite draws
        ends = np.quantile(draws, [0.5, low, high], method="nearest")
        return float(ends[0]), float(ends[1]), float(ends[2])


def _tails(level: float) -> tuple[float, float]:
    if not 0.0 < level < 1.0:
        raise ValueError(f"Expected `level` between 0 and 1, got {level:g}")
    return 0.5 - 0.5 * level, 0.5 + 0.5 * level
