from dataclasses import replace

import numpy as np
import pytest

from lensllm.laws import LawPosterior, NoisePrior, RectifiedLaw, fit_law


@pytest.fixture
def posterior(sizes):
    rng = np.random.default_rng(0)
    losses = RectifiedLaw()(sizes[:8], [60.0, 0.5, 20.0, 1.0])
    losses = losses * np.exp(0.005 * rng.standard_normal(8))
    return fit_law(RectifiedLaw(), sizes[:8], losses).posterior


def test_samples_are_joint(posterior):
    draws = posterior.sample([4e5, 5e5], noise=False)
    assert draws.shape == (1000, 2)
    assert np.corrcoef(np.log(draws.T))[0, 1] > 0.99
    assert (draws[:, 1] < draws[:, 0]).all()


def test_samples_without_noise_are_the_laws_of_the_draws(posterior):
    expected = RectifiedLaw()([4e5], posterior.params)
    assert posterior.sample(4e5, noise=False) == pytest.approx(expected)


def test_noise_widens(posterior):
    quiet = posterior.interval(1000.0, 0.8, noise=False)
    noisy = posterior.interval(1000.0, 0.8)
    assert noisy[0] < quiet[0] < quiet[1] < noisy[1]


def test_number_of_draws_and_generator(posterior):
    first = posterior.sample(4e5, 50, np.random.default_rng(1))
    assert first.shape == (50, 1)
    assert np.array_equal(first, posterior.sample(4e5, 50, np.random.default_rng(1)))
    assert not np.array_equal(first, posterior.sample(4e5, 50, np.random.default_rng(2)))
    assert posterior.sample(4e5, 5000).shape == (5000, 1)


def test_mean_lies_between_the_quantiles(posterior):
    low, high = posterior.interval(4e5, 0.98, noise=False)
    assert low < posterior.mean(4e5) < high


def test_parameter_intervals_hold_the_truth(posterior):
    for name, truth in (("beta", 0.5), ("irreducible_loss", 1.0), ("transition_size", 400.0)):
        low, high = posterior.param_interval(name, 0.98)
        assert low < truth < high
    with pytest.raises(ValueError, match="got 'gamma'"):
        posterior.param_interval("gamma")


def test_data_for_a_target():
    z = np.tile([np.log(2.5), 0.6, 0.5, np.log(400.0)], (4, 1))
    z[3, 1] = 0.2  # this draw's irreducible loss is 2.0
    posterior = LawPosterior(RectifiedLaw(), z, np.full(4, 0.01), np.log(400.0), 4.0)
    middle, low, high = posterior.n_samples_for(1.5, 0.9)
    expected = RectifiedLaw().n_samples_for(1.5, posterior.params[0])
    assert middle == low == pytest.approx(float(expected))
    assert high == np.inf


def test_draws_that_are_worth_little_say_so(posterior):
    assert posterior.warnings == ()
    (said,) = replace(posterior, effective_size=12.3).warnings
    assert "worth 12 independent ones, fewer than 200: do not trust its intervals" in said


@pytest.mark.parametrize("level", [0.0, 1.0, 80.0])
def test_bad_level(posterior, level):
    with pytest.raises(ValueError, match=f"got {level:g}"):
        posterior.interval(1e5, level)


def test_bad_prior():
    with pytest.raises(ValueError, match="`scale` > 0, got 0"):
        NoisePrior(scale=0.0)
    with pytest.raises(ValueError, match="`degrees` > 0, got -1"):
        NoisePrior(degrees=-1.0)
