"""Starting points: shapes on a stratified design, their linear parameters in closed form."""

from __future__ import annotations

import numpy as np
from scipy.stats import qmc

from lensllm.laws.base import Array
from lensllm.laws.solver import Problem

_DESIGN_SIZE = 256


def screened_starts(problem: Problem, n_starts: int, seed: int) -> Array:
    """Starting points that differ by construction, the best of one stratum each.

    A scrambled Sobol design over the box of the shape coordinates is cut into `n_starts` strata.
    For each design point the linear parameters (B, E ≥ 0) follow in closed form from least
    squares with weights 1 / L², the linearisation of squared log loss (variable projection, Golub
    and Pereyra 1973); the best point of each stratum is a start.

    Args:
        problem: The fits, each with the same number of coordinates.
        n_starts: Starts per fit.
        seed: Seed of the design.

    Returns:
        Coordinates, shape (n_fits, n_starts, n_coordinates).
    """
    design = _design(problem, max(_DESIGN_SIZE, 8 * n_starts), seed)
    level, share, misfit = _eliminate_linear(problem, design)
    strata = np.array_split(np.arange(design.shape[1]), n_starts)
    rows = np.arange(len(problem.log_n))
    starts = []
    for stratum in strata:
        best = stratum[np.argmin(misfit[:, stratum], axis=1)]
        shape = design[rows if len(design) > 1 else 0, best]
        head = np.stack([level[rows, best], share[rows, best]], axis=-1)
        starts.append(np.concatenate([head, shape], axis=-1))
    return np.stack(starts, axis=1)


def _design(problem: Problem, size: int, seed: int) -> Array:
    """Shape coordinates, (n_fits or 1, size, n_shape); consecutive points are near in the last."""
    lower, upper = problem.lower[:, 2:], problem.upper[:, 2:]
    if np.all(lower == lower[0]) and np.all(upper == upper[0]):
        lower, upper = lower[:1], upper[:1]
    sobol = qmc.Sobol(lower.shape[1], scramble=True, rng=np.random.default_rng(seed))
    unit = sobol.random_base2(int(np.ceil(np.log2(size))))
    unit = unit[np.argsort(unit[:, -1], kind="stable")]
    return problem.law.design_shape(unit, lower[:, None, :], upper[:, None, :])


def _eliminate_linear(problem: Problem, design: Array) -> tuple[Array, Array, Array]:
    """Best level c and share p for each design point, and the linearised misfit.

    Returns:
        Three arrays of shape (n_fits, design size).
    """
    law = problem.law
    alpha = np.broadcast_to(law.exponent(design), design.shape[:-1])
    shared = len(design) == 1 and bool(np.all(problem.log_n == problem.log_n[0]))
    log_n = problem.log_n[:1] if shared else problem.log_n
    middle = problem.log_reference.mean()
    at_middle, _ = law.log_shape(np.full((1, 1, 1), middle), design, gradient=False)
    log_g, _ = law.log_shape(log_n[:, None, :], design, gradient=False)
    g = np.exp(np.minimum(log_g - at_middle, 300.0))
    if shared and law.exponent_index is None:
        v = np.exp(problem.log_loss)
        w = problem.weights / v**2
        basis = g[0].T
        s0, sv, svv = w.sum(1)[:, None], (w * v).sum(1)[:, None], (w * v * v).sum(1)[:, None]
        sg, sgg, sgv = w @ basis, w @ basis**2, (w * v) @ basis
    else:
        v = np.exp(problem.log_loss[:, None, :] / alpha[..., None])
        w = problem.weights[:, None, :] * alpha[..., None] ** 2 / v**2
        s0, sv, svv = w.sum(-1), (w * v).sum(-1), (w * v * v).sum(-1)
        sg, sgg, sgv = (w * g).sum(-1), (w * g * g).sum(-1), (w * g * v).sum(-1)
    a, e, misfit = _bounded_line(s0, sv, svv, sg, sgg, sgv)
    log_own, _ = law.log_shape(problem.log_reference[:, None, None], design, gradient=False)
    a = a * np.exp(np.minimum((log_own - at_middle)[..., 0], 300.0))
    total = np.maximum(a + e, np.finfo(float).tiny)
    return alpha * np.log(total), np.clip(a / total, 0.02, 0.98), misfit


def _bounded_line(
    s0: Array, sv: Array, svv: Array, sg: Array, sgg: Array, sgv: Array
) -> tuple[Array, Array, Array]:
    """Least squares of v on a g + e with a, e ≥ 0 from weighted sums: a, e and the misfit."""
    determinant = sgg * s0 - sg**2
    with np.errstate(divide="ignore", invalid="ignore"):
        a = (sgv * s0 - sg * sv) / determinant
        e = (sv - a * sg) / s0
    usable = np.isfinite(a) & (determinant > 1e-12 * sgg * s0)
    a = np.where(usable, np.maximum(a, 0.0), 0.0)
    e = np.where(usable, e, sv / s0)
    e = np.where(a == 0.0, sv / s0, e)
    a = np.where(e < 0.0, sgv / sgg, a)
    e = np.maximum(e, 0.0)
    misfit = svv - 2 * (a * sgv + e * sv) + a * a * sgg + 2 * a * e * sg + e * e * s0
    return a, e, misfit
