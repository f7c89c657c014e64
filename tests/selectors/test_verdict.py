from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from lensllm.predictors import Posterior
from lensllm.reports.answer import answer_of
from lensllm.selectors.verdict import rank_posterior

SIZES = (200, 400, 3200)
NONE = pd.DataFrame({"model": [], "n_samples": []})  # no trials


def beliefs_of(means, spreads, settled=None):
    """Independent normal log losses at 200, 400 and D_full, without noise."""
    means, spreads = np.array(means, dtype=float), np.array(spreads, dtype=float)
    n = len(means)
    own = np.zeros((1, n, 3, 3))
    own[0] = (spreads**2)[:, None, None]
    return Posterior(
        np.ones(1),
        np.zeros(1),
        np.array(SIZES, dtype=float),
        np.repeat(means[None, :, None], 3, axis=2),
        own,
        np.zeros((1, n, 3, 1)),
        np.zeros((1, n, 3, 1)),
        np.arange(n),
        np.full((1, 3), 1e-6),
        np.full(n, np.nan) if settled is None else np.array(settled),
    )


def rank(make_task, means, spreads, tried=(), usable=None, test_error=None):
    names = "abcd"[: len(means)]
    task = make_task(names, sizes=SIZES[:2], full=SIZES[2])
    return task, rank_posterior(
        "demo", task, beliefs_of(means, spreads), usable or set(names), set(tried), 0, test_error
    )


def test_what_was_measured_at_full_size_is_no_longer_predicted(make_task):
    task = make_task("abc", sizes=SIZES[:2], full=SIZES[2])
    beliefs = beliefs_of([0.0, 0.5, 0.6], [0.1, 0.1, 0.1], [np.nan, -0.2, -0.21])
    found = rank_posterior("demo", task, beliefs, set("abc"), set(), 0)
    assert [entry.model for entry in found.ranking] == ["c", "b", "a"]
    first, second, third = found.ranking
    assert (first.predicted_loss, second.predicted_loss) == pytest.approx(np.exp([-0.21, -0.2]))
    assert first.lower80 == first.upper80 == pytest.approx(first.predicted_loss)
    assert third.predicted_loss == pytest.approx(1.0)
    assert (second.p_best, third.p_best) == (0.0, pytest.approx(norm.cdf(-2.1), abs=0.01))

    noisy = rank_posterior("demo", task, beliefs, set("abc"), set(), 0, np.eye(3) * 0.02**2)
    again = {entry.model: entry for entry in noisy.ranking}
    reached = -0.21 + 0.02 * norm.ppf([0.1, 0.9])
    assert (again["c"].lower80, again["c"].upper80) == pytest.approx(np.exp(reached), rel=2e-3)
    assert 0.3 < again["b"].p_best < again["c"].p_best  # they differ by half a standard error


def test_a_choice_that_is_sure_is_clear(make_task):
    _, selection = rank(make_task, [0.0, 0.5, 1.0], [0.1, 0.1, 0.1])
    assert selection.verdict.kind == "clear"
    assert selection.verdict.contenders == ("a",)
    assert selection.best.p_best == pytest.approx(1.0, abs=0.01)


def test_candidates_that_are_as_good_as_equal_are_too_close_to_call(make_task):
    _, selection = rank(make_task, [0.0, 0.001, 1.0], [0.005, 0.005, 0.005])
    assert selection.verdict.kind == "too_close_to_call"
    assert selection.verdict.contenders == ("a", "b")
    assert selection.verdict.expected_regret == pytest.approx(0.0024, abs=0.0008)


def test_candidates_that_may_differ_are_not_told_by_the_evidence(make_task):
    task, selection = rank(make_task, [0.0, 0.0, 0.0, 3.0], [0.3, 0.3, 0.3, 0.3])
    verdict = selection.verdict
    assert verdict.kind == "not_enough_evidence"
    assert set(verdict.contenders) == {"a", "b", "c"}
    assert verdict.p_contenders >= 0.9
    # All sizes tell the same here: the cheapest trial of the cheapest candidate is worth most.
    assert verdict.next_trial == ("a", 200)
    assert verdict.next_cost_fraction == pytest.approx(task.costs["a", 200] / task.full_cost)
    # E min(0, 0.3 z) = -0.3 / sqrt(2 pi)
    assert verdict.next_gain == pytest.approx(0.3 / np.sqrt(2 * np.pi), rel=0.1)


def test_no_trial_is_named_where_none_is_left(make_task):
    tried = [(name, n) for name in "abc" for n in SIZES[:2]]
    _, selection = rank(make_task, [0.0, 0.0, 0.0], [0.3, 0.3, 0.3], tried)
    assert selection.verdict.next_trial is None


def test_candidates_without_a_usable_point_are_last_and_have_no_chance(make_task):
    _, selection = rank(make_task, [0.0, 0.5, 1.0], [0.1, 0.1, 0.1], usable={"b", "c"})
    assert [entry.model for entry in selection.ranking] == ["b", "c", "a"]
    assert selection.ranking[-1].status == "no usable trial"
    assert sum(entry.p_best for entry in selection.ranking[:2]) == pytest.approx(1.0)


def test_a_probable_but_not_clear_choice_has_a_rival(make_task):
    _, selection = rank(make_task, [0.0, 0.225, 1.0], [0.1, 0.1, 0.1])
    assert 0.9 < selection.best.p_best < 0.95
    assert selection.verdict.kind == "too_close_to_call"
    assert selection.verdict.contenders == ("a", "b")
    assert selection.verdict.p_contenders > 0.99


def test_the_error_of_the_test_set_counts_as_far_as_candidates_do_not_share_it(make_task):
    """Against the closed form for two candidates: Phi(gap / standard deviation of the gap)."""
    shared, own = 0.3**2, 0.05**2
    error = np.full((3, 3), shared) + own * np.eye(3)
    usable = {"a", "c"}  # b is between them
    _, plain = rank(make_task, [0.0, 0.0, 0.1], [0.02] * 3, usable=usable)
    _, known = rank(make_task, [0.0, 0.0, 0.1], [0.02] * 3, usable=usable, test_error=error)
    apart = np.sqrt(2 * (0.02**2 + own))
    assert plain.verdict.kind == "clear"
    assert known.verdict.kind != "clear"
    assert known.best.p_best == pytest.approx(norm.cdf(0.1 / apart), abs=0.015)
    assert known.best.lower80 == plain.best.lower80
    _, common = rank(make_task, [0.0, 0.1], [0.02] * 2, test_error=np.full((2, 2), shared))
    assert common.best.p_best == pytest.approx(plain.best.p_best, abs=0.003)


@pytest.mark.parametrize("spread", [0.01, 0.03, 0.05, 0.1])
def test_trials_that_cannot_change_the_choice_are_worth_nothing(make_task, spread):
    """Rounding may make the values of the choice's own trials negative."""
    tried = [("b", n) for n in SIZES[:2]]
    _, selection = rank(make_task, [0.0, 20.0], [spread, spread], tried)
    assert selection.verdict.kind == "clear"
    assert 0.0 <= selection.verdict.next_gain < 1e-12


def test_equal_arms_of_one_model_are_no_close_call(make_task):
    """Two learning rates that are as good as equal, and another model that is far behind."""
    task = make_task("abc", sizes=SIZES[:2], full=SIZES[2])
    first, second, third = task.candidates
    arms = (replace(first, base_model="m"), replace(second, base_model="m"), third)
    beliefs = beliefs_of([0.0, 0.001, 1.0], [0.005, 0.005, 0.005])
    selection = rank_posterior("demo", replace(task, candidates=arms), beliefs, set("abc"), (), 0)
    verdict = selection.verdict
    assert (verdict.kind, verdict.contenders) == ("clear", ("m",))
    assert selection.best.p_best == pytest.approx(0.55, abs=0.05)
    # The regret is that of the choice between the arms, as without a third candidate.
    assert verdict.expected_regret == verdict.arm_regret == pytest.approx(0.0024, abs=0.0008)
    # Where the arms may differ by much, the verdict on the model stands, and the regret says so.
    beliefs = beliefs_of([0.0, 0.0, 3.0], [0.3, 0.3, 0.3])
    wide = rank_posterior("demo", replace(task, candidates=arms), beliefs, set("abc"), (), 0)
    assert wide.verdict.kind == "clear"
    assert wide.verdict.arm_regret == pytest.approx(0.3 / np.sqrt(np.pi), rel=0.15)
    assert "which settings of this model are best is open" in str(answer_of(wide, NONE))
    assert "m is the best of 2 models with probability 1.00" in str(answer_of(wide, NONE))


def test_contenders_are_models_whose_chances_add_up(make_task):
    task = make_task("abc", sizes=SIZES[:2], full=SIZES[2])
    first, second, third = task.candidates
    arms = (first, replace(second, base_model="m"), replace(third, base_model="m"))
    beliefs = beliefs_of([0.0, 0.0, 0.0], [0.3, 0.3, 0.3])
    verdict = rank_posterior(
        "demo", replace(task, candidates=arms), beliefs, set("abc"), (), 0
    ).verdict
    assert verdict.contenders == ("m", "a")
    assert verdict.p_contenders == pytest.approx(1.0)
    assert verdict.next_trial[0] in "abc"
