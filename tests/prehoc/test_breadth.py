import numpy as np
import pytest

from lensllm.prehoc.breadth import best_breadth, corrected_unit, expected_minimum
from lensllm.prehoc.law import RiskLaw
from lensllm.prehoc.probing import expected_maximum

LAW = RiskLaw(0.0, 0.1, 0.7)
COSTS = np.array([0.05, 0.1, 0.2, 0.4])
PRICES = np.tile([1.0, 2.0, 4.0], (6, 1))


def test_the_expected_minimum_equals_simulation_and_the_closed_form():
    means = np.array([2.0, 2.1, 2.4])
    z = np.random.default_rng(0).normal(size=(200_000, 3))
    for spread, cap in ((0.3, np.inf), (0.3, 2.05), (0.01, 1.5)):
        simulated = np.minimum((means + spread * z).min(1), cap).mean()
        found = expected_minimum(means, np.array([spread]), cap)
        assert found == pytest.approx(simulated, abs=0.002)
    equal = expected_minimum(np.zeros(5), np.array([0.0, 2.0]))
    np.testing.assert_allclose(equal, [0.0, -2 * expected_maximum(5)], atol=1e-8)


def test_what_moves_more_than_the_law_says_makes_the_unit_larger():
    rng = np.random.default_rng(0)
    fall = float(LAW.reducible(COSTS[0]) - LAW.reducible(COSTS[2]))
    for factor in (0.25, 1.0, 4.0):
        moves = rng.normal(0.0, (factor * fall) ** 0.5, 400)
        losses = np.stack([np.zeros(400), np.full(400, 7.0), 5 - moves], axis=1)
        unit, degrees = corrected_unit(LAW, COSTS[[0, 2, 2]], losses[:, [0, 1, 2]], 1.0, 2.0)
        assert degrees == 401
        assert unit == pytest.approx(factor, rel=0.2)
    assert corrected_unit(LAW, COSTS[:1], losses[:, :1], 0.3, 2.0) == (0.3, 2.0)


def test_equal_candidates_all_go_on_and_far_ones_do_not():
    def kept(losses, left=12.0, degrees=4.0):
        return best_breadth(
            LAW, COSTS, np.array(losses), np.inf, PRICES[: len(losses)], left, 0.01, degrees
        ).n_kept

    assert kept([2.0] * 6) == 6
    assert kept([2.0, 2.01, 2.02, 9.0, 9.0, 9.0]) == 3
    assert kept([2.0, 8.0, 9.0]) == 2
    assert kept([2.0, 2.1, 2.2], left=21.0) == 3  # the budget takes all to the end
    assert kept([2.0, 2.1, 9.0], left=21.0) == 2  # but the third is not worth that
    middling = [2.0, 2.01, 2.02, 2.13, 2.13, 2.13]
    assert kept(middling, degrees=1.0) >= kept(middling, degrees=100.0)


def test_the_depth_is_what_the_budget_pays():
    plan = best_breadth(LAW, COSTS, np.full(2, 2.0), np.inf, PRICES[:2], 6.0, 0.01, 4.0)
    assert (plan.n_kept, plan.depth) == (2, pytest.approx(0.2))
    plan = best_breadth(LAW, COSTS, np.full(2, 2.0), np.inf, PRICES[:2], 10.0, 0.01, 4.0)
    assert plan.depth == pytest.approx(0.3)
