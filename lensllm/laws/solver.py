"""Box-constrained Levenberg–Marquardt and Newton steps for many small fits at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lensllm.laws.base import Array, ScalingLaw
from lensllm.laws.objectives import Objective

_STEP_TOLERANCE = 1e-10
_MAX_DAMPING = 1e10
_DIFFERENCE = 1e-5
_MAX_STEP = 10.0  # of a coordinate: a box may be so wide that a bold step ends where all is flat


@dataclass(frozen=True)
class Problem:
    """A stack of fits of one law.

    Attributes:
        law: The law.
        objective: What is minimised.
        log_n: Log sizes, shape (n_fits, n_sizes); −∞ for D = 0.
        log_loss: Log of the observed losses, same shape.
        weights: Weights of the points, same shape; 0 for absent ones.
        log_reference: log R of the coordinates, shape (n_fits,).
        lower: Lower ends of the coordinates' box, shape (n_fits, n_coordinates).
        upper: Upper ends, same shape.
    """

    law: ScalingLaw
    objective: Objective
    log_n: Array
    log_loss: Array
    weights: Array
    log_reference: Array
    lower: Array
    upper: Array

    def take(self, rows: Array) -> Problem:
        """The fits of the given rows, repeated ones included."""
        names = ("log_n", "log_loss", "weights", "log_reference", "lower", "upper")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def residuals(self, z: Array, gradient: bool = True) -> tuple[Array, Array]:
        """Residuals (n_fits, n_sizes) and their derivatives (n_coordinates, n_fits, n_sizes)."""
        values, jacobian = self.law.log_loss(self.log_n, z, self.log_reference, gradient)
        if self.objective.on_log:
            return values - self.log_loss, jacobian
        values = np.exp(np.minimum(values, 300.0))
        return values - np.exp(self.log_loss), jacobian * values if gradient else jacobian

    def value(self, z: Array) -> Array:
        """The objective at coordinates z, shape (n_fits,)."""
        residuals, _ = self.residuals(z, gradient=False)
        return (self.weights * self.objective.rho(residuals)).sum(axis=-1)

    def gradient(self, z: Array) -> Array:
        """Its derivatives by the coordinates, shape (n_fits, n_coordinates)."""
        residuals, jacobian = self.residuals(z)
        return np.einsum("aki,ki->ka", jacobian, self.weights * self.objective.psi(residuals))


@dataclass
class Solution:
    """Where a stack of fits ended.

    Attributes:
        z: Coordinates, shape (n_fits, n_coordinates).
        value: The objective there, shape (n_fits,).
        converged: Whether the steps became negligible, shape (n_fits,).
        n_evaluations: Evaluations of residuals, shape (n_fits,).
    """

    z: Array
    value: Array
    converged: Array
    n_evaluations: Array


def minimise(
    problem: Problem, start: Array, max_iterations: int, *, second_order: bool = False
) -> Solution:
    """Descend from `start` with damped (Gauss–)Newton steps, projected onto the box.

    The model's Hessian is that of iteratively re-weighted Gauss–Newton, or, with `second_order`,
    the objective's own with its negative curvature turned round. A step is taken only if it
    lowers the objective; its damping is each fit's own.

    Args:
        problem: The fits.
        start: Coordinates, shape (n_fits, n_coordinates).
        max_iterations: Steps tried at most.
        second_order: Whether the Hessian includes the residuals' own curvature.

    Returns:
        The lowest point found of each fit.
    """
    z = np.clip(start, problem.lower, problem.upper)
    n_fits, n_coordinates = z.shape
    part, active = problem, np.arange(n_fits)
    residuals, jacobian = problem.residuals(z)
    value = (problem.weights * problem.objective.rho(residuals)).sum(axis=-1)
    damping = np.full(n_fits, 1e-6 if second_order else 1e-3)
    converged = np.zeros(n_fits, dtype=bool)
    evaluations = np.ones(n_fits, dtype=np.int64)
    for _ in range(max_iterations):
        here = z[active]
        slope, hessian = _quadratic_model(part, here, residuals, jacobian, second_order)
        step = _damped_step(part, here, slope, hessian, damping[active])
        trial = np.clip(here + np.clip(step, -_MAX_STEP, _MAX_STEP), part.lower, part.upper)
        moved = np.abs(trial - here) / (np.abs(here) + 1e-3)
        new_residuals, new_jacobian = part.residuals(trial)
        new_value = (part.weights * part.objective.rho(new_residuals)).sum(axis=-1)
        better = new_value < value[active]
        z[active[better]], value[active[better]] = trial[better], new_value[better]
        residuals[better], jacobian[:, better] = new_residuals[better], new_jacobian[:, better]
        factor = np.where(better, 0.2, 6.0)
        damping[active] = np.clip(damping[active] * factor, 1e-12, 10 * _MAX_DAMPING)
        evaluations[active] += 1 + 2 * n_coordinates * second_order
        done = (moved.max(axis=1) < _STEP_TOLERANCE) | (damping[active] > _MAX_DAMPING)
        if done.any():
            converged[active[done]] = True
            keep = np.flatnonzero(~done)
            active, part = active[keep], part.take(keep)
            residuals, jacobian = residuals[keep], jacobian[:, keep]
        if not len(active):
            break
    return Solution(z, value, converged, evaluations)


def _quadratic_model(
    problem: Problem, z: Array, residuals: Array, jacobian: Array, second_order: bool
) -> tuple[Array, Array]:
    """Slope (n_fits, d) and model Hessian (n_fits, d, d) of the objective at z."""
    objective, weights = problem.objective, problem.weights
    pull = weights * objective.psi(residuals)
    slope = np.einsum("aki,ki->ka", jacobian, pull)
    scale = objective.curvature(residuals) if second_order else objective.weight(residuals)
    scaled = jacobian * (weights * scale)
    hessian = scaled.transpose(1, 0, 2) @ jacobian.transpose(1, 2, 0)
    if not second_order:
        return slope, hessian
    for b in range(z.shape[1]):
        above, below = z.copy(), z.copy()
        above[:, b] = np.minimum(z[:, b] + _DIFFERENCE, problem.upper[:, b])
        below[:, b] = np.maximum(z[:, b] - _DIFFERENCE, problem.lower[:, b])
        width = np.maximum(above[:, b] - below[:, b], np.finfo(float).tiny)
        change = problem.residuals(above)[1] - problem.residuals(below)[1]
        hessian[:, :, b] += np.einsum("aki,ki->ka", change, pull) / width[:, None]
    return slope, 0.5 * (hessian + hessian.transpose(0, 2, 1))


def _damped_step(problem: Problem, z: Array, slope: Array, hessian: Array, damping: Array) -> Array:
    """Solve (H + μ diag H) δ = −slope over the coordinates that no bound holds."""
    fixed = ((z <= problem.lower) & (slope >= 0)) | ((z >= problem.upper) & (slope <= 0))
    free = ~fixed
    slope = np.where(free, slope, 0.0)
    d = z.shape[1]
    diagonal = np.abs(np.einsum("kaa->ka", hessian))
    scale = np.sqrt(np.maximum(diagonal, 1e-14 * diagonal.max(axis=1, keepdims=True) + 1e-300))
    matrix = hessian / (scale[:, :, None] * scale[:, None, :])
    matrix = np.where(free[:, :, None] & free[:, None, :], matrix, 0.0)
    target = -slope / scale
    if problem.objective.delta == np.inf and not np.any(matrix[:, range(d), range(d)] < 0):
        matrix[:, range(d), range(d)] += np.where(free, damping[:, None] + 1e-14, 1.0)
        try:
            return np.linalg.solve(matrix, target[..., None])[..., 0] / scale
        except np.linalg.LinAlgError:
            pass
    matrix[:, range(d), range(d)] += np.where(free, 0.0, 1.0)
    values, vectors = np.linalg.eigh(matrix)
    values = np.abs(values) + damping[:, None] + 1e-14
    rotated = np.einsum("kab,ka->kb", vectors, target) / values
    return np.einsum("kab,kb->ka", vectors, rotated) * free / scale
