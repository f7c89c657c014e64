import math

import numpy as np
import pytest

from lensllm.core.data_needs import Range, data_needs_of, data_sizes

SIZES = data_sizes(100, 1600)


def needs(exponents, **options):
    """The answers of curves 10 D^-a, which need 10^(1/a) samples for a loss of 1."""
    exponents = np.asarray(exponents, dtype=float)[:, None]
    curves = 10.0 * SIZES**-exponents
    return data_needs_of("a", 1600, SIZES, curves, curves, **options)


def test_sizes_are_half_doublings_about_the_full_size():
    assert SIZES[0] == 100
    assert SIZES[-1] == 8 * 1600
    assert {1600.0, 3200.0} <= set(SIZES)
    assert np.diff(np.log2(SIZES)) == pytest.approx(0.5, abs=0.01)
    assert data_sizes(1600, 1600)[0] == 1600


def test_twice_the_data_is_read_off_the_curves():
    found = needs([0.3])
    assert found.twice_loss.middle == pytest.approx(10 * 3200**-0.3)
    assert found.twice_gain.lower80 == pytest.approx(10 * (1600**-0.3 - 3200**-0.3))
    assert found.n_for_target is None
    assert found.n_enough is None


def test_the_size_for_a_loss_has_an_interval_that_may_be_open():
    found = needs(np.linspace(0.25, 0.35, 101), target_loss=1.0).n_for_target
    assert found.middle == pytest.approx(10 ** (1 / 0.3), rel=0.02)
    assert found.lower80 == pytest.approx(10 ** (1 / 0.34), rel=0.02)
    assert found.upper80 == pytest.approx(10 ** (1 / 0.26), rel=0.02)
    assert needs([0.3], target_loss=0.2).n_for_target == Range(math.inf, math.inf, math.inf)
    assert needs([0.3], target_loss=9.0).n_for_target.middle == SIZES[0]


def test_enough_is_where_doublings_bring_less_than_the_standard_error():
    gain = 1 - 2**-0.3
    # 10 D^-0.3 (1 - 2^-0.3) = 0.2
    exact = (10 * gain / 0.2) ** (1 / 0.3)
    found = needs([0.3], standard_error=0.2).n_enough.middle
    assert exact <= found <= exact * 2**0.5
    assert needs([0.3], standard_error=1e-6).n_enough.middle == math.inf
    assert needs([0.3], standard_error=9.0).n_enough.middle == SIZES[0]
