"""The vanilla scaling law, with and without an outer exponent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lensllm.laws.base import BETA_BOUNDS, Array, ScalingLaw, split

ALPHA_BOUNDS = (0.05, 20.0)


@dataclass(frozen=True)
class VanillaLaw(ScalingLaw):
    r"""L(D) = (B / D^β + E)^α, the vanilla law of Lin et al. (ICML 2024, arXiv:2402.02314).

    Without α it is the saturating power law B / D^β + E, the rectified law's limit for D_l = 0.
    It is infinite at D = 0 and has no pre-power phase, so its transition size is `nan`.

    Args:
        with_alpha: Whether α is fitted; α = 1 otherwise.

    Example:
        >>> VanillaLaw(with_alpha=False)([1, 100], [3.0, 0.5, 1.0])
        array([4. , 1.3])
    """

    with_alpha: bool = True

    @property
    def name(self) -> str:
        """`vanilla` with α, `power` without."""
        return "vanilla" if self.with_alpha else "power"

    @property
    def param_names(self) -> tuple[str, ...]:
        """Names of the parameters B, β, E and, where it is fitted, α."""
        return ("scale", "beta", "irreducible_loss", "alpha")[: 3 + self.with_alpha]

    @property
    def shape_names(self) -> tuple[str, ...]:
        """β and, where it is fitted, log α."""
        return ("beta", "log_alpha")[: 1 + self.with_alpha]

    @property
    def defined_at_zero(self) -> bool:
        """L(0) is infinite."""
        return False

    def _split(self, params: ArrayLike) -> tuple[Array, ...]:
        parts = split(params)
        return parts if self.with_alpha else (*parts, np.ones_like(parts[0]))

    def __call__(self, n_samples: ArrayLike, params: ArrayLike) -> Array:
        """Evaluate the law; infinite at D = 0."""
        scale, beta, irreducible, alpha = self._split(params)
        with np.errstate(divide="ignore", invalid="ignore"):
            power = np.asarray(n_samples, dtype=float) ** -beta
            return (np.where(scale > 0, scale * power, 0.0) + irreducible) ** alpha

    def n_samples_for(self, loss: ArrayLike, params: ArrayLike) -> Array:
        """(B / (L^(1/α) − E))^(1/β), ∞ at or below E^α."""
        scale, beta, irreducible, alpha = (x[..., 0] for x in self._split(params))
        gap = np.asarray(loss, dtype=float) ** (1.0 / alpha) - irreducible
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return np.where(gap > 0, (scale / gap) ** (1.0 / beta), np.inf)

    def shape_bounds(self, log_n_min: Array, log_n_max: Array) -> tuple[Array, Array]:
        """The boxes of β and log α."""
        box = np.array([BETA_BOUNDS, np.log(ALPHA_BOUNDS)][: 1 + self.with_alpha])
        full = (*np.shape(log_n_min), len(box))
        return np.broadcast_to(box[:, 0], full).copy(), np.broadcast_to(box[:, 1], full).copy()

    def log_shape(self, log_n: Array, shape: Array, gradient: bool = True) -> tuple[Array, Array]:
        """−β log D."""
        values = -shape[..., 0, None] * log_n
        if not gradient:
            return values, np.empty(0)
        slope = -np.broadcast_to(log_n, values.shape)
        return values, np.stack([slope, np.zeros_like(values)][: 1 + self.with_alpha])

    @property
    def exponent_index(self) -> int | None:
        """Log α is the second shape coordinate."""
        return 1 if self.with_alpha else None

    def params_of(self, coordinates: Array, log_reference: Array) -> Array:
        """B, β, E (and α) for (c, p, β(, log α))."""
        c, p, beta = np.moveaxis(coordinates[..., :3], -1, 0)
        alpha = np.exp(coordinates[..., 3]) if self.with_alpha else np.ones_like(c)
        level = np.exp(c / alpha)
        columns = [p * level * np.exp(beta * log_reference), beta, (1.0 - p) * level, alpha]
        return np.stack(columns[: self.n_params], axis=-1)

    def prior_shape(self) -> tuple[Array, Array]:
        """Log β around log 0.5 (factor 2), log α around 0 (factor 2)."""
        n = 1 + self.with_alpha
        return np.array([np.log(0.5), 0.0])[:n], np.array([np.log(2.0), np.log(2.0)])[:n]
