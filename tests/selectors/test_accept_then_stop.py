import math

import numpy as np
import pytest

from lensllm.core.task import Budget, BudgetTooSmallError
from lensllm.selectors import AcceptThenStop

SIZES = (200, 400, 800, 1600, 3200, 6400, 12800)


def loss(d, bend=0.0):
    """A power law, slightly rough so that residuals are not zero, and bent below D = 1600."""
    rough = 1e-3 * math.sin(7.0 * math.log(d))
    return 8.0 * d**-0.2 * math.exp(rough - (bend if d < 1600 else 0.0))


def test_walk_stops_where_the_curve_bends():
    seen = {d: loss(d, bend=0.3) for d in SIZES}
    step = AcceptThenStop().walk(SIZES, seen)
    assert step.accepted == (12800, 6400, 3200, 1600)
    assert step.note == "stopped at D = 800"


def test_smallest_size_never_enters_a_walk():
    step = AcceptThenStop(delta=100.0).walk(SIZES, {d: loss(d) for d in SIZES})
    assert step.accepted == tuple(reversed(SIZES[1:]))


def test_k_sizes_or_fewer_are_all_used():
    assert AcceptThenStop().walk(SIZES[:3], {d: loss(d) for d in SIZES[:3]}).accepted == (
        800,
        400,
        200,
    )


def test_a_diverged_trial_is_passed_over():
    seen = {d: loss(d) for d in SIZES} | {6400: math.nan}
    assert 6400 not in AcceptThenStop().walk(SIZES, seen).accepted


def test_asks_for_k_then_walks_down(make_task, make_curves):
    task = make_task("ab", sizes=(0, *SIZES), full=102400)
    seen, asked = {"a": {}, "b": {}}, []
    while trials := AcceptThenStop().ask(task, make_curves(seen), Budget()).trials:
        asked.append([(t.model, t.n_samples) for t in trials])
        for trial in trials:
            bend = 0.3 if trial.model == "a" else 0.0
            seen[trial.model][trial.n_samples] = loss(trial.n_samples, bend)
    assert asked[0] == [(m, d) for m in "ab" for d in (3200, 6400, 12800)]
    assert asked[1] == [("a", 1600), ("b", 1600)]
    assert asked[2] == [("a", 800), ("b", 800)]  # a's point is tested, and rejected
    assert all(model == "b" for batch in asked[3:] for model, _ in batch)
    assert 200 not in seen["b"]
    ranked = AcceptThenStop().rank(task, make_curves(seen))
    full = {m: {d: loss(d, 0.3 if m == "a" else 0.0) for d in SIZES} for m in "ab"}
    given = AcceptThenStop().rank(task, make_curves(full))
    assert [e.score for e in ranked.ranking] == [e.score for e in given.ranking]


def test_budget_sets_d_max_so_that_the_longest_walk_is_paid_for(make_task, make_curves):
    task = make_task("ab", sizes=SIZES, full=102400)
    budget = Budget(flops=3.0 * sum(SIZES[:4]))  # a trial of both costs 3 D
    trials = AcceptThenStop().ask(task, make_curves({}), budget).trials
    assert {t.n_samples for t in trials} == {400, 800, 1600}
    with pytest.raises(BudgetTooSmallError, match="n_samples = 200; got 10"):
        AcceptThenStop().ask(task, make_curves({}), Budget(flops=10))


def test_interval_and_probability_of_best(make_task, make_curves):
    task = make_task("ab", sizes=SIZES, full=102400)
    curves = make_curves({"a": {d: loss(d) for d in SIZES}, "b": {d: 1.5 * loss(d) for d in SIZES}})
    best = AcceptThenStop().rank(task, curves).best
    assert best.model == "a"
    assert best.lower80 < best.predicted_loss < best.upper80
    assert best.predicted_loss == pytest.approx(8.0 * 102400**-0.2, rel=0.01)
    assert best.p_best > 0.95
    assert best == AcceptThenStop().rank(task, curves).best


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [({"k": 2}, "`k` >= 3, got 2"), ({"delta": 0.0}, "`delta` > 0, got 0")],
)
def test_bad_settings_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AcceptThenStop(**kwargs)


def test_one_point_is_not_extrapolated(make_task, make_curves):
    ranking = AcceptThenStop().rank(make_task("ab"), make_curves({"a": {800: 2.0}})).ranking
    assert ranking[0].status == "1 usable trials at D > 0, a line needs 2"
    assert np.isnan(ranking[0].score)
