import numpy as np
import pytest
from scipy.optimize import minimize

from lensllm.prehoc.law import RiskLaw, fit_risk_law, fit_shape
from lensllm.prehoc.process import SyntheticProcess

COSTS = np.geomspace(0.01, 1.0, 12)
TRUE = {"intrinsic": 0.02, "scale": 0.01, "decay": 0.6}


def test_recovers_a_clean_curve():
    risks = (0.02 + 0.01 * COSTS**-0.6)[None]
    (found,), (loss,) = fit_shape(COSTS, risks)
    np.testing.assert_allclose(found, [0.02, 0.01, 0.6], rtol=0.06)  # the grid's step is 2 %
    assert loss < 1e-4


def test_agrees_with_a_general_optimiser_on_a_noisy_curve():
    rng = np.random.default_rng(0)
    risks = (0.02 + 0.01 * COSTS**-0.6) * rng.normal(1, 0.15, len(COSTS))
    (found,), _ = fit_shape(COSTS, risks[None])
    weights = 1 / (found[0] + found[1] * COSTS ** -found[2]) ** 2

    def loss(p):
        return float((weights * (risks - p[0] - p[1] * COSTS ** -p[2]) ** 2).sum())

    starts = [(0.01, 0.01, 0.3), (0.03, 0.005, 1.0)]
    bounds = [(0, 1), (0, 1), (0.05, 5)]
    best = min(minimize(loss, s, bounds=bounds, method="L-BFGS-B").fun for s in starts)
    assert loss(found) <= best * 1.01


def test_parts_are_never_negative():
    rising = (0.01 + 0.01 * COSTS)[None]
    (found,), _ = fit_shape(COSTS, rising)
    assert found[1] == 0
    steep = (1e-4 * COSTS**-1.5)[None]
    (found,), _ = fit_shape(COSTS, steep)
    assert found[0] == pytest.approx(0.0, abs=2e-5)


def test_a_law_and_its_marginal():
    law = RiskLaw(**TRUE, static_risk=0.1)
    assert float(law(0.25)) == pytest.approx(0.02 + 0.01 * 0.25**-0.6)
    assert float(law(1e-6)) == pytest.approx(0.1)  # never more than R(0)
    step = 1e-6
    slope = (law(0.25 - step) - law(0.25 + step)) / (2 * step)
    assert float(law.marginal(0.25)) == pytest.approx(float(slope), rel=1e-6)
    with pytest.raises(ValueError, match="Expected a fitted law for an interval of 'decay'"):
        law.interval("decay")
    with pytest.raises(ValueError, match="got 'beta'"):
        law.interval("beta")


def coverage(n_runs, process, n_repetitions=200):
    true = process.law
    hits = np.zeros(3)
    for r in range(n_repetitions):
        runs = process.draw(COSTS, n_runs, 1, np.random.default_rng(r))
        errors = (runs.probes - runs.outcomes[:, None]) ** 2
        law = fit_risk_law(COSTS, errors, runs.models, seed=r)
        bounds = [law.interval(name) for name in TRUE]
        hits += [
            low <= getattr(true, name) <= high
            for name, (low, high) in zip(TRUE, bounds, strict=True)
        ]
    return hits / n_repetitions


@pytest.mark.parametrize(
    "n_runs", [24, 200, *(pytest.param(n, marks=pytest.mark.slow) for n in (72, 1000))]
)
def test_intervals_cover_the_truth_as_often_as_they_say(n_runs):
    shares = coverage(n_runs, SyntheticProcess())
    np.testing.assert_allclose(shares, 0.9, atol=2 * (0.9 * 0.1 / 200) ** 0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [{"intrinsic": 0.005}, {"intrinsic": 0.05}, {"decay": 0.3}, {"scale": 0.003}],
)
def test_intervals_cover_the_truth_of_other_processes(change):
    shares = coverage(24, SyntheticProcess(**change))
    np.testing.assert_allclose(shares, 0.9, atol=3 * (0.9 * 0.1 / 200) ** 0.5)
