import pytest

from lensllm.core.task import Budget, BudgetTooSmallError
from lensllm.selectors import SuccessiveHalving

SIZES = (200, 400, 800, 1600, 3200, 6400, 12800)
NAMES = "abcdefgh"


def loss(model, d):
    return (9.0 + NAMES.index(model)) * d**-0.2


def play(selector, task, make_curves, budget):
    seen, rounds = {m: {} for m in task.names}, []
    while trials := selector.ask(task, make_curves(seen), budget).trials:
        rounds.append([(t.model, t.n_samples) for t in trials])
        for t in trials:
            budget.charge(task.costs[t.model, t.n_samples])
            seen[t.model][t.n_samples] = loss(t.model, t.n_samples)
    return selector.rank(task, make_curves(seen)), rounds


def test_halves_the_field_and_ends_at_d_max(make_task, make_curves):
    task = make_task(NAMES, sizes=SIZES, full=51200)
    selection, rounds = play(SuccessiveHalving(), task, make_curves, Budget())
    assert rounds[0] == [(m, d) for m in NAMES for d in (800, 1600, 3200)]
    assert rounds[1:] == [[(m, 6400) for m in "abcd"], [(m, 12800) for m in "ab"]]
    assert [e.model for e in selection.ranking] == list(NAMES)
    assert selection.best.predicted_loss == pytest.approx(loss("a", 51200))


@pytest.mark.parametrize("flops", [30_000.0, 100_000.0, 300_000.0])
def test_never_spends_more_than_the_budget(make_task, make_curves, flops):
    budget = Budget(flops=flops)
    task = make_task(NAMES, sizes=SIZES, full=51200)
    _, rounds = play(SuccessiveHalving(), task, make_curves, budget)
    assert rounds
    assert budget.spent <= flops


def test_a_budget_too_small_says_what_it_would_take(make_task, make_curves):
    task = make_task(NAMES, sizes=SIZES, full=51200)  # two smallest sizes: 36 * 600 FLOPs
    with pytest.raises(BudgetTooSmallError, match=r"at least 2.16e\+04 FLOPs .* got 1e\+04"):
        SuccessiveHalving().ask(task, make_curves({}), Budget(flops=1e4))
    SuccessiveHalving().ask(task, make_curves({}), Budget(flops=36 * 600.0))
    with pytest.raises(
        BudgetTooSmallError,
        match=r"two sizes, which a line needs, with 0 < n_samples <= 200 .*, got 200: ",
    ):
        SuccessiveHalving().ask(task, make_curves({}), Budget(max_n_samples=200))


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="`eta` > 1, got 1"):
        SuccessiveHalving(eta=1.0)
