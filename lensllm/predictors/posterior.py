"""What the measured points of a task make of a prior over curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lensllm.predictors.prior import CurvePrior
from lensllm.predictors.table import LossTable
from lensllm.predictors.tree import Tree

# Components of less posterior weight than this are left out.
NEGLIGIBLE = 2e-3
_CHUNK_CELLS = 4_000_000


@dataclass(frozen=True, eq=False)
class Posterior:
    """Curves of all candidates, given what was measured: a mixture of joint Gaussians.

    In component k, y_i(x) = log(L_i(x) - E_k) is Gaussian.

    Attributes:
        weights: Of the components, shape (n_components,).
        floors: E of each component, shape (n_components,).
        sizes: Sizes D > 0 at which curves are predicted, D_full last, shape (t,).
        mean: Means of y, shape (n_components, n_models, t).
        own: Covariance of what each candidate has alone, (n_components, n_models, t, t).
        family: Loadings of what a family shares, (n_components, n_models, t, r).
        common: Loadings of what all share, same shape.
        families: Position of each candidate's family, shape (n_models,).
        noise: Variance of a measurement of y, (n_components, t).
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

    def draws(self, n_draws: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Joint draws of log losses at D_full: of the curves, and of a measurement of them.

        Returns:
            Both of shape (n_draws, n_models).
        """
        rng = np.random.default_rng(seed)
        reached = np.cumsum(self.weights)
        pick = np.searchsorted(reached, (np.arange(n_draws) + 0.5) / n_draws * reached[-1])
        n_models, rank = self.mean.shape[1], self.common.shape[-1]
        curves = np.empty((n_draws, n_models))
        for k in np.unique(pick):
            rows = np.flatnonzero(pick == k)
            shared = rng.standard_normal((len(rows), rank)) @ self.common[k, :, -1].T
            count = int(self.families.max(initial=-1)) + 1
            relatives = rng.standard_normal((len(rows), count, rank))[:, self.families]
            shared += np.einsum("nr,dnr->dn", self.family[k, :, -1], relatives)
            spread = np.sqrt(np.maximum(self.own[k, :, -1, -1], 0.0))
            alone = spread * rng.standard_normal((len(rows), n_models))
            curves[rows] = self.mean[k, :, -1] + shared + alone
        noise = np.sqrt(self.noise[pick, -1])[:, None]
        measured = curves + noise * rng.standard_normal(curves.shape)
        floor = self.floors[pick][:, None]
        return np.log(floor + np.exp(curves)), np.log(floor + np.exp(measured))

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
        mean = np.einsum("k,kmt->mt", self.weights, centre)
        away = (root * (centre - mean)).reshape(k, m * t)
        loads = np.moveaxis(root * common, 1, 0).reshape(m * t, -1)
        covariance = loads @ loads.T + away.T @ away
        loads = np.moveaxis(root * family, 1, 0).reshape(m * t, -1)
        relatives = np.repeat(self.families[models], t)
        covariance += (loads @ loads.T) * (relatives[:, None] == relatives)
        covariance = covariance.reshape(m, t, m, t)
        rows = np.arange(m)
        covariance[rows, :, rows, :] += np.einsum("k,kmts->mts", self.weights, own)
        noise = np.einsum("k,kmt->mt", self.weights, slope**2 * self.noise[:, None])
        return mean, covariance, noise


def posterior(
    prior: CurvePrior,
    table: LossTable,
    sizes: Sequence[float],
    smallest: float,
    temper: float = 1.0,
) -> Posterior:
    """Condition a prior on a task's points.

    Args:
        prior: The prior.
        table: The points; without any, the prior itself at a loss of about 1 is returned.
        sizes: Sizes D > 0 to predict, ascending, D_full last.
        smallest: Smallest size that the task has, from which doublings are counted.
        temper: Power to which the likelihood weighs the components.

    Returns:
        The posterior.
    """
    grid = np.unique(np.concatenate([table.sizes, np.asarray(sizes, dtype=float)]))
    x = np.log2(grid / smallest) + 1.0
    columns = np.searchsorted(grid, table.sizes)
    n, s = len(table.models), len(grid)
    seen = np.zeros((n, s), dtype=bool)
    seen[:, columns] = table.seen
    log_loss, runs, error = np.zeros((n, s)), np.ones((n, s)), np.zeros((n, s))
    log_loss[:, columns] = np.where(table.seen, table.log_loss, 0.0)
    runs[:, columns] = np.maximum(table.n_runs, 1.0)
    error[:, columns] = table.error
    least = float(np.exp(log_loss[seen].min())) if seen.any() else 0.0
    families = table.family_index
    at = np.searchsorted(grid, np.asarray(sizes, dtype=float))
    # Doublings below `smallest` have no place on the axis of the integrated Wiener process.
    x = np.maximum(x, 0.1)

    def conditioned(part: CurvePrior) -> tuple[Tree, np.ndarray, np.ndarray]:
        floors = part.floors(least)
        gap = np.exp(log_loss) - floors[:, None, None]
        y = np.where(seen, np.log(np.where(seen, gap, 1.0)), 0.0)
        # standard errors of log L are larger ones of log(L - E)
        known = np.where(seen, error * np.exp(log_loss - y), 0.0)
        noise = np.maximum(part.noise(grid)[:, None] / runs, known**2)
        tree = Tree(*part.covariances(x), np.where(seen, 1.0 / noise, 0.0), families)
        centred = np.where(seen, y - part.mean(x)[:, None], 0.0)[..., None]
        jacobian = np.where(seen, log_loss - y, 0.0).sum(axis=(1, 2))
        return tree, centred, jacobian

    log_weight = np.log(prior.weights)
    if seen.any():
        step = max(1, _CHUNK_CELLS // (n * s * s))
        for start in range(0, len(prior.names), step):
            part = np.arange(start, min(start + step, len(prior.names)))
            tree, centred, jacobian = conditioned(prior[part])
            fit = tree.quadratic(centred)[:, 0, 0] + tree.log_det()
            log_weight[part] += temper * (jacobian - 0.5 * fit)
    weights = np.exp(log_weight - log_weight.max())
    kept = weights >= NEGLIGIBLE * weights.sum()
    part = prior[kept]
    tree, centred, _ = conditioned(part)
    own, family, common = tree.factors(at)
    return Posterior(
        weights[kept] / weights[kept].sum(),
        part.floors(least),
        grid[at],
        tree.mean(centred)[:, :, at, 0] + part.mean(x)[:, None, at],
        own,
        family,
        common,
        families,
        part.noise(grid[at]),
    )
