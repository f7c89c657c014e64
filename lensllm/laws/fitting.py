"""Fit scaling laws: one curve with `fit_law`, thousands in one call with `fit_laws`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from lensllm.laws.base import Array, ScalingLaw
from lensllm.laws.objectives import make_objective
from lensllm.laws.result import LawFit, LawFits
from lensllm.laws.solver import Problem, Solution, make_problem, minimise
from lensllm.laws.starts import screened_starts
from lensllm.system.progress import tracked

# (steps, starts kept after them), from all starts down to one; then the steps of its polish.
# Huber's objective has more local minima than a square.
_SQUARE_SCHEDULE, _HUBER_SCHEDULE, _POLISH = (
    ((0, 12), (3, 3), (40, 1)),
    ((2, 8), (4, 4), (40, 1)),
    400,
)
_CHUNK = 512


def fit_law(
    law: ScalingLaw,
    n_samples: ArrayLike,
    losses: ArrayLike,
    *,
    objective: str = "squared_log",
    delta: float = 1e-3,
    weights: ArrayLike | None = None,
    use_zero: bool | None = None,
    n_starts: int = 32,
    seed: int = 0,
) -> LawFit:
    """Fit a law to one curve.

    Args:
        law: The law.
        n_samples: Sizes D, shape (n_points,), in any order. A size may occur several times (several
            seeds).
        losses: Test losses in nats per target token, shape (n_points,).
        objective: `squared_log`, `huber` (on log loss) or `squared` (on loss).
        delta: δ of `huber`.
        weights: Weights of the points ≥ 0, shape (n_points,); equal by default.
        use_zero: Whether D = 0 is a point of the fit; by default if the law is finite there.
        n_starts: Starting points, all different.
        seed: Seed of the starting points.

    Returns:
        The fit.

    Raises:
        ValueError: A size, loss or weight is unusable, or there are fewer sizes than parameters.

    Example:
        >>> from lensllm.laws import RectifiedLaw
        >>> sizes = 200.0 * 2 ** np.arange(10)
        >>> fit = fit_law(RectifiedLaw(), sizes, RectifiedLaw()(sizes, [60.0, 0.5, 20.0, 1.0]))
        >>> fit.params.round(4)
        array([60. ,  0.5, 20. ,  1. ])
    """
    sizes = np.asarray(n_samples, dtype=float)
    values = np.asarray(losses, dtype=float)
    if sizes.ndim != 1 or sizes.shape != values.shape:
        raise ValueError(
            "Expected `n_samples` and `losses` of one shape (n_points,), "
            f"got {sizes.shape} and {values.shape}"
        )
    bad = ~np.isfinite(values)
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise ValueError(
            f"Expected finite losses, got {values[i]:g} at n_samples = {sizes[i]:g}: "
            "leave diverged runs out"
        )
    rows = None if weights is None else np.asarray(weights, dtype=float)[None]
    return fit_laws(
        law,
        sizes[None],
        values[None],
        objective=objective,
        delta=delta,
        weights=rows,
        use_zero=use_zero,
        n_starts=n_starts,
        seed=seed,
    )[0]


def fit_laws(
    law: ScalingLaw | Sequence[ScalingLaw],
    n_samples: ArrayLike,
    losses: ArrayLike,
    *,
    objective: str = "squared_log",
    delta: float = 1e-3,
    weights: ArrayLike | None = None,
    use_zero: bool | None = None,
    n_starts: int = 32,
    seed: int = 0,
    on_error: str = "raise",
    progress: bool = False,
) -> LawFits:
    """Fit a law to many curves at once.

    Args:
        law: The law, or one of the same class for each curve (LensLLM's, with its own F).
        n_samples: Sizes D, shape (n_sizes,) for all curves or (n_curves, n_sizes).
        losses: Test losses, shape (n_curves, n_sizes); `nan` for absent points.
        objective: See `fit_law`.
        delta: See `fit_law`.
        weights: Shape (n_curves, n_sizes); equal by default.
        use_zero: See `fit_law`.
        n_starts: See `fit_law`.
        seed: See `fit_law`; all curves have the same design.
        on_error: What to do with curves that have too few sizes: `raise`, or `skip` (parameters
            `nan`, not converged, the reason in `warnings`).
        progress: Whether to show a progress bar on stderr, if there is more than one chunk.

    Returns:
        The fits; iterate over them or index them for single ones.

    Raises:
        ValueError: A size, loss or weight is unusable, or (`on_error="raise"`) a curve has fewer
            sizes than the law has parameters.
    """
    if on_error not in ("raise", "skip"):
        raise ValueError(f"Expected `on_error` to be 'raise' or 'skip', got {on_error!r}")
    if n_starts < 1:
        raise ValueError(f"Expected `n_starts` >= 1, got {n_starts}")
    goal = make_objective(objective, delta)
    values = _check_losses(losses)
    laws = _check_laws(law, len(values))
    sizes, used = _check_points(laws[0], n_samples, values, weights, use_zero)
    usable = _enough_sizes(laws[0], sizes, used, on_error)
    n_coordinates = 2 + len(laws[0].shape_names)
    z = np.full((len(values), n_coordinates), np.nan)
    value, converged = np.full(len(values), np.nan), np.zeros(len(values), dtype=bool)
    evaluations = np.zeros(len(values), dtype=np.int64)
    problem = make_problem(laws, goal, sizes, values, used)
    rows = np.flatnonzero(usable)
    chunks = [rows[first : first + _CHUNK] for first in range(0, len(rows), _CHUNK)]
    quiet = not progress or len(chunks) < 2
    for part in tracked(chunks, f"fitting {len(rows)} curves", quiet=quiet):
        solution = _solve(problem.take(part), n_starts, seed)
        z[part], value[part] = solution.z, solution.value
        converged[part], evaluations[part] = solution.converged, solution.n_evaluations
    params = np.full((len(values), laws[0].n_params), np.nan)
    if len({id(item) for item in laws}) == 1:
        params[usable] = laws[0].params_of(z[usable], problem.log_reference[usable])
    else:
        for i in rows:
            params[i] = laws[i].params_of(z[i], problem.log_reference[i])
    return LawFits(
        laws=laws,
        objective=goal,
        n_samples=sizes,
        losses=values,
        weights=used,
        params=params,
        coordinates=z,
        log_reference=problem.log_reference,
        value=value,
        converged=converged,
        n_evaluations=evaluations,
        seed=seed,
    )


def _solve(problem: Problem, n_starts: int, seed: int) -> Solution:
    """Screen starts, descend with all, cull, descend with the best, polish the best one.

    A Huber objective is descended after squared log loss has brought the starts near.
    """
    n_fits = len(problem.log_n)
    z = screened_starts(problem, n_starts, seed)
    smooth = replace(problem, objective=make_objective("squared_log"))
    evaluations = np.zeros(n_fits, dtype=np.int64)
    converged = np.zeros(n_fits, dtype=bool)
    every = np.arange(n_fits)
    square = bool(np.isinf(problem.objective.delta))
    for steps, n_kept in _SQUARE_SCHEDULE if square else _HUBER_SCHEDULE:
        stage = problem if n_kept == 1 or square else smooth
        rows = np.repeat(every, z.shape[1])
        solution = minimise(stage.take(rows), z.reshape(len(rows), -1), steps)
        value = problem.take(rows).value(solution.z).reshape(n_fits, -1)
        evaluations += solution.n_evaluations.reshape(n_fits, -1).sum(1)
        best = np.argsort(value, axis=1, kind="stable")[:, :n_kept]
        z = np.take_along_axis(solution.z.reshape(*z.shape), best[..., None], axis=1)
        converged = solution.converged.reshape(n_fits, -1)[every, best[:, 0]]
    # re-weighted steps towards Huber's optimum may become small before they reach it
    rough = np.flatnonzero(~converged) if square else every
    polished = minimise(problem.take(rough), z[rough, 0], _POLISH, second_order=True)
    final = z[:, 0]
    final[rough], converged[rough] = polished.z, polished.converged
    evaluations[rough] += polished.n_evaluations
    final = _at_lowest(problem, final)
    return Solution(final, problem.value(final), converged, evaluations)


def _at_lowest(problem: Problem, z: Array) -> Array:
    """Put the last shape coordinate at its lower bound where the objective does not depend on it.

    A curve without a pre-power phase has its optimum at D_l = 0. Descent towards it stops at any
    D_l that is small enough; equivalent fits have to be equal.
    """
    at_bound = z.copy()
    at_bound[:, -1] = problem.lower[:, -1]
    value = problem.value(z)
    alike = problem.value(at_bound) <= value * (1.0 + 1e-9) + 1e-20
    return np.where(alike[:, None], at_bound, z)


def _check_losses(losses: ArrayLike) -> Array:
    """Losses as (n_curves, n_sizes), finite ones > 0."""
    values = np.asarray(losses, dtype=float)
    if values.ndim != 2:
        raise ValueError(f"Expected `losses` of shape (n_curves, n_sizes), got {values.shape}")
    bad = (values <= 0) | np.isinf(values)
    if bad.any():
        k, i = (int(x[0]) for x in np.nonzero(bad))
        raise ValueError(
            f"Expected losses > 0 and finite, got {values[k, i]:g} at point {i} of curve {k}"
        )
    return values


def _check_laws(law: ScalingLaw | Sequence[ScalingLaw], n_curves: int) -> tuple[ScalingLaw, ...]:
    """One law for each curve, all with the same parameters."""
    laws = (law,) * n_curves if isinstance(law, ScalingLaw) else tuple(law)
    if len(laws) != n_curves or not n_curves:
        raise ValueError(f"Expected one law for each of {n_curves} curves (> 0), got {len(laws)}")
    if len({(type(item), item.param_names) for item in laws}) > 1:
        raise ValueError("Expected laws with the same parameters, got different ones")
    return laws


def _check_points(
    law: ScalingLaw,
    n_samples: ArrayLike,
    losses: Array,
    weights: ArrayLike | None,
    zero: bool | None,
) -> tuple[Array, Array]:
    """Sizes (n_curves, n_sizes) and weights, 0 where a point is absent or left out."""
    sizes = np.asarray(n_samples, dtype=float)
    if sizes.shape not in (losses.shape, losses.shape[1:]):
        raise ValueError(
            f"Expected `n_samples` of shape {losses.shape[1:]} or {losses.shape}, got {sizes.shape}"
        )
    if not (np.isfinite(sizes).all() and (sizes >= 0).all()):
        bad = sizes[~(np.isfinite(sizes) & (sizes >= 0))].flat[0]
        raise ValueError(f"Expected `n_samples` >= 0 and finite, got {bad:g}")
    sizes = np.broadcast_to(sizes, losses.shape)
    given = np.ones_like(losses) if weights is None else np.asarray(weights, dtype=float)
    if given.shape != losses.shape or not (np.isfinite(given).all() and (given >= 0).all()):
        raise ValueError(f"Expected `weights` >= 0 of shape {losses.shape}, got {given.shape}")
    if zero and not law.defined_at_zero:
        raise ValueError(
            f"Expected a law that is finite at D = 0, got {law.name!r}: leave D = 0 out, or fit "
            "the rectified law"
        )
    leave_out = (sizes == 0) & (not law.defined_at_zero if zero is None else not zero)
    return sizes, np.where(np.isnan(losses) | leave_out, 0.0, given)


def _enough_sizes(law: ScalingLaw, sizes: Array, weights: Array, on_error: str) -> Array:
    """Which curves have at least as many distinct sizes as the law has parameters."""
    ordered = np.sort(np.where(weights > 0, sizes, np.inf), axis=1)
    fresh = np.ones(ordered.shape, dtype=bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    distinct = (fresh & np.isfinite(ordered)).sum(axis=1)
    usable = distinct >= law.n_params
    if on_error == "raise" and not usable.all():
        row = int(np.flatnonzero(~usable)[0])
        raise ValueError(too_few_sizes(law, int(distinct[row]), f"curve {row}"))
    return usable


def too_few_sizes(law: ScalingLaw, n_sizes: int, where: str) -> str:
    """Say that a law has too many parameters for a curve, and which law would still fit."""
    if n_sizes >= 3:
        remedy = "the power law (law=power) fits from 3 sizes D > 0 on"
    else:
        remedy = "no law here fits fewer than 3: measure more sizes"
    return (
        f"Expected at least {law.n_params} distinct sizes for the {law.n_params} parameters of the "
        f"{law.name} law, got {n_sizes} in {where}: {remedy}"
    )
