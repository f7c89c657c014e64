"""Sampling from posteriors of laws: a grid along the ridge, then exact importance weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.special import ndtr, ndtri

from lensllm.laws.base import Array, ScalingLaw
from lensllm.laws.linearised import TINY, Target
from lensllm.laws.population import draw_population
from lensllm.laws.posterior import ENOUGH_DRAWS, LawPosterior, NoisePrior
from lensllm.laws.ridge import Layout, lay_out
from lensllm.laws.solver import Problem

_N_PROPOSALS, _N_POPULATION = 2048, 4096
_HULL_SHARE = 0.5
_CHUNK = 32


def sample_posteriors(
    laws: Sequence[ScalingLaw],
    problem: Problem,
    *,
    prior: NoisePrior | None = None,
    n_draws: int = 1000,
    seed: int = 0,
) -> list[LawPosterior]:
    r"""Draw from the posterior of each curve's law.

    Model: log L(D_i) ~ Normal(log L(D_i; law), σ² / w_i). Prior: level c flat, reducible share p
    uniform on [0, 1], σ² as in `NoisePrior`, shape as in `ScalingLaw.prior_shape`.

    In two steps. (1) With residuals linearised, log L̂ − log L ≈ (L̂ − L) / L, the law is linear in
    B and E, so that B, E ≥ 0 and σ² integrate out in closed form. What is left, a density over
    one or two shape coordinates, is often a thin bent ridge; it is laid out on slices of the
    second coordinate, each with its own range of the first (β), refined until it is thick there.
    (2) Draws of shape, E, σ² and B from that layout get importance weights under the exact
    model, and are resampled. The objective of a fit plays no part.

    Where noise is heavy and points are few, residuals are far from linear and the weights of (2)
    fall to a handful of draws. A curve whose draws are worth fewer than `ENOUGH_DRAWS` is drawn
    again from the exact model (`draw_population`), and the better of both is kept.

    Args:
        laws: The law of each curve.
        problem: The curves, as stacked by `lensllm.laws.solver.make_problem`.
        prior: Prior of the noise.
        n_draws: Draws per curve.
        seed: Seed of the draws.

    Returns:
        One posterior per curve.
    """
    prior = prior or NoisePrior()
    posteriors: list[LawPosterior] = []
    for first in range(0, len(laws), _CHUNK):
        part = laws[first : first + _CHUNK]
        rows = np.arange(first, first + len(part))
        target = Target(part, problem.take(rows), prior)
        posteriors += _draw(target, n_draws, np.random.default_rng([seed, first]))
    return posteriors


def _draw(target: Target, n_draws: int, rng: np.random.Generator) -> list[LawPosterior]:
    """Propose from the layout, weigh under the exact model, resample."""
    layout, log_density = lay_out(target)
    x, log_q = _propose_shapes(layout, log_density, len(target.centre), rng)
    linear = target.linear(x)
    uniform, normal = rng.random(x.shape[:2]), rng.standard_normal((2, *x.shape[:2]))
    low, high = target.ends(linear.floor, linear.spread, linear.end)
    mirrored = target.normal_score(-linear.floor / linear.spread) > 0
    mass = np.maximum(ndtr(high) - ndtr(low), TINY)
    z = np.clip(ndtri(np.clip(ndtr(low) + uniform * mass, TINY, 1 - 1e-16)), low, high)
    t, log_t = target.from_score(np.where(mirrored, -z, z))
    floor = np.maximum(linear.floor + linear.spread * t, 0.0)
    log_q = log_q + log_t - np.log(mass) - np.log(linear.spread)
    squares = linear.squares * (1.0 + t * t / target.degrees)
    shape = 0.5 * (target.degrees + 1.0)
    noise = np.sqrt(0.5 * squares / rng.gamma(np.broadcast_to(shape, squares.shape)))
    best = linear.amplitude - linear.slope * (floor - linear.floor)
    amplitude = best + noise / np.sqrt(linear.sgg) * normal[0]
    log_target = -shape * np.log(squares) - 0.5 * np.log(linear.sgg) - 0.5 * (x**2).sum(axis=-1)
    coordinates, log_exact = _exact(target, x, amplitude, floor, noise)
    weights = _normalise(log_target + log_exact - log_q)
    effective = 1.0 / (weights**2).sum(axis=1)
    rows = _resample(weights, n_draws, rng)
    every = np.arange(len(rows))[:, None]
    coordinates, noise = coordinates[every, rows], noise[every, rows]
    for i in np.flatnonzero(~(effective >= ENOUGH_DRAWS)):
        found = draw_population(target, int(i), _N_POPULATION, ENOUGH_DRAWS, rng)
        if not found.effective_size <= effective[i]:
            drawn = _resample(found.weights[None], n_draws, rng)[0]
            coordinates[i], noise[i] = found.coordinates[drawn], found.noise[drawn]
            effective[i] = found.effective_size
    reference = target.problem.log_reference
    return [
        LawPosterior(law, coordinates[i], noise[i], float(reference[i]), float(effective[i]))
        for i, law in enumerate(target.laws)
    ]


def _propose_shapes(
    layout: Layout, log_density: Array, n_free: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Points x within the layout's cells, and their log density up to a constant per curve."""
    n_curves, n_slices, n_inner = log_density.shape
    log_mass = log_density + np.log(layout.high - layout.low)[..., None]
    # Within a cell the density varies: a share of the draws goes by the highest neighbour.
    hull = maximum_filter(log_mass, size=(1, 3, 3), mode="nearest")
    mass = (1.0 - _HULL_SHARE) * _normalise(log_mass.reshape(n_curves, -1))
    mass = mass + _HULL_SHARE * _normalise(hull.reshape(n_curves, -1))
    cells = _resample(mass, _N_PROPOSALS, rng)
    slices, inner = np.divmod(cells, n_inner)
    jitter = rng.random((2, *cells.shape))
    span = (layout.stop - layout.start)[:, None]
    outer = layout.start[:, None] + span * (slices + jitter[0]) / n_slices
    low, high = layout.ends_at(outer)
    x = np.stack([low + (high - low) * (inner + jitter[1]) / n_inner, outer], axis=-1)
    return x[..., :n_free], np.log(np.take_along_axis(mass, cells, axis=1) / (high - low))


def _exact(
    target: Target, x: Array, amplitude: Array, floor: Array, noise: Array
) -> tuple[Array, Array]:
    """Coordinates of the draws, and log of exact over linearised likelihood and prior."""
    problem, law = target.problem, target.problem.law
    shape = target.shape(x)
    alpha = np.broadcast_to(law.exponent(shape), shape.shape[:-1])
    level = amplitude + floor
    inside = (amplitude > 0) & (level > 0)
    level = np.where(inside, level, 1.0)
    share = np.where(inside, amplitude / level, 0.5)
    head = np.stack([alpha * np.log(level), share], axis=-1)
    coordinates = np.concatenate([head, shape], axis=-1)
    g = target.basis(shape, problem.log_n[:, None, :])
    u = np.maximum(amplitude[..., None] * g + floor[..., None], TINY)
    gap = alpha[..., None] * np.log(u) - problem.log_loss[:, None, :]
    v = np.exp(problem.log_loss[:, None, :] / alpha[..., None])
    linear = alpha[..., None] * (u / v - 1.0)
    change = ((gap**2 - linear**2) @ problem.weights[..., None])[..., 0]
    log_ratio = -0.5 * change / noise**2 - 2.0 * np.log(level) + np.log(alpha)
    return coordinates, np.where(inside, log_ratio, -np.inf)


def _normalise(log_weights: Array) -> Array:
    """Weights that sum to 1 along the last axis."""
    weights = np.exp(log_weights - log_weights.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _resample(weights: Array, n: int, rng: np.random.Generator) -> Array:
    """Systematic resampling, in random order: indices of shape (n_curves, n)."""
    cumulative = weights.cumsum(axis=1)
    points = (np.arange(n) + rng.random()) / n
    rows = np.stack([np.searchsorted(c / c[-1], points) for c in cumulative])
    return rng.permuted(rows.clip(max=weights.shape[1] - 1), axis=1)
