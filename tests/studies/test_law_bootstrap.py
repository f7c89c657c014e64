import numpy as np
import pytest
from scipy.stats import skew

from lensllm.laws import RectifiedLaw, fit_law
from lensllm.laws.simulation import simulate_curves
from lensllm.studies.laws.bootstrap import bootstrap, laplace

PARAMS = [60.0, 0.5, 20.0, 1.0]


@pytest.fixture
def sizes():
    return 200.0 * 2.0 ** np.arange(14)


@pytest.fixture
def fit(sizes):
    rng = np.random.default_rng(2)
    n = np.concatenate([sizes, sizes * 1.4])
    return fit_law(
        RectifiedLaw(), n, RectifiedLaw()(n, PARAMS) * np.exp(0.005 * rng.standard_normal(len(n)))
    )


def test_all_three_agree_where_data_are_plenty(fit):
    reference = fit.posterior.interval(3e6, 0.8, noise=False)
    width = np.log(reference[1] / reference[0])[0]
    for draws in (bootstrap(fit, 400), laplace(fit, 4000)):
        ends = draws.interval(3e6, 0.8, noise=False)
        assert np.log(ends[0] / reference[0])[0] == pytest.approx(0.0, abs=0.3 * width)
        assert np.log(ends[1] / reference[1])[0] == pytest.approx(0.0, abs=0.3 * width)


@pytest.mark.parametrize("method", [bootstrap, laplace])
def test_seeded(fit, method):
    first, again, other = (method(fit, 30, seed=seed).coordinates for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_resampled_residuals_keep_their_sign(sizes):
    """One loss far above the others: refitted levels err upwards, as the data may have."""
    rng = np.random.default_rng(0)
    losses = RectifiedLaw()(sizes, PARAMS) * np.exp(0.001 * rng.standard_normal(len(sizes)))
    losses[6] *= 1.2
    levels = bootstrap(fit_law(RectifiedLaw(), sizes, losses), 400).coordinates[:, 0]
    assert skew(levels) > 0.5


def test_draws_stay_in_the_box(sizes):
    _, losses = simulate_curves(1, sizes[:6], 0.03, seed=1)
    fit = fit_law(RectifiedLaw(), sizes[:6], losses[0])
    draws = laplace(fit, 500).coordinates
    assert (draws >= fit.batch.problem.lower[0]).all()
    assert (draws <= fit.batch.problem.upper[0]).all()


@pytest.mark.parametrize("method", [bootstrap, laplace])
def test_needs_residuals(sizes, method):
    fit = fit_law(RectifiedLaw(), sizes[:4], [3.0, 2.8, 2.5, 2.1])
    with pytest.raises(ValueError, match=r"more than 4 points .*got 4"):
        method(fit)
