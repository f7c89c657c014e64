import numpy as np
import pytest
from scipy import stats

from lensllm.selectors.line import LogLogLine

SIZES = np.array([200.0, 400, 800, 1600, 3200])
LOSSES = np.array([4.1, 3.7, 3.45, 3.05, 2.9])


def test_agrees_with_linregress():
    line = LogLogLine.fit(SIZES, LOSSES)
    oracle = stats.linregress(np.log(SIZES), np.log(LOSSES))
    assert line.slope == pytest.approx(oracle.slope, rel=1e-12)
    assert line.intercept == pytest.approx(oracle.intercept, rel=1e-12)
    residuals = np.log(LOSSES) - oracle.intercept - oracle.slope * np.log(SIZES)
    assert line.residual_std == pytest.approx(np.std(residuals), rel=1e-9)


def test_interval_covers_new_points_as_often_as_it_says():
    """80 % of fresh losses fall inside, over simulated lines with known noise."""
    rng = np.random.default_rng(0)
    x, new = np.log(SIZES), 51200.0
    hits = []
    for _ in range(3000):
        y = 2.0 - 0.2 * x + 0.02 * rng.standard_normal(len(x))
        low, high = LogLogLine.fit(SIZES, np.exp(y)).interval(new)
        truth = np.exp(2.0 - 0.2 * np.log(new) + 0.02 * rng.standard_normal())
        hits.append(low <= truth <= high)
    assert np.mean(hits) == pytest.approx(0.8, abs=0.025)


def test_draws_have_the_interval_as_their_quantiles():
    line = LogLogLine.fit(SIZES, LOSSES)
    forecast = line.forecast(12800.0, np.random.default_rng(1))
    low, high = np.exp(np.quantile(forecast.log_draws, [0.1, 0.9]))
    assert low == pytest.approx(forecast.lower80, rel=5e-3)
    assert high == pytest.approx(forecast.upper80, rel=5e-3)


def test_two_points_have_no_interval():
    forecast = LogLogLine.fit(SIZES[:2], LOSSES[:2]).forecast(800.0, np.random.default_rng(0))
    assert forecast.loss == pytest.approx(LOSSES[1] ** 2 / LOSSES[0])
    assert np.isnan(forecast.lower80)
    assert forecast.log_draws is None


def test_one_size_is_refused():
    with pytest.raises(ValueError, match="at least two sizes for a line, got 1"):
        LogLogLine.fit(np.array([200.0, 200.0]), np.array([3.0, 3.1]))
