"""Values of measurements against closed forms and simulations."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from lensllm.selectors.value import Outlook, Plan


def outlook_of(n_models, n_sizes, seed, noise=0.01):
    rng = np.random.default_rng(seed)
    size = n_models * n_sizes
    root = rng.standard_normal((size, size)) / math.sqrt(size)
    covariance = (root @ root.T).reshape(n_models, n_sizes, n_models, n_sizes)
    mean = 0.3 * rng.standard_normal((n_models, n_sizes))
    return Outlook(mean, covariance, np.full((n_models, n_sizes), noise))


def normal(n, width, seed):
    half = np.random.default_rng(seed).standard_normal((n // 2, width))
    return np.concatenate([half, -half])


def condition(outlook, cells, values):
    """Mean and covariance of everything after measurements, by the dense formula."""
    n, t = outlook.mean.shape
    flat = outlook.covariance.reshape(n * t, n * t)
    at = [i * t + s for i, s in cells]
    own = flat[np.ix_(at, at)] + np.diag([outlook.noise[cell] for cell in cells])
    gain = flat[:, at] @ np.linalg.inv(own)
    moved = outlook.mean.ravel() + gain @ (values - outlook.mean.ravel()[at])
    return moved.reshape(n, t), (flat - gain @ flat[at]).reshape(n, t, n, t)


def test_what_still_runs_is_believed_to_end_as_expected():
    outlook = outlook_of(4, 3, 5)
    cells = [(0, 0), (2, 1)]
    believed = outlook.believing(cells)
    expected = np.array([outlook.mean[cell] for cell in cells])
    mean, covariance = condition(outlook, cells, expected)
    np.testing.assert_allclose(believed.mean, mean, atol=1e-12)
    np.testing.assert_allclose(believed.covariance, covariance, atol=1e-9)
    assert outlook.believing([]) is outlook
    # The same trial once more has next to nothing left to say.
    news = normal(2_000, 1, 1)
    again = believed.value([(0, 0)], news).mean()
    assert 0.0 <= again < 0.1 * outlook.value([(0, 0)], news).mean()


def test_one_trial_of_two_candidates_has_the_value_of_the_closed_form():
    """Normal loss: the difference d moves by s: value = s phi(d / s) - |d| Phi(-|d| / s)."""
    outlook = outlook_of(2, 3, 0)
    news = normal(200_000, 1, 1)
    value = outlook.value([(1, 0)], news).mean()
    end = outlook.covariance[:, -1, 1, 0]
    s = abs(end[1] - end[0]) / math.sqrt(outlook.covariance[1, 0, 1, 0] + 0.01)
    d = abs(outlook.mean[1, -1] - outlook.mean[0, -1])
    assert value == pytest.approx(s * norm.pdf(d / s) - d * norm.cdf(-d / s), rel=0.02)


def test_a_set_of_trials_has_the_value_of_a_simulation():
    outlook = outlook_of(4, 3, 2)
    cells = [(0, 0), (1, 1), (3, 0)]
    value = outlook.value(cells, normal(100_000, 3, 3)).mean()
    rng = np.random.default_rng(4)
    at = [i * 3 + s for i, s in cells]
    flat = outlook.covariance.reshape(12, 12)
    own = flat[np.ix_(at, at)] + 0.01 * np.eye(3)
    seen = rng.multivariate_normal(outlook.mean.ravel()[at], own, size=4000)
    smallest = [condition(outlook, cells, y)[0][:, -1].min() for y in seen]
    assert value == pytest.approx(outlook.mean[:, -1].min() - np.mean(smallest), abs=0.02)


def test_two_rounds_have_the_value_of_a_simulation():
    outlook = outlook_of(4, 4, 5)
    cells, size, count = [(i, 0) for i in range(4)], 2, 2
    value = outlook.value_of_two(
        cells, size, count, normal(40_000, 4, 6), normal(40_000, 4, 7)
    ).mean()
    rng = np.random.default_rng(8)
    flat = outlook.covariance.reshape(16, 16)
    at = [i * 4 for i in range(4)]
    own = flat[np.ix_(at, at)] + 0.01 * np.eye(4)
    smallest = []
    for y in rng.multivariate_normal(outlook.mean.ravel()[at], own, size=4000):
        mean, covariance = condition(outlook, cells, y)
        left = np.sqrt(np.diagonal(covariance[:, -1, :, -1]))
        chosen = np.argsort(mean[:, -1] - left)[:count]
        after = Outlook(mean, covariance, outlook.noise)
        second = [(int(i), size) for i in chosen]
        where = [i * 4 + size for i in chosen]
        spread = covariance.reshape(16, 16)[np.ix_(where, where)] + 0.01 * np.eye(count)
        z = rng.multivariate_normal(mean.ravel()[where], spread)
        smallest.append(condition(after, second, z)[0][:, -1].min())
    assert value == pytest.approx(outlook.mean[:, -1].min() - np.mean(smallest), abs=0.02)


def test_where_nothing_can_be_learned_no_plan_claims_to_be_worth_anything():
    """Measurements that are independent of the losses at D_full, sixty times."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        covariance = np.zeros((6, 4, 6, 4))
        for s in range(4):
            covariance[:, s, :, s] = np.diag(rng.uniform(0.1, 1.0, 6))
        outlook = Outlook(rng.standard_normal((6, 4)), covariance, np.full((6, 4), 0.1))
        plan = outlook.best_plan(np.tile([1.0, 2.0, 4.0], (6, 1)), 20.0, seed)
        assert plan is not None
        assert plan.value == pytest.approx(0.0, abs=1e-12)


def test_the_value_of_the_best_plan_is_not_that_of_lucky_draws():
    """On average over seeds it is the plan's value by many draws: no winner's curse."""
    outlook = outlook_of(8, 4, 9)
    costs = np.tile([1.0, 2.0, 4.0], (8, 1))
    claimed, true = [], []
    for seed in range(30):
        plan = outlook.best_plan(costs, 3.0, seed)
        assert isinstance(plan, Plan)
        claimed.append(plan.value)
        news, later = normal(20_000, 8, 1000 + seed), normal(20_000, 8, 2000 + seed)
        if plan.count:
            falls = outlook.value_of_two(plan.cells, plan.size, plan.count, news, later)
        else:
            falls = outlook.value(plan.cells, news)
        true.append(falls.mean())
    assert np.mean(claimed) == pytest.approx(np.mean(true), rel=0.03)


def test_plans_keep_to_the_budget_and_use_what_is_open():
    outlook = outlook_of(5, 4, 10)
    costs = np.tile([1.0, 2.0, 4.0], (5, 1))
    costs[0] = math.inf
    for budget in (1.0, 3.0, 9.0):
        plan = outlook.best_plan(costs, budget, 0)
        assert plan is not None
        assert 0 < plan.cost <= budget
        assert all(i > 0 for i, _ in plan.cells)
    assert outlook.best_plan(costs, 0.5, 0) is None
    assert outlook.best_plan(np.full((5, 3), math.inf), 9.0, 0) is None


def test_first_rounds_can_be_given():
    outlook = outlook_of(3, 3, 11)
    rounds = [[(0, 0), (1, 0), (2, 1)], [(0, 1), (1, 1), (2, 1)]]
    plan = outlook.best_plan(np.tile([1.0, 2.0], (3, 1)), 4.5, 0, rounds=rounds)
    assert plan is not None
    assert list(plan.cells) == rounds[0]


def test_the_plain_rule_is_followed_where_its_choice_is_better():
    """Only the largest size that is affordable for all tells anything: sub-tuning's plan."""
    covariance = np.zeros((4, 3, 4, 3))
    for i in range(4):
        covariance[i, 1:, i, 1:] = 1.0
        covariance[i, 0, i, 0] = 1.0
    outlook = Outlook(np.zeros((4, 3)), covariance, np.full((4, 3), 0.01))
    plan = outlook.best_plan(np.tile([1.0, 2.0], (4, 1)), 8.0, 0)
    assert plan is not None
    assert plan.cells == tuple((i, 1) for i in range(4))
