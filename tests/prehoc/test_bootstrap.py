import numpy as np
import pytest
from scipy.stats import chi2

from lensllm.prehoc.bootstrap import MAX_DEVIATION, cluster_draws


def test_limits_are_those_of_a_mean_of_chi_squares():
    n, found = 60, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values = rng.chisquare(1, (n, 1))
        limits = np.quantile(cluster_draws(values, np.arange(n), 400, rng), [0.05, 0.95])
        found.append(np.log(limits / values.mean()))
    exact = np.log(n / chi2.ppf([0.95, 0.05], n))  # of σ², where n s² / σ² is chi-square
    np.testing.assert_allclose(np.mean(found, axis=0), exact, atol=0.03)


def test_a_draw_by_hand():
    rng = np.random.default_rng(0)
    values, clusters = rng.chisquare(1, (7, 2)), np.array([0, 0, 0, 1, 1, 2, 3])
    counts = np.random.default_rng(1).multinomial(4, np.full(4, 0.25), size=1)[0]

    def log_mean(rows):  # of clusters: mean, and standard error by the residuals of a ratio
        parts = [values[clusters == i] for i in rows]
        n, mean = sum(map(len, parts)), np.concatenate(parts).mean(0)
        residuals = [part.sum(0) - len(part) * mean for part in parts]
        return np.log(mean), np.sqrt(np.square(residuals).sum(0)) / n / mean

    middle, error = log_mean(range(4))
    there, error_there = log_mean(np.repeat(np.arange(4), counts))
    by_hand = np.exp(middle - error * (there - middle) / error_there)
    drawn = cluster_draws(values, clusters, 1, np.random.default_rng(1))[0]
    np.testing.assert_allclose(drawn, by_hand)


def test_clusters_are_resampled_whole():
    values = np.random.default_rng(0).chisquare(1, (8, 3))
    once, thrice = (
        cluster_draws(np.repeat(values, k, axis=0), np.repeat(np.arange(8), k), 200, rng)
        for k, rng in ((1, np.random.default_rng(1)), (3, np.random.default_rng(1)))
    )
    np.testing.assert_allclose(once, thrice)


def test_alike_clusters_and_columns_of_nothing():
    values = np.array([[1.0, 0.0, 2.0], [1.0, 0.0, 3.0], [5.0, 0.0, 4.0], [1.0, 0.0, 5.0]])
    drawn = cluster_draws(values, np.arange(4), 500, np.random.default_rng(0))
    assert np.isfinite(drawn).all()
    np.testing.assert_array_equal(drawn[:, 1], 0.0)
    assert drawn[:, 0].max() == pytest.approx(2 * np.exp(MAX_DEVIATION * np.sqrt(12 / 64)))
