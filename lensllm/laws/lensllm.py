"""LensLLM's law: the rectified form with the NTK's loss curve in place of D_l."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from lensllm.laws.base import BETA_BOUNDS, Array, ScalingLaw
from lensllm.laws.rectified import RectifiedLaw

# Where F has fallen below this share of F(0), its term in the law is negligible.
_NEGLIGIBLE = 1e-12


class NTKLossCurve(Protocol):
    """F(t): the NTK-predicted training loss after t steps; falls from F(0) towards 0."""

    def __call__(self, n_steps: ArrayLike) -> Array:
        """F at t ≥ 0, elementwise."""
        ...


@dataclass(frozen=True)
class ExponentialCurve:
    r"""F(t) = Σ_i w_i exp(−r_i t), the form of an NTK loss curve (Zeng et al., ICML 2025).

    For an NTK with eigenvalues λ_i and the residual's components c_i in its eigenbasis of n
    examples, w_i = c_i² / n and r_i = 2 η λ_i.

    Args:
        weights: w_i ≥ 0, at least one > 0.
        rates: r_i ≥ 0, as many.

    Example:
        >>> float(ExponentialCurve([4.0], [0.5])(0.0))
        4.0
    """

    weights: Sequence[float]
    rates: Sequence[float]

    def __post_init__(self) -> None:
        weights, rates = np.asarray(self.weights, float), np.asarray(self.rates, float)
        if weights.ndim != 1 or weights.shape != rates.shape or not weights.size:
            raise ValueError(
                f"Expected as many `rates` as `weights`, got {rates.size} and {weights.size}"
            )
        for name, values in (("weights", weights), ("rates", rates)):
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise ValueError(f"Expected `{name}` >= 0, got {values.min():g}")

    def __call__(self, n_steps: ArrayLike) -> Array:
        """F at t."""
        t = np.asarray(n_steps, dtype=float)[..., None]
        return (np.asarray(self.weights) * np.exp(-np.asarray(self.rates) * t)).sum(axis=-1)


@dataclass(frozen=True)
class LensLLMLaw(ScalingLaw):
    r"""L(D) = B / (κ F(t) + D^β) + E (Zeng et al., ICML 2025, arXiv:2505.03793).

    F(t) = 1/n Σ_i c_i² exp(−2 η λ_i t) is given: the loss curve by the empirical NTK of the
    pre-trained model, with eigenvalues λ_i, losses c_i along its eigenvectors and learning rate η,
    in nats² (see `NTKLossCurve`). In *phase fitting* t is
    the observed early-stopping step (`n_steps`) and is not fitted; in *prediction* it is. Since
    F falls strictly, fitting t is fitting D_l of the rectified law inside [κ F(t_max), κ F(0)].

    Args:
        ntk_loss: The curve F, see `NTKLossCurve`.
        n_steps: t where it is known; `None` to fit it.
        max_n_steps: Largest t of a fit.
        ntk_scale: κ; 1 as in the paper.
    """

    ntk_loss: NTKLossCurve
    n_steps: float | None = None
    max_n_steps: float = 1e6
    ntk_scale: float = 1.0

    def __post_init__(self) -> None:
        for name in ("max_n_steps", "ntk_scale"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise ValueError(f"Expected `{name}` > 0, got {getattr(self, name):g}")
        if self.n_steps is not None and not self.n_steps >= 0:
            raise ValueError(f"Expected `n_steps` >= 0, got {self.n_steps:g}")
        start = float(self.ntk_loss(0.0))
        if not (np.isfinite(start) and start > 0):
            raise ValueError(f"Expected F(0) of `ntk_loss` to be finite and > 0, got {start:g}")

    @property
    def name(self) -> str:
        """`lensllm`."""
        return "lensllm"

    @property
    def param_names(self) -> tuple[str, ...]:
        """Names of the parameters B, β, t (where it is fitted) and E."""
        if self.n_steps is None:
            return ("scale", "beta", "n_steps", "irreducible_loss")
        return ("scale", "beta", "irreducible_loss")

    @property
    def shape_names(self) -> tuple[str, ...]:
        """β and log(κ F)."""
        return ("beta", "log_ntk_loss")

    @cached_property
    def log_term_bounds(self) -> tuple[float, float]:
        """Range of log(κ F(t)); a single value where t is given."""
        first = 0.0 if self.n_steps is None else self.n_steps
        last = self.max_n_steps if self.n_steps is None else self.n_steps
        start = float(self.ntk_loss(0.0))
        terms = [max(float(self.ntk_loss(t)), _NEGLIGIBLE * start) for t in (last, first)]
        low, high = np.log(self.ntk_scale) + np.log(terms)
        return float(low), float(high)

    def _rectified(self, params: ArrayLike) -> Array:
        """The same curve in parameters of the rectified law."""
        array = np.asarray(params, dtype=float)
        if self.n_steps is None:
            steps = array[..., 2]
        else:
            steps = np.full(array.shape[:-1], float(self.n_steps))
        term = self.ntk_scale * np.asarray(self.ntk_loss(steps), dtype=float)
        return np.stack([array[..., 0], array[..., 1], term, array[..., -1]], axis=-1)

    def __call__(self, n_samples: ArrayLike, params: ArrayLike) -> Array:
        """Evaluate the law; see `ScalingLaw.__call__`."""
        return RectifiedLaw()(n_samples, self._rectified(params))

    def n_samples_for(self, loss: ArrayLike, params: ArrayLike) -> Array:
        """(B / (L − E) − κ F)^(1/β), 0 and ∞ where that has no value."""
        return RectifiedLaw().n_samples_for(loss, self._rectified(params))

    def transition_size(self, params: ArrayLike) -> Array:
        """(κ F)^(1/β)."""
        return RectifiedLaw().transition_size(self._rectified(params))

    def shape_bounds(self, log_n_min: Array, log_n_max: Array) -> tuple[Array, Array]:
        """β within its box, log(κ F) within what F can reach."""
        box = np.array([BETA_BOUNDS, self.log_term_bounds])
        full = (*np.shape(log_n_min), 2)
        return np.broadcast_to(box[:, 0], full).copy(), np.broadcast_to(box[:, 1], full).copy()

    def log_shape(self, log_n: Array, shape: Array, gradient: bool = True) -> tuple[Array, Array]:
        """−log(κ F + D^β) by β and log(κ F)."""
        beta, log_term = shape[..., 0, None], shape[..., 1, None]
        z = beta * log_n - log_term
        decay = np.exp(-np.abs(z))
        values = -log_term - (np.maximum(z, 0.0) + np.log1p(decay))
        if not gradient:
            return values, np.empty(0)
        sigmoid = np.where(z > 0, 1.0, decay) / (1.0 + decay)
        return values, np.stack([-sigmoid * np.where(np.isneginf(log_n), 0.0, log_n), sigmoid - 1])

    def params_of(self, coordinates: Array, log_reference: Array) -> Array:
        """B, β, t (where it is fitted), E for (c, p, β, log κF)."""
        c, p, beta, log_term = np.moveaxis(coordinates, -1, 0)
        level = np.exp(c)
        scale = p * level * (np.exp(log_term) + np.exp(beta * log_reference))
        columns = [scale, beta, (1.0 - p) * level]
        if self.n_steps is None:
            columns.insert(2, self.steps_of(np.exp(log_term)))
        return np.stack(columns, axis=-1)

    def steps_of(self, term: ArrayLike) -> Array:
        """Invert κ F(t) = term by bisection on [0, `max_n_steps`], elementwise.

        t enters the curve through F alone, so t near 0 is found on a scale relative to
        `max_n_steps` by 200 halvings, which exhausts double precision.
        """
        target = np.asarray(term, dtype=float)
        low = np.zeros_like(target)
        high = np.full_like(target, self.max_n_steps)
        for _ in range(200):
            middle = 0.5 * (low + high)
            above = self.ntk_scale * np.asarray(self.ntk_loss(middle)) > target
            low, high = np.where(above, middle, low), np.where(above, high, middle)
        return 0.5 * (low + high)

    def prior_shape(self) -> tuple[Array, Array]:
        """Log β around log 0.5 (factor 2); log(κ F) uniform on its range, by a probit."""
        n = 2 if self.n_steps is None else 1
        return np.array([np.log(0.5), 0.0])[:n], np.array([np.log(2.0), 1.0])[:n]

    def free_to_shape(self, free: Array) -> Array:
        """(log β(, probit of log κF's place)) to (β, log κF)."""
        low, high = self.log_term_bounds
        place = ndtr(free[..., 1]) if self.n_steps is None else np.zeros(free.shape[:-1])
        return np.stack([np.exp(free[..., 0]), low + (high - low) * place], axis=-1)
