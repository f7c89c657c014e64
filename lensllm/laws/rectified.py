"""The rectified scaling law of Lin et al. (2024)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from lensllm.laws.base import BETA_BOUNDS, Array, ScalingLaw, split

# How far beyond the data β log T may lie: there D_l is 0, or the curve flat, to double precision.
_MARGIN = 40.0
# Starts lie where β (log R − log T) is within this of 0: beyond, a curve is a power law or flat.
_START_MARGIN = 8.0
_MAX_LOG_PRE_LEARNED = 600.0


@dataclass(frozen=True)
class RectifiedLaw(ScalingLaw):
    r"""L(D) = B / (D_l + D^β) + E (Lin et al., ICML 2024, arXiv:2402.02314).

    D_l, the pre-learned data size in the units of D^β, bends the law: below `transition_size`
    T = D_l^(1/β) the log-log slope still grows (pre-power phase), beyond it the law is a power
    law (power phase). Fitted in (β, log T), since
    G(D) = 1 / (T^β + D^β) is a logistic function of β (log D − log T).

    Example:
        >>> law = RectifiedLaw()
        >>> params = [60.0, 0.5, 20.0, 1.0]
        >>> law([0, 400], params).round(3)
        array([4. , 2.5])
        >>> float(law.transition_size(params)), float(law.n_samples_for(2.5, params))
        (400.0, 400.0)
    """

    @property
    def param_names(self) -> tuple[str, ...]:
        """Names of the parameters B, β, D_l, E."""
        return ("scale", "beta", "pre_learned_size", "irreducible_loss")

    @property
    def shape_names(self) -> tuple[str, ...]:
        """β and log T."""
        return ("beta", "log_transition_size")

    def __call__(self, n_samples: ArrayLike, params: ArrayLike) -> Array:
        """Evaluate the law; see `ScalingLaw.__call__`."""
        scale, beta, pre_learned, irreducible = split(params)
        return scale / (pre_learned + np.asarray(n_samples, dtype=float) ** beta) + irreducible

    def n_samples_for(self, loss: ArrayLike, params: ArrayLike) -> Array:
        """(B / (L − E) − D_l)^(1/β), 0 and ∞ where that has no value."""
        scale, beta, pre_learned, irreducible = (x[..., 0] for x in split(params))
        gap = np.asarray(loss, dtype=float) - irreducible
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            power = np.maximum(scale / gap - pre_learned, 0.0)
            return np.where(gap > 0, power ** (1.0 / beta), np.inf)

    def transition_size(self, params: ArrayLike) -> Array:
        """T = D_l^(1/β)."""
        _, beta, pre_learned, _ = (x[..., 0] for x in split(params))
        with np.errstate(over="ignore"):
            return pre_learned ** (1.0 / beta)

    def shape_bounds(self, log_n_min: Array, log_n_max: Array) -> tuple[Array, Array]:
        """β within its box; bounds on log T so wide that no D_l ≥ 0 is excluded for any β."""
        ones, margin = np.ones_like(log_n_min), _MARGIN / BETA_BOUNDS[0]
        lower = np.stack([BETA_BOUNDS[0] * ones, log_n_min - margin], axis=-1)
        upper = np.stack([BETA_BOUNDS[1] * ones, log_n_max + margin], axis=-1)
        return lower, upper

    def design_shape(self, unit: Array, lower: Array, upper: Array) -> Array:
        """β log T evenly about the middle of the data: the box of log T is as wide as 1 / β."""
        beta = super().design_shape(unit, lower, upper)[..., 0]
        middle = 0.5 * (lower + upper)[..., 1]
        log_t = middle + _START_MARGIN * (2.0 * unit[:, 1] - 1.0) / beta
        return np.stack([beta, log_t], axis=-1)

    def log_shape(self, log_n: Array, shape: Array, gradient: bool = True) -> tuple[Array, Array]:
        """−log(T^β + D^β) by β and log T."""
        beta, log_t = shape[..., 0, None], shape[..., 1, None]
        x = log_n - log_t
        z = beta * x
        # softplus(z) = log(1 + e^z), in the form that cannot overflow
        decay = np.exp(-np.abs(z))
        values = -(beta * log_t) - (np.maximum(z, 0.0) + np.log1p(decay))
        if not gradient:
            return values, np.empty(0)
        sigmoid = np.where(z > 0, 1.0, decay) / (1.0 + decay)
        share = np.where(np.isneginf(log_n), 0.0, sigmoid * np.where(np.isneginf(x), 0.0, x))
        return values, np.stack([-log_t - share, beta * (sigmoid - 1.0)])

    def params_of(self, coordinates: Array, log_reference: Array) -> Array:
        """B, β, D_l, E for (c, p, β, log T)."""
        c, p, beta, log_t = np.moveaxis(coordinates, -1, 0)
        pre_learned = np.exp(np.clip(beta * log_t, -_MAX_LOG_PRE_LEARNED, _MAX_LOG_PRE_LEARNED))
        level = np.exp(c)
        scale = p * level * (pre_learned + np.exp(beta * log_reference))
        return np.stack([scale, beta, pre_learned, (1.0 - p) * level], axis=-1)

    def prior_shape(self) -> tuple[Array, Array]:
        """Log β around log 0.5 (factor 2), log T around log 10 000 (factor 100)."""
        return np.array([np.log(0.5), np.log(1e4)]), np.array([np.log(2.0), np.log(100.0)])
