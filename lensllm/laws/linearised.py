"""Posteriors of laws: residuals linearised; level, E (the floor) and noise integrated out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from lensllm.laws.base import Array, ScalingLaw
from lensllm.laws.posterior import NoisePrior
from lensllm.laws.solver import Problem

TINY = 1e-300


@dataclass(frozen=True)
class Linear:
    """The linearised model at given shapes; all of shape (n_curves, n_shapes).

    Attributes:
        amplitude: Least-squares B·G(R).
        floor: Least-squares E.
        spread: Scale of E's t distribution.
        end: E at which the best amplitude is 0.
        slope: Change of the best amplitude with E.
        sgg: Weighted sum of squares of g, the precision of the amplitude given E.
        squares: Prior and residual sum of squares at the optimum.
        log_density: Log density of the shape, E and all else integrated out.
    """

    amplitude: Array
    floor: Array
    spread: Array
    end: Array
    slope: Array
    sgg: Array
    squares: Array
    log_density: Array


class Target:
    """The posterior of a stack of curves over standardised free shape coordinates x."""

    def __init__(self, laws: Sequence[ScalingLaw], problem: Problem, prior: NoisePrior) -> None:
        self.laws, self.problem, self.prior = laws, problem, prior
        self.single = len({id(law) for law in laws}) == 1
        self.centre, self.width = laws[0].prior_shape()
        self.n_points = (problem.weights > 0).sum(axis=1)[:, None].astype(float)
        self.prior_squares = prior.degrees * prior.scale**2

    @property
    def degrees(self) -> Array:
        """Degrees of freedom of E's t distribution, (n_curves, 1)."""
        return self.prior.degrees + self.n_points - 2.0

    def shape(self, x: Array) -> Array:
        """Shape coordinates for x of shape (n_curves or 1, n_shapes, n_free)."""
        free = self.centre + self.width * x
        if self.single:
            return self.laws[0].free_to_shape(free)
        free = np.broadcast_to(free, (len(self.laws), *free.shape[1:]))
        return np.stack([law.free_to_shape(free[i]) for i, law in enumerate(self.laws)])

    def basis(self, shape: Array, log_n: Array) -> Array:
        """Shape factor g = G(D) / G(R), shape (n_curves, n_shapes, n_sizes)."""
        law = self.problem.law
        reference = self.problem.log_reference[:, None, None]
        at_reference, _ = law.log_shape(reference, shape, gradient=False)
        log_g, _ = law.log_shape(log_n, shape, gradient=False)
        return np.exp(np.minimum(log_g - at_reference, 300.0))

    def linear(self, x: Array) -> Linear:
        """Integrate amplitude, E and noise out of the linearised model at x."""
        problem, shape = self.problem, self.shape(x)
        alpha = np.broadcast_to(problem.law.exponent(shape), shape.shape[:-1])
        g = self.basis(shape, problem.log_n[:, None, :])
        if problem.law.exponent_index is None:
            v, w = np.exp(problem.log_loss), problem.weights * np.exp(-2 * problem.log_loss)
            s0, sv, svv = (term.sum(axis=1)[:, None] for term in (w, w * v, w * v * v))
            column = (g @ np.stack([w, w * v], axis=-1)).transpose(2, 0, 1)
            sg, sgv = column[0], column[1]
            sgg = ((g * g) @ w[..., None])[..., 0]
        else:
            v = np.exp(problem.log_loss[:, None, :] / alpha[..., None])
            w = problem.weights[:, None, :] * (alpha[..., None] / v) ** 2
            s0, sv, svv = w.sum(-1), (w * v).sum(-1), (w * v * v).sum(-1)
            sg, sgg, sgv = (w * g).sum(-1), (w * g * g).sum(-1), (w * g * v).sum(-1)
        return self._integrate(x, alpha, s0, sv, svv, sg, sgg, sgv)

    def _integrate(
        self,
        x: Array,
        alpha: Array,
        s0: Array,
        sv: Array,
        svv: Array,
        sg: Array,
        sgg: Array,
        sgv: Array,
    ) -> Linear:
        """The closed forms, from weighted sums of 1, v, v², g, g² and g v."""
        schur = np.maximum(s0 - sg**2 / sgg, 1e-13 * s0)
        floor = (sv - sg * sgv / sgg) / schur
        amplitude = (sgv - sg * floor) / sgg
        residual = np.maximum(svv - amplitude * sgv - floor * sv, 1e-15 * svv)
        squares = self.prior_squares + residual
        spread = np.sqrt(squares / (self.degrees * schur))
        end = (sgv / sgg) / (sg / sgg)
        low, high = self.ends(floor, spread, end)
        level = np.maximum(amplitude + floor, 1e-3 * sv / s0)
        log_density = (
            -0.5 * np.log(sgg * schur)
            - 0.5 * self.degrees * np.log(squares)
            + np.log(np.maximum(ndtr(high) - ndtr(low), TINY))
            - 2.0 * np.log(level)
            + np.log(alpha)
            - 0.5 * (x**2).sum(axis=-1)
        )
        return Linear(amplitude, floor, spread, end, sg / sgg, sgg, squares, log_density)

    def ends(self, floor: Array, spread: Array, end: Array) -> tuple[Array, Array]:
        """Normal scores of E = 0 and E = `end`, mirrored so that neither tail cancels."""
        low = self.normal_score(-floor / spread)
        high = self.normal_score((end - floor) / spread)
        mirror = low > 0
        return np.where(mirror, -high, low), np.where(mirror, -low, high)

    def normal_score(self, t: Array) -> Array:
        """Wallace's normal score of a t variable (1959); only a proposal: weights correct it."""
        k = (8 * self.degrees + 1) / (8 * self.degrees + 3)
        return k * np.sign(t) * np.sqrt(self.degrees * np.log1p(t * t / self.degrees))

    def from_score(self, z: Array) -> tuple[Array, Array]:
        """Inverse of `normal_score`, and the log density of t when z is standard normal."""
        k = (8 * self.degrees + 1) / (8 * self.degrees + 3)
        exponent = np.minimum((z / k) ** 2 / self.degrees, 600.0)
        t = np.sign(z) * np.sqrt(self.degrees * np.expm1(exponent))
        # dz/dt = k² t / (z (1 + t²/ν)), with limit k at 0
        small = np.abs(z) < 1e-6
        ratio = np.where(small, 1.0 / k, t / np.where(small, 1.0, z))
        return t, -0.5 * z * z + np.log(k * k * ratio) - np.log1p(t * t / self.degrees)
