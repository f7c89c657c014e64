"""What is wrong with a fit, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lensllm.laws.base import Array, ScalingLaw
from lensllm.laws.solver import Problem, covariances

_OUTLIER = 8.0
_FLOOR = 1e-6
_THROUGH = 1e-4  # largest log residual of a fit that goes through its points
# Standard errors beyond which the data do not determine a coordinate: the share p of the level, a
# factor in β, α or κF, a factor in the transition size.
_VAGUE_SHARE, _VAGUE_LOG_FACTOR, _VAGUE_LOG_SIZE = 0.25, 0.5, 2.3


def fit_warnings(
    problem: Problem, laws: Sequence[ScalingLaw], params: Array, z: Array, converged: Array
) -> tuple[tuple[str, ...], ...]:
    """Warnings for each curve of a batch.

    A warning is raised for curves that were skipped or did not converge, curves that do not fall,
    fits with as many parameters as points, coordinates at the end of their box, coordinates whose
    standard error is too large to mean anything, and outliers.

    Args:
        problem: The curves as the solver sees them.
        laws: The law of each curve.
        params: Parameters, shape (n_curves, n_params); `nan` for skipped curves.
        z: The same in the law's fitting coordinates.
        converged: Whether each fit converged, shape (n_curves,).
    """
    errors = np.sqrt(np.abs(np.einsum("kaa->ka", covariances(problem, z))))
    rows = [problem.take(np.array([i])) for i in range(len(laws))]
    return tuple(
        tuple(_warnings_of(*parts))
        for parts in zip(rows, laws, params, z, converged, errors, strict=True)
    )


def _warnings_of(
    problem: Problem, law: ScalingLaw, params: Array, z: Array, converged: bool, errors: Array
) -> list[str]:
    """Warnings of one curve."""
    used = problem.weights[0] > 0
    n_points = int(used.sum())
    log_n, log_loss = problem.log_n[0][used], problem.log_loss[0][used]
    if not np.isfinite(z).all():
        n_sizes = len(np.unique(log_n))
        return [
            f"not fitted: {n_points} points at {n_sizes} sizes do not determine {law.n_params} "
            f"parameters: {law.n_params} sizes are needed"
        ]
    found = []
    if not converged:
        found.append("the fit did not converge")
    ends = law(np.exp([log_n.min(), log_n.max()]), params)
    if not (z[1] > 0 and np.log(ends[0] / ends[1]) > 1e-9):
        trend = "constant" if np.ptp(log_loss) <= 1e-9 else "not falling"
        found.append(
            f"the losses are {trend} in n_samples: the law is flat and beta and the transition "
            "size mean nothing"
        )
        return found
    values, _ = law.log_loss(log_n, z, problem.log_reference[0], gradient=False)
    if n_points == law.n_params:
        through = np.allclose(values, log_loss, rtol=0, atol=_THROUGH)
        found.append(
            f"{n_points} points for {law.n_params} parameters: "
            + ("the fit goes through all of them and says" if through else "they say")
            + " nothing about the noise"
        )
    found += _bound_warnings(law, z, problem.lower[0], problem.upper[0])
    if n_points > law.n_params:
        found += _vague_warnings(law.shape_names, z, errors)
    found += _outlier_warnings(values - log_loss, np.exp(log_n), law.n_params)
    return found


def _bound_warnings(law: ScalingLaw, z: Array, lower: Array, upper: Array) -> list[str]:
    """Coordinates at the end of their box."""
    found = []
    if z[1] >= 1.0:
        found.append("irreducible_loss is at its bound 0")
    for j, name in enumerate(law.shape_names, start=2):
        if lower[j] == upper[j]:
            continue
        for end, side in ((lower[j], "lowest"), (upper[j], "highest")):
            if abs(z[j] - end) < 1e-9 * max(1.0, abs(end)):
                found.append(f"{name} is at its bound, the {side} value {end:.4g}")
    return found


def _vague_warnings(shape_names: tuple[str, ...], z: Array, errors: Array) -> list[str]:
    """Coordinates that the data do not determine."""
    found = []
    if errors[1] > _VAGUE_SHARE:
        found.append(
            "the data do not determine irreducible_loss: its standard error is "
            f"{min(errors[1], 9.99):.0%} of the loss"
        )
    for name, value, error in zip(shape_names, z[2:], errors[2:], strict=True):
        relative = error / value if name == "beta" else error
        limit = _VAGUE_LOG_SIZE if "size" in name else _VAGUE_LOG_FACTOR
        if relative > limit:
            told = name.removeprefix("log_")
            factor = f"{np.exp(relative):.3g}" if relative < 9.0 else "thousands"
            found.append(f"the data cannot tell {told}: its standard error is a factor of {factor}")
    return found


def _outlier_warnings(residuals: Array, sizes: Array, n_params: int) -> list[str]:
    """Outliers, by a scale that exactly fitted points do not shrink."""
    if len(residuals) < n_params + 3:
        return []
    size = np.sort(np.abs(residuals))
    scale = max(1.4826 * float(np.median(size[n_params - 1 : -1])), _FLOOR)
    far = np.abs(residuals) > _OUTLIER * scale
    return [
        f"outlier at n_samples = {sizes[j]:g}: {residuals[j] / -scale:+.0f} times the noise off"
        for j in np.flatnonzero(far)
    ]
