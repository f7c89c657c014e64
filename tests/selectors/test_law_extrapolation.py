import numpy as np
import pytest

from lensllm.core.task import Budget, BudgetTooSmallError
from lensllm.laws import RectifiedLaw, VanillaLaw, fit_law
from lensllm.selectors import LawExtrapolation

SIZES = (0, 200, 400, 800, 1600, 3200, 6400)
PARAMS = {"a": [60.0, 0.5, 20.0, 1.0], "b": [80.0, 0.5, 40.0, 0.5], "c": [30.0, 0.3, 8.0, 1.5]}


@pytest.fixture
def task_and_curves(make_task, make_curves):
    rng = np.random.default_rng(0)
    task = make_task("abc", sizes=SIZES, full=51200)
    law = RectifiedLaw()
    noise = {m: np.exp(0.002 * rng.standard_normal(len(SIZES))) for m in PARAMS}
    losses = {
        m: dict(zip(SIZES, law(np.array(SIZES, float), p) * noise[m], strict=True))
        for m, p in PARAMS.items()
    }
    return task, make_curves(losses), losses


def test_recovers_rectified_curves(task_and_curves):
    task, curves, _ = task_and_curves
    selection = LawExtrapolation(RectifiedLaw()).rank(task, curves)
    truth = {m: RectifiedLaw()([51200.0], p)[0] for m, p in PARAMS.items()}
    assert selection.selector == "rectified_fit"
    assert [e.model for e in selection.ranking] == sorted(truth, key=truth.get)
    for entry in selection.ranking:
        assert entry.predicted_loss == pytest.approx(truth[entry.model], rel=0.1)
        assert entry.lower80 < entry.upper80
    assert sum(e.p_best for e in selection.ranking) == pytest.approx(1.0)
    assert selection.best.p_best > 0.5


def test_what_is_predicted_lies_in_its_interval_however_few_the_points(make_task, make_curves):
    """With as many points as parameters the best fit may lie anywhere; what is told may not."""
    losses = {"a": {200: 4.0, 400: 3.9, 800: 3.5, 1600: 3.45}, "b": {200: 3.0, 400: 2.99, 800: 2.5}}
    losses["b"] |= {1600: 2.49, 3200: 2.48}
    task = make_task("ab", sizes=SIZES, full=51200)
    ranking = LawExtrapolation(RectifiedLaw()).rank(task, make_curves(losses)).ranking
    for entry in ranking:
        assert entry.lower80 < entry.predicted_loss < entry.upper80 < entry.score


def test_score_is_that_of_single_fits_without_zero(task_and_curves):
    task, curves, losses = task_and_curves
    selection = LawExtrapolation(VanillaLaw()).rank(task, curves)
    positive = np.array(SIZES[1:], float)
    for entry in selection.ranking:
        fit = fit_law(VanillaLaw(), positive, [losses[entry.model][n] for n in SIZES[1:]])
        assert entry.score == pytest.approx(float(fit.predict(51200)), rel=1e-6)


def test_asks_for_zero_only_where_the_law_is_finite_there(make_task, make_curves):
    task = make_task("ab", sizes=SIZES, full=51200)
    budget = Budget(max_n_samples=1600)
    asked = LawExtrapolation(VanillaLaw()).ask(task, make_curves({}), budget).trials
    assert sorted({t.n_samples for t in asked}) == [200, 400, 800, 1600]
    asked = LawExtrapolation(RectifiedLaw()).ask(task, make_curves({}), budget).trials
    assert sorted({t.n_samples for t in asked}) == [0, 200, 400, 800, 1600]


def test_too_few_points_is_a_status(make_task, make_curves):
    curves = make_curves({"a": {200: 3.0, 400: 2.8}, "b": {200: 3.0}})
    ranking = LawExtrapolation(VanillaLaw()).rank(make_task("ab"), curves).ranking
    assert [e.status for e in ranking] == [
        "too few usable trials: 2 for a law",
        "too few usable trials: 1 for a law",
    ]
    empty = LawExtrapolation(VanillaLaw()).rank(make_task("ab"), make_curves({}))
    assert empty.best.status == "no usable trial"


def test_refuses_a_budget_for_fewer_sizes_than_parameters(make_task, make_curves):
    task = make_task("ab", sizes=SIZES, full=51200)
    few = Budget(max_n_samples=400)
    with pytest.raises(
        BudgetTooSmallError, match=r"4 sizes .* rectified law needs, with .*, got 200, 400: "
    ):
        LawExtrapolation(RectifiedLaw()).ask(task, make_curves({}), few)
    paid = sum(task.costs[m, n] for m in "ab" for n in (0, 200, 400))
    with pytest.raises(
        BudgetTooSmallError, match=r"needs, D up to 800; got .*, which pays for 3 \(D <= 400\)"
    ):
        LawExtrapolation(RectifiedLaw()).ask(task, make_curves({}), Budget(1.01 * paid))
