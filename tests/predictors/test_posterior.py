"""Against dense formulae of a multivariate normal distribution, and closed-form limits."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal

from lensllm.core.task import Candidate
from lensllm.predictors import LossTable, Points, posterior
from lensllm.predictors.posterior import Hints
from tests.predictors.conftest import prior_with

SIZES = (200, 400, 800, 1600)
FULL = 12800
GRID = [*SIZES, FULL]


@pytest.fixture
def table():
    """Five candidates of three families, with gaps, two runs of a point, and a known error."""
    rng = np.random.default_rng(0)
    rows = []
    for i, family in enumerate(("a", "a", "b", "b", "")):
        for k, n in enumerate(SIZES[: 2 + i % 3]):
            for seed in range(1 + (i == 1 and k == 0)):
                loss = 3.0 * 2 ** (-0.1 * k) * math.exp(0.2 * rng.standard_normal())
                rows.append((f"m{i}", n, seed, loss, family, 0.3 if (i, k) == (2, 1) else np.nan))
    columns = ["model", "n_samples", "seed", "test_loss", "family", "test_loss_se"]
    curves = pd.DataFrame(rows, columns=columns).assign(dataset="d")
    candidates = [Candidate(f"m{i}", 1.0, f) for i, f in enumerate(("a", "a", "b", "b", ""))]
    return LossTable.from_curves(candidates, curves)


def dense(prior, k, points, hints=None):
    """Log evidence, and mean and covariance of y at D_full, from the matrices of all points."""
    n, s = points.seen.shape
    common, family, own = (part[k] for part in prior.covariances(points.x))
    relatives = points.families[:, None] == points.families
    covariance = np.kron(np.ones((n, n)), common) + np.kron(relatives, family)
    covariance += np.kron(np.eye(n), own)
    mean = np.tile(prior.mean(points.x)[k], n)
    if hints is not None:
        effects = hints.effects.reshape(n * s, -1)
        covariance += effects @ hints.covariance @ effects.T
        mean = mean + effects @ hints.mean
    seen = np.flatnonzero(points.seen)
    floor = prior.floors(points.least)[k]
    log_loss = points.log_loss.ravel()[seen]
    y = np.log(np.exp(log_loss) - floor)
    noise = np.tile(prior.noise(points.grid)[k], n)[seen] / points.n_runs.ravel()[seen]
    known = points.error.ravel()[seen] * np.exp(log_loss - y)
    of_points = covariance[np.ix_(seen, seen)] + np.diag(np.maximum(noise, known**2))
    evidence = multivariate_normal(mean[seen], of_points).logpdf(y) + (log_loss - y).sum()
    end = np.arange(n) * s + s - 1
    gain = covariance[np.ix_(end, seen)] @ np.linalg.inv(of_points)
    left = covariance[np.ix_(end, end)] - gain @ covariance[np.ix_(seen, end)]
    return evidence, mean[end] + gain @ (y - mean[seen]), left


def hints_for(table):
    rng = np.random.default_rng(1)
    effects = 0.2 * rng.standard_normal((len(table.models), len(GRID), 2))
    return Hints(effects, np.array([0.5, 0.1]), np.array([[0.3, 0.1], [0.1, 0.2]]))


@pytest.mark.parametrize("hinted", [False, True])
def test_evidence_means_and_covariances_are_those_of_the_dense_formulae(prior, table, hinted):
    points = Points.of(table, GRID, 200.0)
    hints = hints_for(table) if hinted else None
    conditioned = points.condition(prior, hints)
    evidence = conditioned.log_evidence() - 0.5 * points.seen.sum() * math.log(2 * math.pi)
    mean, own, family, common = conditioned.curves(np.array([len(GRID) - 1]))
    relatives = points.families[:, None] == points.families
    for k in range(2):
        expected = dense(prior, k, points, hints)
        assert evidence[k] == pytest.approx(expected[0], abs=1e-6)
        np.testing.assert_allclose(mean[k, :, 0], expected[1], atol=1e-8)
        left = np.diag(own[k, :, 0, 0]) + common[k, :, 0] @ common[k, :, 0].T
        left += relatives * (family[k, :, 0] @ family[k, :, 0].T)
        np.testing.assert_allclose(left, expected[2], atol=1e-8)


def test_components_weigh_as_their_tempered_evidence(prior, table):
    points = Points.of(table, GRID, 200.0)
    evidence = points.log_evidence(prior)
    ratio = np.exp(0.5 * (evidence[0] - evidence[1]))
    weights = posterior(prior, points, GRID, temper=0.5).weights
    both = np.array([ratio, 1.0]) / (1.0 + ratio)
    np.testing.assert_allclose(weights, both[both >= 2e-3], rtol=5e-3)


def test_draws_have_the_moments_of_the_mixture(prior, table):
    beliefs = posterior(prior, Points.of(table, GRID, 200.0), GRID, temper=0.0)
    assert len(beliefs.weights) == 2
    curves, measured = beliefs.draws(40_000, 0)
    mean, covariance, noise = beliefs.moments(np.arange(5))
    np.testing.assert_allclose(curves.mean(axis=0), mean[:, -1], atol=0.02)
    np.testing.assert_allclose(np.cov(curves.T), covariance[:, -1, :, -1], atol=0.02)
    added = measured.var(axis=0) - curves.var(axis=0)
    np.testing.assert_allclose(added, noise[:, -1], atol=0.01)


def test_without_points_there_is_the_prior(prior):
    candidates = [Candidate("a"), Candidate("b")]
    columns = ["model", "dataset", "n_samples", "seed", "test_loss"]
    empty = LossTable.from_curves(candidates, pd.DataFrame(columns=columns))
    beliefs = posterior(prior, Points.of(empty, GRID, 200.0), GRID)
    np.testing.assert_allclose(beliefs.weights, prior.weights)
    np.testing.assert_allclose(beliefs.mean[0, 0], prior.mean(np.log2(np.array(GRID) / 100))[0])
    curves, _ = beliefs.draws(2000, 0)
    assert abs((curves.argmin(axis=1) == 0).mean() - 0.5) < 0.05


def test_a_hint_that_the_points_contradict_says_nothing():
    """Candidates whose order is the reverse of the hint's: the coefficient falls to about -1."""
    levels = np.linspace(-0.5, 0.5, 8)
    rows = [(f"m{i}", n, 2.0 * math.exp(a)) for i, a in enumerate(levels) for n in SIZES]
    curves = pd.DataFrame(rows, columns=["model", "n_samples", "test_loss"]).assign(seed=0)
    table = LossTable.from_curves([Candidate(f"m{i}") for i in range(8)], curves)
    points = Points.of(table, GRID, 200.0)
    effects = -np.repeat(levels[:, None], len(GRID), axis=1)[..., None]
    hints = Hints(effects, np.array([0.7]), np.array([[0.04]]))
    prior = prior_with({})
    alone = posterior(prior, points, GRID)
    given = posterior(prior, points, GRID, [(0.5, hints)], temper=1.0)
    assert given.weights[0] > 0.95
    np.testing.assert_allclose(given.expected, alone.expected, atol=0.02)


def test_a_hint_that_the_points_confirm_tells_of_candidates_with_few():
    levels = np.array([-0.4, -0.2, 0.0, 0.2, 0.4, 0.6, -0.6, 0.3])
    later = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5])
    rows = [(f"m{i}", n, 2.0 * math.exp(a)) for i, a in enumerate(levels) for n in SIZES]
    curves = pd.DataFrame(rows, columns=["model", "n_samples", "test_loss"]).assign(seed=0)
    table = LossTable.from_curves([Candidate(f"m{i}") for i in range(8)], curves)
    points = Points.of(table, GRID, 200.0)
    effects = np.repeat(levels[:, None], len(GRID), axis=1)
    effects[:, -1] += later
    hints = Hints(effects[..., None], np.array([0.7]), np.array([[0.04]]))
    alone = posterior(prior_with({}), points, GRID).expected[:, -1]
    given = posterior(prior_with({}), points, GRID, [(0.9, hints)]).expected[:, -1]
    assert given[7] < alone[7] - 0.2
    np.testing.assert_allclose(given[:7], alone[:7], atol=0.1)


def test_a_known_standard_error_is_a_lower_bound_of_the_noise(table):
    points = Points.of(table, GRID, 200.0)
    precision = points.condition(prior_with({"logit_floor": -40.0})).tree.precision[0]
    loss = math.exp(points.log_loss[2, 1])
    assert precision[2, 1] == pytest.approx((loss / 0.3) ** 2)
    assert precision[1, 0] == pytest.approx(2 * precision[0, 0])
