"""The posterior over a task's curves: a prior conditioned on the measured points."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lensllm.predictors.prior import CurvePrior
from lensllm.predictors.table import LossTable
from lensllm.predictors.tree import Tree, root_of

# Components of less posterior weight than this are left out.
NEGLIGIBLE = 1e-3
# Largest number of components that are kept.
MAX_COMPONENTS = 64
# Points of one task are less independent than the model assumes.
TEMPER = 0.25
_CHUNK_CELLS = 4_000_000
_TINY = 1e-12
_UNLIKELY = 8.0


@dataclass(frozen=True, eq=False)
class Points:
    """The points of a task on a grid of sizes that also has those to be predicted.

    Attributes:
        grid: Sizes D > 0, ascending, shape (s,).
        x: Doublings from half the smallest size on, shape (s,).
        log_loss: log L, 0 where there is none, shape (n_models, s).
        seen: Which points were measured, same shape.
        n_runs: Number of runs that each point is the mean of, at least 1, same shape.
        error: Known standard error of each log loss, same shape.
        families: Position of each candidate's family, shape (n_models,).
        least: The smallest loss that was measured, in nats; floors are shares of it.
    """

    grid: np.ndarray
    x: np.ndarray
    log_loss: np.ndarray
    seen: np.ndarray
    n_runs: np.ndarray
    error: np.ndarray
    families: np.ndarray
    least: float

    @classmethod
    def of(cls, table: LossTable, sizes: Sequence[float] | np.ndarray, smallest: float) -> Points:
        """The points of a table; `smallest` is the smallest size that the task has."""
        grid = np.unique(np.concatenate([table.sizes, np.asarray(sizes, dtype=float)]))
        columns = np.searchsorted(grid, table.sizes)
        shape = (len(table.models), len(grid))
        seen = np.zeros(shape, dtype=bool)
        log_loss, n_runs, error = np.zeros(shape), np.ones(shape), np.zeros(shape)
        seen[:, columns] = table.seen
        log_loss[:, columns] = np.where(table.seen, table.log_loss, 0.0)
        n_runs[:, columns] = np.maximum(table.n_runs, 1.0)
        error[:, columns] = table.error
        least = float(np.exp(log_loss[seen].min())) if seen.any() else 0.0
        # The integrated Wiener process begins at x = 0.
        x = np.maximum(np.log2(grid / smallest) + 1.0, 0.1)
        return cls(grid, x, log_loss, seen, n_runs, error, table.family_index, least)

    @cached_property
    def alike(self) -> np.ndarray:
        """Group of each candidate, (n_models,); in a group the sizes and their noise are equal."""
        known = np.where(self.error > 0, self.log_loss, 0.0)
        rows = np.concatenate([self.seen, self.n_runs, self.error, known], axis=1)
        return np.unique(rows, axis=0, return_inverse=True)[1].reshape(-1)

    def at(self, columns: np.ndarray) -> Points:
        """The points at some sizes of the grid, by a mask."""
        return replace(
            self,
            grid=self.grid[columns],
            x=self.x[columns],
            log_loss=self.log_loss[:, columns],
            seen=self.seen[:, columns],
            n_runs=self.n_runs[:, columns],
            error=self.error[:, columns],
        )

    def condition(self, prior: CurvePrior, hints: Hints | None = None) -> Conditioned:
        """A prior conditioned on these points."""
        gap = np.exp(self.log_loss) - prior.floors(self.least)[:, None, None]
        gap = np.where(self.seen, gap, 1.0)
        possible = (gap > 0).all(axis=(1, 2))
        y = np.log(np.maximum(gap, _TINY))
        stretch = np.where(self.seen, self.log_loss - y, 0.0)
        noise = prior.noise(self.grid)[:, None] / self.n_runs
        noise = np.maximum(noise, (self.error * np.exp(np.minimum(stretch, 50.0))) ** 2)
        precision = np.where(self.seen, 1.0 / noise, 0.0)
        return Conditioned(
            Tree(*prior.covariances(self.x), precision, self.families, self.alike),
            np.where(self.seen, y - prior.mean(self.x)[:, None], 0.0),
            np.where(possible, stretch.sum(axis=(1, 2)), -math.inf),
            prior.mean(self.x),
            hints,
        )

    def log_evidence(self, prior: CurvePrior, hints: Hints | None = None) -> np.ndarray:
        """Log density of the points under each component, up to a constant, (n_components,)."""
        if not self.seen.any():
            return np.zeros(len(prior.names))
        columns = np.asarray(self.seen.any(axis=0))
        if not columns.all():
            measured = None if hints is None else hints.at(columns)
            return self.at(columns).log_evidence(prior, measured)
        n, s = self.seen.shape
        step = max(1, _CHUNK_CELLS // (n * s * s))
        found = np.empty(len(prior.names))
        for start in range(0, len(found), step):
            part = np.arange(start, min(start + step, len(found)))
            found[part] = self.condition(prior[part], hints).log_evidence()
        return found


@dataclass(frozen=True, eq=False)
class Hints:
    """What earlier tasks say of the candidates of this one, as regressors of their curves.

    Curves are mean + sum_a b_a e_a + the Gaussian processes of the prior, with b Gaussian: where
    the task's own points do not follow the hints, b is close to 0 and so is their effect.

    Attributes:
        effects: e_a at the points' grid of sizes, shape (n_models, s, n_hints).
        mean: Prior mean of b, shape (n_hints,).
        covariance: Its prior covariance, shape (n_hints, n_hints).
    """

    effects: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray

    def at(self, columns: np.ndarray) -> Hints:
        """The hints at some sizes of the grid, by a mask."""
        return replace(self, effects=self.effects[:, columns])


@dataclass(frozen=True, eq=False)
class Conditioned:
    """The components of a prior, conditioned on points.

    Attributes:
        tree: Covariances and precisions.
        values: y less its prior mean, shape (n_components, n_models, s); 0 where not measured.
        stretch: Log determinant of the change from log L to y = log(L - E), shape (n_components,);
            -inf where a loss is not above E.
        mean: Prior mean of y, shape (n_components, s).
        hints: What earlier tasks say.
    """

    tree: Tree
    values: np.ndarray
    stretch: np.ndarray
    mean: np.ndarray
    hints: Hints | None

    @cached_property
    def _columns(self) -> np.ndarray:
        """The values and the hints where they are measured, (n_components, n_models, s, 1 + m)."""
        values = self.values[..., None]
        if self.hints is None:
            return values
        seen = (self.tree.precision > 0)[..., None]
        return np.concatenate([values, np.where(seen, self.hints.effects, 0.0)], axis=-1)

    @cached_property
    def _gram(self) -> np.ndarray:
        return self.tree.quadratic(self._columns)

    @cached_property
    def _coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean (n_components, m) and covariance (n_components, m, m) of b."""
        assert self.hints is not None
        inner = self._gram[:, 1:, 1:]
        eye = np.eye(inner.shape[-1])
        covariance = np.linalg.solve(eye + self.hints.covariance @ inner, self.hints.covariance)
        news = self._gram[:, 1:, 0] - inner @ self.hints.mean
        return self.hints.mean + (covariance @ news[..., None])[..., 0], covariance

    def log_evidence(self) -> np.ndarray:
        """Log density of the points under each component, up to a constant, (n_components,)."""
        misfit = self._gram[:, 0, 0] + self.tree.log_det()
        if self.hints is not None:
            inner, cross = self._gram[:, 1:, 1:], self._gram[:, 1:, 0]
            mean = self.hints.mean
            news = cross - inner @ mean
            misfit += -2 * cross @ mean + np.einsum("pij,i,j->p", inner, mean, mean)
            misfit -= np.einsum("pi,pij,pj->p", news, self._coefficients[1], news)
            eye = np.eye(inner.shape[-1])
            misfit += np.linalg.slogdet(eye + self.hints.covariance @ inner)[1]
        return self.stretch - 0.5 * misfit

    def curves(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Means of y and the parts of its covariance at some positions of the grid.

        Returns:
            See `Posterior`: `mean`, `own`, `family`, `common`.
        """
        means = self.tree.mean(self._columns)[:, :, at]
        own, family, common = self.tree.factors(at)
        mean = means[..., 0] + self.mean[:, None, at]
        if self.hints is not None:
            b, covariance = self._coefficients
            left = self.hints.effects[:, at] - means[..., 1:]
            mean = mean + np.einsum("pntm,pm->pnt", left, b)
            loads = left @ root_of(covariance)[:, None]
            common = np.concatenate([common, loads], axis=-1)
        return mean, own, family, common


@dataclass(frozen=True, eq=False)
class Posterior:
    """Curves of all candidates, given what was measured: a mixture of joint Gaussians.

    In component k, y_i(x) = log(L_i(x) - E_k) is Gaussian.

    Attributes:
        weights: Weight of each component, shape (n_components,).
        floors: E of each component, shape (n_components,).
        sizes: Sizes D > 0 at which curves are predicted, D_full last, shape (t,).
        mean: Means of y, shape (n_components, n_models, t).
        own: Covariance of each candidate's own part, (n_components, n_models, t, t).
        family: Loadings of the part that a family shares, (n_components, n_models, t, r).
        common: Loadings of the part that all candidates share, same shape.
        families: Position of each candidate's family, shape (n_models,).
        noise: Variance of a measurement of y, (n_components, t).
        settled: Log losses that were measured at D_full, shape (n_models,), `nan` where none was.
            What a run on all the data has reached is no longer uncertain: it can be run again.
    """

    weights: np.ndarray
    floors: np.ndarray
    sizes: np.ndarray
    mean: np.ndarray
    own: np.ndarray
    family: np.ndarray
    common: np.ndarray
    families: np.ndarray
    noise: np.ndarray
    settled: np.ndarray

    @cached_property
    def is_settled(self) -> np.ndarray:
        """Whether a candidate's loss at D_full was measured, shape (n_models,)."""
        return np.isfinite(self.settled)

    def draws(self, n_draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Joint draws of log losses at D_full: of the curves, and of a measurement of them.

        Returns:
            Both of shape (n_draws, n_models).
        """
        rng = np.random.default_rng(seed)
        pick = self._components(n_draws)
        n_models = self.mean.shape[1]
        curves = np.empty((n_draws, n_models))
        for k in np.unique(pick):
            rows = np.flatnonzero(pick == k)
            common, family = self.common[k, :, -1], self.family[k, :, -1]
            shared = rng.standard_normal((len(rows), common.shape[-1])) @ common.T
            count = int(self.families.max(initial=-1)) + 1
            relatives = rng.standard_normal((len(rows), count, family.shape[-1]))[:, self.families]
            shared += np.einsum("nr,dnr->dn", family, relatives)
            spread = np.sqrt(np.maximum(self.own[k, :, -1, -1], 0.0))
            alone = spread * rng.standard_normal((len(rows), n_models))
            curves[rows] = self.mean[k, :, -1] + shared + alone
        noise = np.sqrt(self.noise[pick, -1])[:, None]
        measured = curves + noise * rng.standard_normal(curves.shape)
        floor = self.floors[pick][:, None]
        drawn = np.log(floor + np.exp(curves)), np.log(floor + np.exp(measured))
        known = self.is_settled
        return np.where(known, self.settled, drawn[0]), np.where(known, self.settled, drawn[1])

    def draws_of(self, model: int, n_draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Joint draws of one candidate's losses at all sizes: of its curve, and measured ones.

        Args:
            model: Position of the candidate.
            n_draws: Number of draws.
            seed: Seed of the draws.

        Returns:
            Losses, both of shape (n_draws, t).
        """
        rng = np.random.default_rng(seed)
        pick = self._components(n_draws)
        y = np.empty((n_draws, len(self.sizes)))
        for k in np.unique(pick):
            rows = np.flatnonzero(pick == k)
            parts = root_of(self.own[k, model]), self.family[k, model], self.common[k, model]
            loads = np.concatenate(parts, axis=1)
            news = rng.standard_normal((len(rows), loads.shape[1]))
            y[rows] = self.mean[k, model] + news @ loads.T
        floor = self.floors[pick][:, None]
        measured = y + np.sqrt(self.noise[pick]) * rng.standard_normal(y.shape)
        return floor + np.exp(y), floor + np.exp(measured)

    def _components(self, n_draws: int) -> np.ndarray:
        """The component of each draw, in proportion to their weights, shape (n_draws,)."""
        reached = np.cumsum(self.weights)
        return np.searchsorted(reached, (np.arange(n_draws) + 0.5) / n_draws * reached[-1])

    @cached_property
    def expected(self) -> np.ndarray:
        """Expected log losses, shape (n_models, t)."""
        centre = np.log(self.floors[:, None, None] + np.exp(self.mean))
        found = np.einsum("k,kmt->mt", self.weights, centre)
        found[self.is_settled, -1] = self.settled[self.is_settled]
        return found

    def moments(self, models: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean and covariance of the log losses of some candidates at all sizes, and noise.

        The mixture's own moments, with log L linear in y about the mean of each component.

        Args:
            models: Positions of the candidates, shape (m,).

        Returns:
            Mean (m, t), covariance (m, t, m, t), and variance of a measurement (m, t).
        """
        y = self.mean[:, models]
        gap = np.exp(y)
        loss = self.floors[:, None, None] + gap
        centre, slope = np.log(loss), gap / loss
        k, m, t = y.shape
        shape = (k, m * t, -1)
        common = (slope[..., None] * self.common[:, models]).reshape(shape)
        family = (slope[..., None] * self.family[:, models]).reshape(shape)
        own = slope[..., None] * self.own[:, models] * slope[:, :, None, :]
        root = np.sqrt(self.weights)[:, None, None]
        mean = self.expected[models]
        away = (root * (centre - mean)).reshape(k, m * t)
        loads = np.moveaxis(root * common, 1, 0).reshape(m * t, -1)
        covariance = loads @ loads.T + away.T @ away
        loads = np.moveaxis(root * family, 1, 0).reshape(m * t, -1)
        relatives = np.repeat(self.families[models], t)
        covariance += (loads @ loads.T) * (relatives[:, None] == relatives)
        covariance = covariance.reshape(m, t, m, t)
        rows = np.arange(m)
        covariance[rows, :, rows, :] += np.einsum("k,kmts->mts", self.weights, own)
        settled = self.is_settled[models]
        covariance[settled, -1] = covariance[:, :, settled, -1] = 0.0
        noise = np.einsum("k,kmt->mt", self.weights, slope**2 * self.noise[:, None])
        return mean, covariance, noise


def posterior(
    prior: CurvePrior,
    points: Points,
    sizes: Sequence[float] | np.ndarray,
    hints: Sequence[tuple[float, Hints]] = (),
    temper: float = TEMPER,
) -> Posterior:
    """Condition a prior on a task's points.

    Args:
        prior: The prior.
        points: The points; without any, the prior itself at a loss of about 1 is returned.
        sizes: Sizes of the points' grid to predict, ascending, D_full last.
        hints: What earlier tasks may say, each with its prior probability; with the remaining
            probability they say nothing.
        temper: Exponent of the likelihood in the weights of the components.

    Returns:
        The posterior.
    """
    at = np.searchsorted(points.grid, np.asarray(sizes, dtype=float))
    options: list[tuple[float, Hints | None]] = [(1.0 - sum(p for p, _ in hints), None), *hints]
    alone = np.log(prior.weights) + temper * points.log_evidence(prior)
    # Components that do not fit without hints are not tried with them.
    likely = alone >= alone.max() - _UNLIKELY
    log_weights = np.full((len(options), len(alone)), -math.inf)
    log_weights[0] = alone + math.log(options[0][0])
    for k, (probability, hint) in enumerate(options[1:], start=1):
        part = prior[likely]
        evidence = temper * points.log_evidence(part, hint)
        log_weights[k, likely] = np.log(probability * part.weights) + evidence
    weights = np.exp(log_weights - log_weights.max())
    weights = _thinned(weights / weights.sum())
    kept = weights > 0
    parts, chosen = [], []
    for (_, hint), mask in zip(options, kept, strict=True):
        if mask.any():
            parts.append(points.condition(prior[mask], hint).curves(at))
            chosen.append(prior[mask])
    mean, own, family, common = (
        np.concatenate([_padded(part[i], parts, i) for part in parts]) for i in range(4)
    )
    final = weights[kept]
    return Posterior(
        final / final.sum(),
        np.concatenate([part.floors(points.least) for part in chosen]),
        points.grid[at],
        mean,
        own,
        family,
        common,
        points.families,
        np.concatenate([part.noise(points.grid[at]) for part in chosen]),
        np.full(len(points.families), math.nan),
    )


def _thinned(weights: np.ndarray) -> np.ndarray:
    """The weights without negligible ones; systematic resampling where too many are left."""
    weights = np.where(weights >= min(NEGLIGIBLE, weights.max()), weights, 0.0)
    if (weights > 0).sum() > MAX_COMPONENTS:
        reached = np.cumsum(weights) / weights.sum() * MAX_COMPONENTS
        taken = np.diff(np.floor(reached.ravel() + 0.5), prepend=0.0)
        weights = taken.reshape(weights.shape)
    return weights / weights.sum()


def _padded(array: np.ndarray, parts: Sequence[tuple[np.ndarray, ...]], i: int) -> np.ndarray:
    """An array with columns of zeros appended, up to the widest one of its kind."""
    missing = max(part[i].shape[-1] for part in parts) - array.shape[-1]
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)])
