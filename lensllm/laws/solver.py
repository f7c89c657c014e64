"""Box-constrained Levenberg–Marquardt and Newton steps for many small fits at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lensllm.laws.base import Array, ScalingLaw, log_sizes
from lensllm.laws.objectives import Objective

_STEP_TOLERANCE = 1e-10
_MAX_DAMPING = 1e10
_DIFFERENCE = 1e-5
_MAX_STEP = 10.0  # of a coordinate: in a wide box a large step may end where the objective is flat


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


def make_problem(
    laws: Sequence[ScalingLaw], objective: Objective, sizes: Array, losses: Array, weights: Array
) -> Problem:
    """Stack checked curves into a problem for the solver; weight 0 marks absent points."""
    present = weights > 0
    positive = present & (sizes > 0)
    log_n = log_sizes(np.where(positive, sizes, 1.0))
    finite = np.where(positive, log_n, 0.0)
    log_reference = finite.sum(1) / np.maximum(positive.sum(1), 1)
    low = np.where(positive, log_n, np.inf).min(1)
    high = np.where(positive, log_n, -np.inf).max(1)
    low, high = np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, 0.0)
    if len({id(item) for item in laws}) == 1:
        shape_low, shape_high = laws[0].shape_bounds(low, high)
    else:
        boxes = [item.shape_bounds(low[i], high[i]) for i, item in enumerate(laws)]
        shape_low, shape_high = (np.stack(ends) for ends in zip(*boxes, strict=True))
    n = len(sizes)
    # Absent points keep their size, so that whole batches share one array of sizes.
    return Problem(
        law=laws[0],
        objective=objective,
        log_n=np.where((sizes == 0) & (not laws[0].defined_at_zero), 0.0, log_sizes(sizes)),
        log_loss=np.log(np.where(present, losses, 1.0)),
        weights=weights,
        log_reference=log_reference,
        lower=np.concatenate([np.full((n, 1), -np.inf), np.zeros((n, 1)), shape_low], axis=1),
        upper=np.concatenate([np.full((n, 1), np.inf), np.ones((n, 1)), shape_high], axis=1),
    )


def covariances(problem: Problem, z: Array) -> Array:
    """Covariances of the coordinates from the Jacobian on log loss, (n_fits, d, d).

    Coordinates at a bound are held there; infinite where there is no degree of freedom.

    Args:
        problem: The fits.
        z: Their coordinates, shape (n_fits, d).
    """
    values, jacobian = problem.law.log_loss(problem.log_n, z, problem.log_reference)
    columns = np.nan_to_num(jacobian.transpose(1, 0, 2)) * np.sqrt(problem.weights)[:, None, :]
    free = (z > problem.lower) & (z < problem.upper)
    columns = columns * free[..., None]
    gram = columns @ columns.transpose(0, 2, 1)
    residuals = np.where(problem.weights > 0, values - problem.log_loss, np.nan)
    squares = np.nansum(problem.weights * residuals**2, axis=1)
    degrees = (problem.weights > 0).sum(axis=1) - free.sum(axis=1)
    variance = np.where(degrees > 0, squares / np.maximum(degrees, 1), np.inf)
    scale = np.sqrt(np.maximum(np.einsum("kaa->ka", gram), 1e-200))
    both = free[:, :, None] & free[:, None, :]
    unit = np.eye(gram.shape[1])
    # the ridge turns an exactly undetermined direction into an enormous variance
    matrix = np.where(both, gram / (scale[:, :, None] * scale[:, None, :]) + 1e-13 * unit, unit)
    inverse = np.linalg.inv(matrix) / (scale[:, :, None] * scale[:, None, :])
    return np.where(both, inverse, 0.0) * np.where(both, variance[:, None, None], 0.0)


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
    the objective's own with the sign of negative curvature reversed. A step is taken only if it
    lowers the objective; each fit has its own damping.

    Args:
        problem: The fits.
        start: Coordinates, shape (n_fits, n_coordinates).
        max_iterations: Most steps that are tried.
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
