from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import linregress

from lensllm.curvature.bound import BoundTerms, HessianDecay, fit_hessian_decay


def test_terms_by_hand():
    terms = BoundTerms(100, 1.5, (4.0, 9.0, 0.0), max_loss=16.0, epsilon=0.2)
    assert terms.empirical_term == pytest.approx(1.8)
    assert terms.hessian_term == pytest.approx(1.2 * 4 * (2 + 3) / 10)
    assert terms.rate_of_remainder == pytest.approx(100**-0.75)


def test_decay_recovers_a_power_and_agrees_with_linregress():
    sizes = np.array([200, 400, 800, 1600, 3200])
    exact = 5.0 * sizes**-0.3
    found = fit_hessian_decay(sizes, np.stack([exact, 0.1 * exact], axis=1), 8.0)
    assert (found.c2, found.beta2) == pytest.approx((5.0, 0.3))
    assert found.beta3 == pytest.approx(0.65)
    assert found.c3 == pytest.approx(math.sqrt(8 * 2 * 5))
    noisy = exact * np.exp(np.random.default_rng(0).normal(0, 0.2, 5))
    found = fit_hessian_decay(sizes, noisy[:, None], 8.0)
    oracle = linregress(np.log(sizes), np.log(noisy))
    assert found.beta2 == pytest.approx(-oracle.slope)
    assert found.beta2_error == pytest.approx(oracle.stderr)
    assert math.isnan(fit_hessian_decay(sizes[:2], noisy[:2, None], 8.0).beta2_error)


def test_decay_is_the_least_envelope_of_every_layer_and_size():
    sizes, rng = np.array([200, 800, 3200, 12800]), np.random.default_rng(1)
    for sign in (-1, 1):  # h that fall and h that grow
        terms = sizes[:, None] ** (sign * 0.4) * np.exp(rng.normal(0, 0.5, (4, 3)))
        found = fit_hessian_decay(sizes, terms, 1.0)
        slack = found.c2 * sizes[:, None] ** -found.beta2 / terms
        assert slack.min() == pytest.approx(1.0)


def test_decay_by_hand():
    """Log10 h = 0, 0, -2 at log10 n = 0, 1, 2: slope -1, line 10^(1/3), residual 2/3 at n = 10."""
    found = fit_hessian_decay([1, 10, 100], [[1.0, 0.5], [0.2, 1.0], [0.01, 0.01]], 3.0)
    assert (found.beta2, found.c2) == pytest.approx((1.0, 10.0))
    assert found.c3 == pytest.approx(math.sqrt(3 * 2 * 10))
    assert found.beta2_error == pytest.approx(math.sqrt(1 / 3))
    # two sizes: the line goes through both
    assert fit_hessian_decay([1, 100], [[4.0], [1.0]], 1.0).c2 == pytest.approx(4.0)


def test_transition_is_where_the_terms_cross():
    decay = HessianDecay(0.001, 0.2, 0.0, max_loss=1.0, n_layers=4)
    n = decay.transition_size()
    assert n > 1
    assert decay.c3 * n**-decay.beta3 == pytest.approx(n**-0.75)
    assert decay.c3 * (2 * n) ** -decay.beta3 > (2 * n) ** -0.75
    assert math.isnan(HessianDecay(5.0, 0.6, 0.0, 1.0, 4).transition_size())


def test_unusable_input_is_refused():
    with pytest.raises(ValueError, match="got 0"):
        BoundTerms(0, 1.0, (1.0,), 1.0)
    with pytest.raises(ValueError, match=r"got -0\.1"):
        BoundTerms(1, 1.0, (1.0,), 1.0, epsilon=-0.1)
    with pytest.raises(ValueError, match=r"got \(-1\.0,\)"):
        BoundTerms(1, 1.0, (-1.0,), 1.0)
    with pytest.raises(ValueError, match="and 1 sizes"):
        fit_hessian_decay([200, 200], [[1.0], [1.0]], 1.0)
    with pytest.raises(ValueError, match="got 0"):
        fit_hessian_decay([200, 400], [[1.0], [0.0]], 1.0)
