import math

import numpy as np
import pytest
from scipy.stats import norm

from lensllm.selection.adaptive_value import Beliefs
from lensllm.selection.draws import LossDraws


def beliefs(mean, covariance, noise=0.0, n_draws=20_000, models="ab", sizes=(200, 400), seed=0):
    """Gaussian draws of log losses, flattened by model and size."""
    rng = np.random.default_rng(seed)
    flat = rng.multivariate_normal(mean, covariance, size=n_draws, method="eigh")
    log_loss = flat.reshape(n_draws, len(models), len(sizes))
    noises = np.broadcast_to(np.asarray(noise, dtype=float), (len(models),)).copy()
    return Beliefs(LossDraws(tuple(models), sizes, log_loss, noises), seed)


def exact_fall(gap, sd):
    """Knowledge gradient of two candidates whose expected difference will move by N(0, sd²)."""
    return sd * norm.pdf(gap / sd) - gap * norm.cdf(-gap / sd)


# Small standard deviations, so that losses are as good as linear in log losses.
SD = 0.01
COVARIANCE = SD**2 * np.array(
    [[1.0, 0.8, 0.0, 0.0], [0.8, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.5], [0.0, 0.0, 0.5, 1.0]]
)
GAP = 0.005
MEAN = [0.1, 0.0, 0.1, GAP]


@pytest.mark.parametrize(("noise", "rho", "model"), [(0.0, 0.8, 0), (SD, 0.8, 0), (SD, 0.5, 1)])
def test_one_measurement_is_worth_its_closed_form(noise, rho, model):
    moves = rho * SD / math.sqrt(1 + (noise / SD) ** 2)
    found = beliefs(MEAN, COVARIANCE, noise).fall_in_regret([(model, 0)])
    assert found == pytest.approx(exact_fall(GAP, moves), rel=0.1, abs=5e-5)


def test_a_set_is_worth_its_closed_form_and_more_than_its_parts():
    both = beliefs(MEAN, COVARIANCE).fall_in_regret([(0, 0), (1, 0)])
    moves = SD * math.sqrt(0.8**2 + 0.5**2)
    assert both == pytest.approx(exact_fall(GAP, moves), rel=0.1)
    assert both > beliefs(MEAN, COVARIANCE).fall_in_regret([(0, 0)])


def test_what_moves_all_candidates_alike_is_worth_nothing():
    shared = SD**2 * np.ones((4, 4)) + 1e-12 * np.eye(4)
    found = beliefs(MEAN, shared, noise=1e-4).fall_in_regret([(0, 0)])
    assert found == pytest.approx(0.0, abs=1e-9)


def test_chance_correlations_are_not_knowledge():
    alone = SD**2 * np.eye(4)  # the first size says nothing about the last one
    falls = [
        beliefs(MEAN, alone, SD, n_draws=500, seed=seed).fall_in_regret([(0, 0), (1, 0)])
        for seed in range(40)
    ]
    assert np.mean(falls) < 2 * np.std(falls) / math.sqrt(len(falls))


def test_regret_of_choosing_now_and_probability_of_best():
    found = beliefs(MEAN, COVARIANCE)
    sd = SD * math.sqrt(2)
    assert found.choice == 0
    assert found.regret == pytest.approx(exact_fall(GAP, sd), rel=0.05)
    assert found.p_best[0] == pytest.approx(norm.cdf(GAP / sd), abs=0.01)
    assert found.p_best.sum() == pytest.approx(1.0)


def test_believing_the_mean_keeps_expectations_and_takes_uncertainty():
    before = beliefs(MEAN, COVARIANCE, SD)
    after = before.believing((0, 0), seed=1)
    np.testing.assert_allclose(after.curves.mean(0), before.curves.mean(0), atol=4 * SD / 100)
    spread = np.cov(after.curves.reshape(len(after.curves), -1).T)
    gain = COVARIANCE[:, 0] / (COVARIANCE[0, 0] + SD**2)
    expected = COVARIANCE - np.outer(gain, COVARIANCE[0])
    np.testing.assert_allclose(spread, expected, atol=0.05 * SD**2)
    assert after.fall_in_regret([(0, 0)]) < before.fall_in_regret([(0, 0)])
